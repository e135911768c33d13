"""R21: what a sync that failed or was given up should have covered does not count, whoever had put it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from ecfs.clock import SystemClock
from ecfs.commit.engine import Engine
from ecfs.drive import local_puts
from ecfs.drive.held import write_all
from ecfs.drive.registry import open_drive
from ecfs.errors import StalledError
from ecfs.heal.doubts import Doubts
from ecfs.heal.healer import Healer
from ecfs.heal.report import ScrubReport
from tests.unit.commit.test_appending import DirectoryPool, in_w
from tests.unit.commit.test_engine import data, make_file, write

ALL = set(range(6))
pytestmark = pytest.mark.timeout(90)


class Fsync:
    """Stands for os.fsync of shards: slow or failing for a while. synced: the inodes that it was good for."""

    def __init__(self) -> None:
        self.real = os.fsync
        self.synced: set[int] = set()
        self.fail = 0
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def slow_again(self) -> None:
        """From now on each waits until `go_on` is set."""
        self.begun.clear()
        self.go_on.clear()

    def __call__(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if "/s/" in path or "/c/" in path:
            failing = self.fail
            self.begun.set()
            self.go_on.wait(30)
            if failing:
                raise OSError(failing, os.strerror(failing))
        self.real(descriptor)
        self.synced.add(os.fstat(descriptor).st_ino)


@pytest.fixture
def fsync(monkeypatch: pytest.MonkeyPatch) -> Fsync:
    fsync = Fsync()
    monkeypatch.setattr(os, "fsync", fsync)
    return fsync


@pytest.fixture
async def pool(tmp_path: Path) -> DirectoryPool:
    pool = DirectoryPool(tmp_path)
    await pool.create()
    pool.settings = replace(
        pool.settings,
        idle_commit_s=60.0,
        max_commit_s=60.0,
        seal_at=4 << 20,
        shared_stall_s=0.5,
        retry_stalled_s=0.2,
    )
    return pool


@pytest.fixture
async def engine(pool: DirectoryPool, fsync: Fsync) -> AsyncIterator[Engine]:
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        yield engine
        fsync.go_on.set()


def healer_of(engine: Engine) -> Healer:
    return Healer(engine, lambda url, slot: open_drive(url, slot=slot, clock=SystemClock()), list)


def shards(pool: DirectoryPool) -> set[Path]:
    return {path for place in pool.places for path in place.glob("s/*/*")}


def never_synced(pool: DirectoryPool, fsync: Fsync) -> list[Path]:
    return sorted(path for path in shards(pool) if path.stat().st_ino not in fsync.synced)


async def put_a_stripe(engine: Engine, pool: DirectoryPool) -> None:
    """It is sealed and put in the background; its commit comes later."""
    before = len(shards(pool))
    await write(engine, 0, data(5 << 20))
    await write(engine, 5 << 20, data(10))
    while not any(len(stripe.placed) == 6 for stripe in engine.sealed):
        await trio.sleep(0.01)
    assert len(shards(pool)) >= before + 6


async def test_a_scrub_that_is_given_up_while_it_syncs_voids_no_puts_of_commits(
    pool: DirectoryPool, engine: Engine, fsync: Fsync
) -> None:
    """Its sync was cancelled, which voided all puts on the drive. The next one found nothing to do, and the commit was
    acknowledged with shards that nobody had synced."""
    await write(engine, 0, data(600_000))
    await engine.sync()
    stripes = [row.id for row in engine.db.ledger.facts(0, 10)]
    for path in shards(pool):
        if path.is_relative_to(pool.places[0]) or path.is_relative_to(pool.places[1]):
            path.unlink()
    mender = healer_of(engine).repairer.mender
    fsync.slow_again()
    async with trio.open_nursery() as scrub:
        scrub.start_soon(mender.mend, [(stripe, frozenset({0, 1})) for stripe in stripes])
        await trio.to_thread.run_sync(fsync.begun.wait)
        await put_a_stripe(engine, pool)
        scrub.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)
            fsync.go_on.set()
    await engine.sync()
    assert in_w(engine) == ALL
    assert never_synced(pool, fsync) == []


async def test_a_scrub_that_is_given_up_while_it_syncs_takes_no_drive_down(
    pool: DirectoryPool, engine: Engine, fsync: Fsync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put that is on its way while puts are voided fails: all drives at once went down."""
    await put_a_stripe(engine, pool)
    mender = healer_of(engine).repairer.mender
    real, go_on = write_all, threading.Event()
    monkeypatch.setattr(local_puts, "write_all", lambda *args: go_on.wait(30) and real(*args))
    fsync.slow_again()
    async with trio.open_nursery() as scrub:
        for slot in ALL:
            scrub.start_soon(mender._sync_one, slot, [])
        await trio.to_thread.run_sync(fsync.begun.wait)
        await write(engine, 0, data(5 << 20))
        await write(engine, 5 << 20, data(10))  # a stripe is sealed, and its puts begin
        await trio.sleep(0.2)
        scrub.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.1)
            go_on.set()
            await trio.sleep(0.1)
            fsync.go_on.set()
    await engine.sync()
    assert in_w(engine) == ALL
    assert never_synced(pool, fsync) == []


async def test_a_sync_for_a_checkpoint_that_finds_no_room_voids_puts_of_commits(
    pool: DirectoryPool, engine: Engine, fsync: Fsync
) -> None:
    """A scrub that put shards of a checkpoint right took ENOSPC for its own affair."""
    fact = next(iter(engine.pool.checkpoints[0].facts(engine.pool.geometry)))
    await engine.sync()
    await put_a_stripe(engine, pool)
    async with engine.between_commits():
        job = healer_of(engine)._begin("scrub", ScrubReport(), None, None)
        for slot, place in enumerate(pool.places):
            fsync.fail = errno.ENOSPC
            assert not await Doubts(job)._put(fact, slot, [(place / fact.key).read_bytes()])
            fsync.fail = 0
    await engine.sync()
    assert in_w(engine) == ALL
    assert never_synced(pool, fsync) == []


async def test_a_commit_whose_syncs_were_given_up_in_a_stall_is_put_again(
    pool: DirectoryPool, engine: Engine, fsync: Fsync
) -> None:
    """Too many drives were late for any to leave. The retry found nothing left to sync, and the commit was acknowledged
    while the first syncs still hung; these failed."""
    await write(engine, 0, data(600_000))
    fsync.slow_again()
    fsync.fail = errno.EIO
    with pytest.raises(StalledError):
        await engine.sync()
    fsync.fail = 0
    fsync.go_on.set()
    while engine.stalled:
        await trio.sleep(0.05)
    assert in_w(engine) == ALL
    assert never_synced(pool, fsync) == []


async def test_a_sync_that_may_not_be_cancelled_ends_with_the_engine(pool: DirectoryPool, fsync: Fsync) -> None:
    """R20: an unmount would wait for a hung drive for ever."""
    with trio.fail_after(20):
        async with pool.engine(clean=False) as engine, trio.open_nursery() as scrub:
            await make_file(engine)
            await put_a_stripe(engine, pool)
            fsync.slow_again()
            scrub.start_soon(_until_stalled, engine, 0)
            await trio.to_thread.run_sync(fsync.begun.wait)
            assert engine._nursery is not None
            engine._nursery.cancel_scope.cancel()
            scrub.cancel_scope.cancel()
        fsync.go_on.set()


async def _until_stalled(engine: Engine, slot: int) -> None:
    for _ in range(2):  # the second one begins when nobody judges any more
        with pytest.raises(StalledError):
            await engine.settler.sync_drive(engine.pool.members[slot])
