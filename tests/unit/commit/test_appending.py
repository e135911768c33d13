"""Records on their way to several directories at once: late, full, fenced and ordinary drives."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from ecfs.clock import SystemClock
from ecfs.commit.engine import Engine
from ecfs.drive.base import Capabilities, Drive, Writer
from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.health import HealthDrive
from ecfs.drive.local import LocalDrive
from ecfs.drive.wrapper import DriveWrapper
from ecfs.errors import FencedError, StalledError, UsageError
from ecfs.journal.segments import Appending
from tests.memory_pool import MemoryPool
from tests.unit.commit.test_engine import INO, data, make_file, write


class QuickDrive(LocalDrive):
    """Two seconds are late: real ones, of which a busy machine may take one for anything."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, deadline_s=2.0)


class DirectoryPool(MemoryPool):
    """Six directories. plain: slots whose drives know no `begin_append`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "scratch")
        self.places = [folder / f"d{slot}" for slot in range(6)]
        self.plain: set[int] = set()

    def handles(self) -> list[Drive]:  # type: ignore[override]
        self.drives = [self._handle(slot) for slot in range(6)]  # type: ignore[misc]
        return list(self.drives)

    def _handle(self, slot: int) -> Drive:
        drive: Drive = QuickDrive(self.places[slot])
        inner = DriveWrapper(drive) if slot in self.plain else drive
        return HealthDrive(DeadlineDrive(inner), SystemClock())

    @contextmanager
    def syncs(self, patch: pytest.MonkeyPatch, *slots: int, fail: int = 0) -> Iterator[threading.Event]:
        """What makes a record durable on these drives waits for the event, or fails with an errno."""
        go_on, real = threading.Event(), os.fdatasync
        places = tuple(f"{self.places[slot]}/" for slot in slots)

        def fdatasync(descriptor: int) -> None:
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(places):
                if fail:
                    raise OSError(fail, os.strerror(fail))
                go_on.wait()
            real(descriptor)

        with patch.context() as patched:
            patched.setattr(os, "fdatasync", fdatasync)
            try:
                yield go_on
            finally:
                go_on.set()

    @contextmanager
    def puts(self, patch: pytest.MonkeyPatch, *slots: int) -> Iterator[threading.Event]:
        """What is put on these drives waits for the event."""
        go_on, real = threading.Event(), os.pwritev
        places = tuple(f"{self.places[slot]}/s/" for slot in slots)

        def pwritev(descriptor: int, *rest: Any) -> int:
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(places):
                go_on.wait()
            return real(descriptor, *rest)

        with patch.context() as patched:
            patched.setattr(os, "pwritev", pwritev)
            try:
                yield go_on
            finally:
                go_on.set()


@pytest.fixture
async def pool(tmp_path: Path) -> DirectoryPool:
    pool = DirectoryPool(tmp_path)
    await pool.create()
    return pool


SMALL, LARGE = 100, 1 << 20
"""Bytes of a commit that is a record alone, and of one that has a stripe."""
RECORDS_AND_SHARDS = pytest.mark.parametrize(
    ("hang", "size"), [(DirectoryPool.syncs, SMALL), (DirectoryPool.puts, LARGE)], ids=["records", "shards"]
)
Hang = Callable[..., AbstractContextManager[threading.Event]]


async def commit(engine: Engine, size: int = SMALL) -> None:
    await write(engine, 0, data(size))
    await engine.sync()


def in_w(engine: Engine) -> set[int]:
    return {member.slot for member in engine.pool.members if member.in_w and member.up}


async def test_every_drive_has_every_record(pool: DirectoryPool) -> None:
    pool.plain = {1, 4}
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        for _ in range(5):
            await commit(engine)
        journals = [b"".join([await d.get(e.key) async for e in d.list("j/")]) for d in pool.drives]
        assert len({journal.count(b"ECFSRECD") for journal in journals}) == 1
        for drive in pool.drives:
            health = drive.health  # type: ignore[attr-defined]
            assert len(health.latencies["append"]) >= 6
            assert health.in_flight == 0
    async with pool.engine() as engine:
        assert in_w(engine) == {0, 1, 2, 3, 4, 5}


@RECORDS_AND_SHARDS
@pytest.mark.parametrize("plain", [set(), {2}, {0, 5}])
async def test_a_hung_drive_leaves_w_and_the_others_do_not_count_as_late(
    pool: DirectoryPool, monkeypatch: pytest.MonkeyPatch, plain: set[int], hang: Hang, size: int
) -> None:
    pool.plain = plain
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        await commit(engine)
        with hang(pool, monkeypatch, 2), trio.fail_after(60):
            await commit(engine, size)
            assert in_w(engine) == {0, 1, 3, 4, 5}
            assert pool.drives[2].abandoned == 1
            await commit(engine, size)


@RECORDS_AND_SHARDS
async def test_a_stall_that_more_than_m_drives_share_takes_nobody_out(
    pool: DirectoryPool, monkeypatch: pytest.MonkeyPatch, hang: Hang, size: int
) -> None:
    async with pool.engine() as engine:
        await make_file(engine)
        with hang(pool, monkeypatch, 1, 2, 3) as go_on:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(commit, engine, size)
                await trio.sleep(4)
                go_on.set()
        assert in_w(engine) == {0, 1, 2, 3, 4, 5}


@RECORDS_AND_SHARDS
async def test_a_stall_that_does_not_end_stalls_the_commit_and_is_retried(
    pool: DirectoryPool, monkeypatch: pytest.MonkeyPatch, hang: Hang, size: int
) -> None:
    """The names of shards are taken by then: by what a thread that nobody waits for has written, or will write."""
    pool.settings = replace(pool.settings, shared_stall_s=0.5, retry_stalled_s=0.2)
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        stalled = pytest.raises(StalledError, match="not answered")
        with hang(pool, monkeypatch, 1, 2, 3), trio.fail_after(60), stalled:
            await commit(engine, size)
        with trio.fail_after(60):
            while engine.stalled:
                await trio.sleep(0.05)
        assert in_w(engine) == {0, 1, 2, 3, 4, 5}
        assert await engine.read(INO, 0, size) == data(size)


async def test_a_full_drive_leaves_w(pool: DirectoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        with pool.syncs(monkeypatch, 5, fail=errno.ENOSPC), trio.fail_after(60):
            await commit(engine)
        member = engine.pool.members[5]
        assert (member.in_w, member.full) == (False, True)
        assert "no room for the journal" in member.reason


async def test_a_drive_that_answers_what_no_drive_should_leaves_w(
    pool: DirectoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Appending.result

    def result(appending: Appending) -> None:
        real(appending)
        if appending.slot == 2:
            raise UsageError("a call needs a deadline")

    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        monkeypatch.setattr(Appending, "result", result)
        with trio.fail_after(60):
            await commit(engine)
        assert in_w(engine) == {0, 1, 3, 4, 5}


async def test_a_drive_that_promised_itself_to_another_ends_it(pool: DirectoryPool) -> None:
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        await commit(engine)
        # As another host would, whose lock on a directory does not reach this one.
        root = pool.drives[3].inner.inner._root  # type: ignore[attr-defined]
        root.promise(Writer(engine.pool.writer.epoch + 1, "f" * 32))
        with pytest.raises(FencedError), trio.fail_after(60):
            await commit(engine)
        assert engine.fenced


async def test_when_the_engine_ends_nothing_waits_for_a_hung_drive(
    pool: DirectoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pool.syncs(monkeypatch, *range(6)) as go_on, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            go_on.set()
            engine = Engine(await pool.open())
            await nursery.start(engine.run)
            await make_file(engine)
            go_on.clear()
            engine.request_commit()
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        assert [drive.abandoned for drive in pool.drives] == [1] * 6
        go_on.set()
        while any(drive.abandoned for drive in pool.drives):
            await trio.sleep(0.01)
        for drive in pool.drives:
            await drive.close()
        engine.db.close()


async def test_every_drive_has_its_shard_however_it_is_put(pool: DirectoryPool) -> None:
    pool.plain = {1, 4}
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        await commit(engine, LARGE)
        assert [len([e async for e in drive.list("s/")]) for drive in pool.drives] == [1] * 6
        for drive in pool.drives:
            health = drive.health  # type: ignore[attr-defined]
            assert len(health.latencies["put"]) >= 1
            assert health.in_flight == 0
