"""R5, R6: who must have a commit, and what happens when it can't be finished."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ecfs.commit.engine import Engine
from ecfs.errors import DriveFullError, DriveUnreachableError, NoRoomError, StalledError
from ecfs.pool.members import Members
from ecfs.rpc.status import error_named
from ecfs.shard import shard_key
from tests.faulty import FaultyDrive
from tests.memory_pool import MemoryPool
from tests.rules.test_history_rules import records
from tests.unit.commit.test_engine import INO, data, make_file, write


class FaultyPool(MemoryPool):
    """Its drives can hang and fail."""

    faulty: list[FaultyDrive]

    def handles(self) -> list[FaultyDrive]:  # type: ignore[override]
        self.faulty = [FaultyDrive(drive) for drive in super().handles()]
        self.drives = self.faulty  # type: ignore[assignment]
        return self.faulty


@pytest.fixture
async def pool(tmp_path: Path) -> FaultyPool:
    pool = FaultyPool(tmp_path)
    await pool.create()
    return pool


async def hang(pool: FaultyPool, *slots: int) -> None:
    for slot in slots:
        pool.faulty[slot].hanging |= {"put", "sync", "append"}


async def write_and_sync(engine: Engine, size: int = 500_000) -> None:
    await make_file(engine)
    await write(engine, 0, data(size))
    await engine.sync()


@pytest.mark.parametrize("operation", ["put", "sync"])
async def test_drives_that_are_unplugged_are_not_told_as_a_lack_of_room(
    pool: FaultyPool, autojump_clock: MockClock, operation: str
) -> None:
    """fsync answered "No space left on device" at first."""
    async with pool.engine(clean=False) as engine:
        await write_and_sync(engine)
        await write(engine, 0, data(1 << 20, 1))
        for slot in (1, 2, 3):
            pool.faulty[slot].failing[operation] = DriveUnreachableError("unplugged")
        with pytest.raises(StalledError) as told:
            await engine.sync()
        assert not isinstance(told.value, NoRoomError)


@pytest.mark.parametrize("name", ["UsageError", "FormatTooNewError"])
@pytest.mark.parametrize("operation", ["put", "sync", "append"])
async def test_a_drive_that_answers_what_no_drive_should_leaves_w(
    pool: FaultyPool, autojump_clock: MockClock, operation: str, name: str
) -> None:
    """A node names such errors, too: they went past all who handle a drive's, and ended the engine."""
    async with pool.engine(clean=False) as engine:
        pool.faulty[2].failing[operation] = error_named(name, "a call needs a deadline")
        await write_and_sync(engine)
        member = engine.pool.members[2]
        assert (member.up, member.in_w) == (False, False)
        assert "a call needs a deadline" in member.reason


async def test_r05_a_late_drive_leaves_w_in_the_commit_that_could_not_reach_it(
    pool: FaultyPool, autojump_clock: MockClock
) -> None:
    async with pool.engine(clean=False) as engine:
        await hang(pool, 3)
        await write_and_sync(engine)
        assert not engine.pool.members[3].in_w
        row = engine.db.drives.row(3)
        assert row is not None
        assert (row.state, row.in_w) == ("absent", False)
        assert engine.db.ledger.counts(frozenset()).missing == 1


async def shared_stall(pool: FaultyPool) -> set[int]:
    """Three drives hang for 20 s in the middle of a commit; returns who is in W afterwards."""
    async with pool.engine(clean=False) as engine:
        await hang(pool, 1, 2, 3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_and_sync, engine)
            await trio.sleep(20)
            for drive in pool.faulty:
                drive.release()
        return {member.slot for member in engine.pool.members if member.in_w and member.up}


async def test_r05_a_shared_stall_takes_nobody_out(pool: FaultyPool, autojump_clock: MockClock) -> None:
    assert await shared_stall(pool) == {0, 1, 2, 3, 4, 5}


async def test_r05_switched_off_a_shared_stall_costs_drives(
    pool: FaultyPool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Members, "may_leave_for_slowness", lambda self, late: True)
    with pytest.raises((AssertionError, BaseExceptionGroup, StalledError)):
        assert await shared_stall(pool) == {0, 1, 2, 3, 4, 5}


async def test_r05_a_commit_is_on_every_drive_of_w_before_it_is_acknowledged(
    pool: FaultyPool, autojump_clock: MockClock
) -> None:
    async with pool.engine(clean=False) as engine:
        pool.faulty[5].hanging.add("append")
        finished = trio.Event()

        async def work() -> None:
            await write_and_sync(engine, 100)
            finished.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await trio.sleep(1)
            assert not finished.is_set()  # five of six have it; that is not W
            pool.faulty[5].release()
        assert all(member.in_w for member in engine.pool.members)


