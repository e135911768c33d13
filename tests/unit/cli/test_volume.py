"""A bug in the engine or the healer must not end a mount: what was written can still be read, and status says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from ecfs.clock import SystemClock
from ecfs.commit.engine import Engine
from ecfs.control.protocol import Request
from ecfs.control.service import Service
from ecfs.errors import StalledError
from ecfs.heal.healer import Healer
from ecfs.mount.locate import read_pool
from ecfs.mount.tree import VolumeTree
from ecfs.mount.volume import open_volume


async def _breaks(self: object, *args: object, **kwargs: object) -> None:
    await trio.sleep(0.05)
    raise ZeroDivisionError("a bug")


async def pieces() -> object:
    yield b"hello"


def silent(text: str) -> None:
    """Nobody waits."""


async def test_a_bug_in_healing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Healer, "run", _breaks)
    async with open_volume(read_pool(here / "drives"), clock=SystemClock(), tell=silent) as volume:
        await trio.sleep(0.2)
        tree = VolumeTree(volume.fs)
        await tree.write("/file", pieces(), 0o644, None)  # type: ignore[arg-type]
        await tree.sync()
    assert volume.clean


async def test_a_bug_in_the_engine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "_sample_loop", _breaks)
    async with open_volume(read_pool(here / "drives"), clock=SystemClock(), tell=silent) as volume:
        tree = VolumeTree(volume.fs)
        await tree.write("/file", pieces(), 0o644, None)  # type: ignore[arg-type]
        volume.engine.committed -= 100  # a sync that waits for ever
        with trio.fail_after(5), pytest.raises(StalledError):
            await tree.sync()
        assert [piece async for piece in tree.read("/file")] == [b"hello"]
        with pytest.raises(StalledError, match="internal error in the commit engine"):
            await tree.mkdir("/no", 0o755)
        with trio.fail_after(5), pytest.raises(StalledError):
            await tree.sync()
        status = await Service(volume.served()).call(Request(1, "status"), lambda value: None)
        assert status["state"] == "failed"
    assert not volume.clean
