"""A bug in the engine or the healer must not end a mount: what was written can still be read, and status says so."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from ecfs.cli import main
from ecfs.clock import SystemClock
from ecfs.commit.committer import Commit, Committer
from ecfs.commit.engine import Engine
from ecfs.control.protocol import Request
from ecfs.control.runtime import OPENING, Mounted, Registration
from ecfs.control.service import Service
from ecfs.errors import EcfsError, StalledError
from ecfs.heal.healer import Healer
from ecfs.heal.watch import Watch
from ecfs.mount.locate import read_pool
from ecfs.mount.options import MountOptions
from ecfs.mount.serving import Daemon, Plan
from ecfs.mount.tree import VolumeTree
from ecfs.mount.volume import Volume, open_volume


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


async def test_healing_is_begun_again_after_a_bug(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no drive that returns would be taken in, and nothing be repaired, up to the next mount."""
    works = Watch.run
    monkeypatch.setattr("ecfs.mount.volume.AGAIN_S", 0.05)
    monkeypatch.setattr(Watch, "run", _breaks)
    async with open_volume(read_pool(here / "drives"), clock=SystemClock(), tell=silent) as volume:
        await trio.sleep(0.2)
        monkeypatch.setattr(Watch, "run", works)
        assert any(event.kind == "healing" and "a bug" in event.text for event in volume.pool.members.events)
        (here / "drives" / "d2").rename(here / "away")
        with trio.fail_after(30):
            while volume.pool.members[2].up:
                await trio.sleep(0.05)
        (here / "away").rename(here / "drives" / "d2")
        with trio.fail_after(30):
            while volume.pool.members[2].state != "online":
                await trio.sleep(0.05)


async def test_a_bug_in_looking_for_risks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(urls: object, m: int) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("ecfs.mount.volume.risks_of", fails)
    with trio.fail_after(20):
        async with open_volume(read_pool(here / "drives"), clock=SystemClock(), tell=silent) as volume:
            await trio.sleep(0.2)
            await store(volume)
    assert volume.clean


async def store(volume: Volume) -> None:
    """Write a file, without a sync."""
    await VolumeTree(volume.fs).write("/file", pieces(), 0o644, None)  # type: ignore[arg-type]


@pytest.mark.timeout(60)  # what hangs then is shielded
@pytest.mark.parametrize("how", ["cancelled", "a task beside it fails"])
async def test_whatever_ends_it_what_was_written_is_stored_first(here: Path, how: str) -> None:
    """The engine was cancelled with the rest: the last commit waited for it for ever, and a kill lost the data."""
    opened = open_volume(read_pool(here / "drives"), clock=SystemClock(), tell=silent)
    with trio.fail_after(20), suppress(ExceptionGroup):
        async with trio.open_nursery() as nursery, opened as volume:
            await store(volume)
            if how == "cancelled":
                nursery.cancel_scope.cancel()
            else:
                nursery.start_soon(_breaks, None)
            await trio.sleep_forever()
    assert volume.clean
    async with open_volume(read_pool(here / "drives"), clock=SystemClock(), tell=silent) as volume:
        assert [piece async for piece in VolumeTree(volume.fs).read("/file")] == [b"hello"]


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


async def test_a_folder_that_answers_with_an_error_is_told_of_all_the_same(here: Path) -> None:
    """Or somebody unmounts it at this moment: that ended the mount with an error, while the command waited."""
    file, told = read_pool(here / "drives"), trio.Event()
    point = str(here / "gone")
    registration = Registration(Mounted(file.pool_id, str(file.path), point, os.getpid(), OPENING))
    async with open_volume(file, clock=SystemClock(), tell=silent) as volume:
        plan = Plan(file, point, MountOptions(), SystemClock(), create=False, say=silent, ready=told.set)
        await Daemon(plan, file, registration)._announce(volume)
    registration.release()
    assert told.is_set()


async def test_a_system_without_threads_for_a_while(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs of the user may have them all: the RuntimeError ended the engine for good, and each call that met
    it took one of the eight that a drive works on at a time."""

    def refuses(*anything: object) -> None:
        raise RuntimeError("can't start new thread")

    async with open_volume(read_pool(here / "drives"), clock=SystemClock(), tell=silent) as volume:
        with monkeypatch.context() as full:
            full.setattr(trio.lowlevel, "start_thread_soon", refuses)
            await store(volume)
            with pytest.raises(EcfsError, match="drives can be written"):
                await volume.fs.sync()
            await trio.sleep(12)
        with trio.fail_after(60):
            while any(member.state != "online" for member in volume.pool.members):
                await trio.sleep(0.05)
            await volume.fs.sync()
    assert volume.clean


def test_ctrl_c_in_the_middle_of_a_commit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come while any task runs: in the engine's it ended that, and the last commit waited for ever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell began with &
    really_freeze = Committer.freeze

    def freeze(self: Committer, *, pins: bool) -> Commit:
        monkeypatch.setattr(Committer, "freeze", really_freeze)
        signal.raise_signal(signal.SIGINT)
        return really_freeze(self, pins=pins)

    monkeypatch.setattr(Committer, "freeze", freeze)
    try:
        assert main(["scrub", "drives"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert Committer.freeze is really_freeze
    assert main(["scrub", "drives"]) == 0