async def test_r06_a_failed_commit_refuses_changes_and_is_finished_when_the_drives_are_back(
    pool: FaultyPool, autojump_clock: MockClock
) -> None:
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        await engine.sync()
        await write(engine, 0, data(300_000))
        for slot in (1, 2, 3):
            pool.faulty[slot].failing["append"] = DriveUnreachableError("unplugged")
        with pytest.raises(StalledError):
            await engine.sync()
        with pytest.raises(StalledError):
            await engine.admit(1)
        assert await engine.read(INO, 0, 300_000) == data(300_000)
        assert engine.failures == 1
        for slot in (1, 2, 3):
            pool.faulty[slot].failing.clear()
            engine.pool.members.bring_up(slot, pool.faulty[slot], "online")
        await trio.sleep(3)
        assert not engine.stalled
        await engine.sync()
        assert all(member.in_w and member.up for member in engine.pool.members)
        for slot in range(6):  # those that came back late, too
            assert max(found.head.seq for _, found in records(pool, slot)) == engine.pool.seq
    pool.crash()
    async with pool.engine() as engine:
        assert await engine.read(INO, 0, 300_000) == data(300_000)


async def test_shards_are_deleted_only_when_the_commit_that_killed_them_is_acknowledged(
    pool: FaultyPool, autojump_clock: MockClock
) -> None:
    async with pool.engine(clean=False) as engine:
        await write_and_sync(engine)
        (stripe,) = [fact.id for fact in engine.db.ledger.facts(0, 10)]
        await engine.admit(0, deleting=True)
        with engine.db.atomic():
            engine.remove(INO)
        engine.changed()
        pool.faulty[5].hanging.add("append")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.sync)
            await trio.sleep(1)
            assert all(shard_key("s", stripe) in store.names for store in pool.stores)
            pool.faulty[5].hanging.clear()
            pool.faulty[5].release()
        await engine.reaper.drain()
        assert not any(shard_key("s", stripe) in store.names for store in pool.stores)


async def test_r05_a_drive_that_fails_while_the_record_is_appended_is_out_by_the_same_commit(
    pool: FaultyPool, autojump_clock: MockClock
) -> None:
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        pool.faulty[2].failing["append"] = DriveUnreachableError("unplugged")
        await engine.sync()
        row = engine.db.drives.row(2)
        assert row is not None
        assert not row.in_w


async def test_r06_closing_while_stalled_says_so_and_writes_no_checkpoint(
    pool: FaultyPool, autojump_clock: MockClock
) -> None:
    async with pool.engine(clean=False) as engine:
        before = [bytes(store.raw("superblock")) for store in pool.stores]
        await make_file(engine)
        for slot in (1, 2, 3):
            pool.faulty[slot].failing["append"] = DriveUnreachableError("unplugged")
        with pytest.raises(StalledError):
            await engine.sync()
        assert not await engine.close()
        assert before == [bytes(store.raw("superblock")) for store in pool.stores]


async def test_r21_a_failed_sync_voids_what_was_put(pool: FaultyPool, autojump_clock: MockClock) -> None:
    async with pool.engine(clean=False) as engine:
        pool.faulty[2].failing["sync"] = DriveUnreachableError("fsync failed")
        await write_and_sync(engine)
        assert not engine.pool.members[2].in_w
        stripes = [fact.id for fact in engine.db.ledger.facts(0, 10)]
        assert all(2 in engine.db.ledger.missing_slots(stripe) for stripe in stripes)
        assert stripes


# ---- R23: no room for the journal itself ----------------------------------------------------------------------------


def fill_up(pool: FaultyPool, *slots: int) -> None:
    """Somebody else filled the disk to the last block: not even a record fits."""
    for slot in slots:
        pool.faulty[slot].failing |= {"append": DriveFullError("no space left on device", slot=slot)}


async def test_r23_a_disk_without_room_for_a_record_stays_readable_and_the_commit_waits(
    pool: FaultyPool, autojump_clock: MockClock
) -> None:
    async with pool.engine() as engine:
        await write_and_sync(engine)
        fill_up(pool, *range(6))
        await write(engine, 500_000, data(1000, 2))
        with pytest.raises(StalledError, match="room"):
            await engine.sync()
        await trio.sleep(30)
        assert all(member.up and member.full for member in engine.pool.members)
        for stripe in [fact.id for fact in engine.db.ledger.facts(0, 10)]:
            engine.pool.reader.forget(stripe)
        assert await engine.read(INO, 0, 500_000) == data(500_000)
        for drive in pool.faulty:
            drive.failing.clear()
        await trio.sleep(5)
        await engine.sync()
        assert not engine.stalled
        assert not any(member.full for member in engine.pool.members)


async def test_r23_one_disk_without_room_for_a_record_leaves_w(pool: FaultyPool, autojump_clock: MockClock) -> None:
    async with pool.engine() as engine:
        await write_and_sync(engine)
        fill_up(pool, 3)
        await write(engine, 500_000, data(1000, 2))
        await engine.sync()
        assert [member.slot for member in engine.pool.members if not member.in_w] == [3]
