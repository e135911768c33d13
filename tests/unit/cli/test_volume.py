"""A bug in the engine or the healer must not end a mount: what was written can still be read, and status says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

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
    moment = trio.Event()

    async def breaks(self: Engine) -> None:
        await moment.wait()
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Engine, "_sample_loop", breaks)
    async with open_volume(read_pool(here / "drives"), clock=SystemClock(), tell=silent) as volume:
        tree = VolumeTree(volume.fs)
        async with volume.engine.commit_lock:  # so that a sync has to wait
            await tree.write("/file", pieces(), 0o644, None)  # type: ignore[arg-type]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_nothing, tree)
                await trio.testing.wait_all_tasks_blocked(0.05)
                moment.set()
        assert [piece async for piece in tree.read("/file")] == [b"hello"]
        with pytest.raises(StalledError, match="internal error in the commit engine"):
            await tree.mkdir("/no", 0o755)
        status = await Service(volume.served()).call(Request(1, "status"), lambda value: None)
        assert status["state"] == "failed"
    assert not volume.clean


async def wait_for_nothing(tree: VolumeTree) -> None:
    with trio.fail_after(20), pytest.raises(StalledError):
        await tree.sync()
