"""R8, R16, R17, R23: checkpoints, inline data, commit size, full drives."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ecfs.commit.engine import Engine
from ecfs.errors import DriveUnreachableError, NoRoomError, PoolFullError
from ecfs.fs.errors import Use, errno_of
from ecfs.journal import segments
from ecfs.shard import shard_key
from tests.memory_pool import MemoryPool
from tests.unit.commit.test_engine import INO, data, make_file, write

MIB = 1 << 20


@pytest.fixture
async def pool(tmp_path: Path) -> MemoryPool:
    pool = MemoryPool(tmp_path)
    await pool.create()
    return pool


async def checkpoint(engine: Engine) -> None:
    """One more checkpoint, finished."""
    newest = engine.pool.checkpoints[0]
    engine.request_checkpoint()
    while engine.pool.checkpoints[0] == newest or engine.checkpointer.lock.locked():
        await trio.sleep(0.1)


async def test_r08_two_checkpoints_are_kept_and_the_journal_from_the_older_on(pool: MemoryPool) -> None:
    async with pool.engine(clean=False) as engine:
        for ino in range(10, 16):
            await make_file(engine, ino)
            await checkpoint(engine)
        kept = engine.pool.checkpoints
        shards = {entry.key async for entry in pool.drives[0].list("c/")}
        assert shards == {shard_key("c", row[0]) for each in kept for row in each.stripes}
        assert len(kept) == 2


async def test_r08_where_each_record_costs_a_request_their_number_makes_a_checkpoint_due(pool: MemoryPool) -> None:
    """A pool on buckets took longer to open with each commit since its last checkpoint, however small they were."""
    for store in pool.stores[4:]:
        store.request_bytes = pool.settings.journal_limit // 20
    async with pool.engine(clean=False) as engine:
        first = engine.pool.seq
        for ino in range(10, 60):
            await make_file(engine, ino)
            await engine.sync()
            assert engine.pool.seq - engine.pool.checkpoints[0].seq < 30
        assert engine.pool.seq >= first + 50
        assert engine.pool.journal_bytes < pool.settings.journal_limit // 20


async def test_r08_no_superblock_names_a_checkpoint_before_its_shards_are_durable(pool: MemoryPool) -> None:
    """A fallback would hide it: the older checkpoint and its journal are there for other accidents."""
    looked = 0
    async with pool.engine() as engine:
        for ino in range(10, 40):
            await make_file(engine, ino)

        def look(operation: str, key: str) -> None:
            nonlocal looked
            if (operation, key) != ("write_blob", "superblock"):
                return
            for row in engine.pool.checkpoints[0].stripes:
                for slot in row[3]:
                    file = pool.stores[slot].durable_names[shard_key("c", row[0])]
                    assert file.durable == len(file.data) > 0
                    looked += 1

        for drive in pool.drives:
            drive.on_operation = look
        await checkpoint(engine)
        assert looked >= 36


@pytest.mark.parametrize("segment", [1000, 16 * MIB], ids=["many segments", "one segment"])
async def test_r08_when_the_newest_checkpoint_is_lost_the_older_one_and_the_journal_give_the_same(
    pool: MemoryPool, monkeypatch: pytest.MonkeyPatch, segment: int
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_LIMIT", segment)
    async with pool.engine(clean=False) as engine:
        for ino in range(10, 20):
            await make_file(engine, ino)
            await engine.sync()
            if ino in (13, 16):
                await checkpoint(engine)
        newest = engine.pool.checkpoints[0]
        for drive in pool.drives:
            await drive.sync()  # or the crash would give back what was pruned
    pool.crash()
    for slot in (0, 1, 2):
        for row in newest.stripes:
            pool.stores[slot].raw(shard_key("c", row[0]))[5000] ^= 1
    async with pool.engine() as engine:
        assert engine.db.names.counts()[0] == 11
        assert any("checkpoint" in note for note in engine.pool.notes)


async def test_r08_a_crash_before_the_superblocks_leaves_the_older_checkpoint_whole(pool: MemoryPool) -> None:
    async with pool.engine(clean=False) as engine:
        await make_file(engine, 10)
        await checkpoint(engine)
        await make_file(engine, 11)

        def cut(operation: str, key: str) -> None:
            if operation == "write_blob":
                raise DriveUnreachableError("power")

        for drive in pool.drives:
            drive.on_operation = cut
        engine.request_checkpoint()
        with trio.move_on_after(1):
            await engine.sync()
            await trio.sleep(0.5)
    pool.crash()
    async with pool.engine() as engine:
        assert {name for _, name, _ in engine.db.names.entries(1, 0, 9)} == {b"f10", b"f11"}


async def test_r08_the_segment_of_a_record_on_its_way_is_not_pruned(
    pool: MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is done just when the first record of a segment was written and not yet answered. Were the segment
    deleted then, what is acknowledged a moment later would be nowhere: on all drives, as all of them are at it."""
    monkeypatch.setattr(segments, "SEGMENT_LIMIT", 1)
    async with pool.engine(clean=False) as engine:
        for ino in (10, 11):
            await make_file(engine, ino)
            await checkpoint(engine)
        published, answered = trio.Event(), trio.Event()
        written: list[str] = []

        async def write_blob(call: Any, *asked: Any) -> None:
            await published.wait()
            await call(*asked)

        async def append(call: Any, segment: str, *asked: Any) -> None:
            await call(segment, *asked)
            written.append(segment)
            await answered.wait()

        for drive in pool.drives:
            monkeypatch.setattr(drive, "write_blob", partial(write_blob, drive.write_blob))
        engine.request_checkpoint()
        while not engine.checkpointer.lock.locked():
            await trio.sleep(0.01)
        await engine.sync()
        for drive in pool.drives:
            monkeypatch.setattr(drive, "append", partial(append, drive.append))
        await make_file(engine, 12)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.sync)
            while len(written) < 6:
                await trio.sleep(0.01)
            published.set()
            while engine.checkpointer.lock.locked():
                await trio.sleep(0.01)
            answered.set()
        for drive in pool.drives:
            await drive.sync()  # or the crash would give back what was pruned
    pool.crash()
    async with pool.engine() as engine:
        assert {name for _, name, _ in engine.db.names.entries(1, 0, 9)} == {b"f10", b"f11", b"f12"}


async def test_r16_small_synced_writes_are_inline_and_packed_later(tmp_path: Path, autojump_clock: MockClock) -> None:
    pool = MemoryPool(tmp_path, pack_inline_at=100_000)
    await pool.create()
    async with pool.engine() as engine:
        await make_file(engine)
        for at in range(60):
            await write(engine, at * 4096, data(4096, at))
            await engine.sync()
        await trio.sleep(10)
        assert engine.db.files.inline_total <= 100_000
        for at in range(60):
            assert await engine.read(INO, at * 4096, 4096) == data(4096, at)


async def test_r17_a_commit_closes_when_it_has_many_rows(pool: MemoryPool, autojump_clock: MockClock) -> None:
    async with pool.engine() as engine:
        for ino in range(10, 10 + 5000):
            await make_file(engine, ino)
        assert engine.committed >= 1


async def test_r17_rows_alone_close_a_commit(pool: MemoryPool, autojump_clock: MockClock) -> None:
    """Far below the limit for bytes, and below the one at which operations have to wait."""
    async with pool.engine() as engine:
        for ino in range(10, 10 + 2500):
            await make_file(engine, ino)
            await trio.lowlevel.checkpoint()
        assert trio.current_time() == 0
        assert engine.committed >= 1
        assert engine.db.patchset_estimate() < pool.settings.commit_bytes // 4


# ---- R23 ------------------------------------------------------------------------------------------------------------


async def small_pool(tmp_path: Path, capacity: int) -> MemoryPool:
    pool = MemoryPool(tmp_path, stripe_size=MIB, seal_at=MIB, sealed_limit=4 * MIB, dirty_limit=4 * MIB)
    await pool.create()
    for store in pool.stores:
        store.capacity = capacity
    return pool


async def fill(engine: Engine, ino: int) -> int:
    """Write until it is full; returns how many bytes were taken."""
    await make_file(engine, ino)
    size = 0
    try:
        while size < 1 << 30:
            await write(engine, size, data(100_000, ino), ino)
            size += 100_000
    except PoolFullError:
        return size
    raise AssertionError("never full")


async def test_r23_full_is_enospc_before_any_shard_and_deleting_makes_room(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    pool = await small_pool(tmp_path, 12 * MIB)
    async with pool.engine() as engine:
        size = await fill(engine, 8)
        await engine.sync()
        assert not engine.stalled
        assert all(member.up and member.in_w for member in engine.pool.members)
        assert engine.db.ledger.counts(frozenset()).missing == 0
        assert await engine.read(8, 0, 100_000) == data(100_000, 8)
        await engine.admit(0, deleting=True)
        with engine.db.atomic():
            engine.remove(8)
        engine.changed()
        again = await fill(engine, 9)
        assert again > size * 0.7
        assert await engine.read(9, 100_000, 100_000) == data(100_000, 9)


async def test_r23_a_part_of_each_drive_is_kept_back_from_new_data(tmp_path: Path, autojump_clock: MockClock) -> None:
    """For deletes, checkpoints and the compactor. The journal of what filled the pool may have taken some of it."""
    pool = await small_pool(tmp_path, 12 * MIB)
    for number, store in enumerate(pool.stores):
        store.device = f"disk{number}"
    async with pool.engine() as engine:
        await make_file(engine, 9)
        await engine.space_keeper.sample()
        usable, left = engine.usable(), min(store.capacity - store.used for store in pool.stores)
        assert usable.kept // 4 > MIB
        assert usable.free + usable.kept <= 4 * left
        await fill(engine, 8)
        await engine.sync()
        assert min(store.capacity - store.used for store in pool.stores) > usable.kept // 4 // 2


async def test_r23_what_is_in_memory_is_promised_still_after_a_look_at_the_drives(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    pool = await small_pool(tmp_path, 12 * MIB)
    async with pool.engine() as engine:
        await make_file(engine, 8)
        await engine.space_keeper.sample()
        before = engine.usable().free
        await write(engine, 0, data(MIB // 4, 8), 8)
        assert engine.dirty.total + engine.sealed.bytes >= MIB // 4
        await engine.space_keeper.sample()
        assert engine.usable().free <= before - MIB // 4
        await engine.sync()
        await engine.space_keeper.sample()
        assert before - MIB < engine.usable().free < before


async def test_r23_several_looks_at_the_drives_at_once_free_nothing_twice(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Each of many writers that find a pool full looks again before it is told so."""
    pool = await small_pool(tmp_path, 12 * MIB)
    async with pool.engine() as engine:
        await make_file(engine, 8)
        await write(engine, 0, data(MIB, 8), 8)
        await engine.sync()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(engine.space_keeper.sample)
        free = engine.usable().free
        await engine.space_keeper.sample()
        assert free == engine.usable().free


async def test_r23_one_full_drive_is_enospc_and_nobody_is_taken_out(tmp_path: Path, autojump_clock: MockClock) -> None:
    pool = await small_pool(tmp_path, 100 * MIB)
    pool.stores[2].capacity = 8 * MIB
    async with pool.engine() as engine:
        await fill(engine, 8)
        await engine.sync()
        assert all(member.up and member.in_w for member in engine.pool.members)


async def test_r23_a_disk_that_others_filled_is_enospc_until_there_is_room(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """All drives on one disk, say: none can leave, and a program should hear why its data is not durable."""
    pool = await small_pool(tmp_path, 100 * MIB)
    async with pool.engine() as engine:
        await make_file(engine, 8)
        await engine.sync()
        await write(engine, 0, data(MIB // 2, 8), 8)
        for store in pool.stores:
            store.capacity = store.used
        with pytest.raises(NoRoomError) as refused:
            await engine.sync()
        assert errno_of(refused.value, Use.SYNC) == errno.ENOSPC
        with pytest.raises(NoRoomError):
            await engine.admit(1)
        assert await engine.read(8, 0, MIB // 2) == data(MIB // 2, 8)
        for store in pool.stores:
            store.capacity = 100 * MIB
        while engine.stalled:
            await trio.sleep(1)
        await write(engine, MIB // 2, data(1000, 9), 8)
        await engine.sync()
        assert all(member.in_w for member in engine.pool.members)
    async with pool.engine() as engine:
        assert await engine.read(8, 0, MIB // 2) == data(MIB // 2, 8)


async def test_space_stays_under_three_times_the_live_payload_under_overwrites(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    pool = MemoryPool(tmp_path, stripe_size=MIB, seal_at=MIB, compact_slack=MIB, inline_at_most=0)
    await pool.create()
    async with pool.engine() as engine:
        await make_file(engine)
        await write(engine, 0, data(8 * MIB))
        for at in range(1500):
            await write(engine, (at * 7919 % 2048) * 4096, data(4096, at))
            if at % 50 == 0:
                await engine.sync()
        await trio.sleep(30)
        assert engine.db.ledger.total_length() < 3 * 8 * MIB
        stored = sum(store.used for store in pool.stores)
        assert stored < 3 * 8 * MIB * 1.6


async def test_space_stays_under_three_times_the_live_payload_however_slow_the_compactor_is(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On six busy nodes, 1 GiB that was overwritten in pieces of 64 KiB took 3.1 times as much."""
    pool = MemoryPool(tmp_path, stripe_size=MIB, seal_at=MIB, compact_slack=MIB, inline_at_most=0)
    await pool.create()
    async with pool.engine() as engine:
        read, reads = engine.files.read_stripe, 0

        async def read_late(stripe: int) -> bytes:
            nonlocal reads
            reads += 1
            await trio.sleep(1)
            return await read(stripe)

        monkeypatch.setattr(engine.files, "read_stripe", read_late)
        await make_file(engine)
        await write(engine, 0, data(16 * MIB))
        most = 0
        for at in range(2000):
            await write(engine, (at * 7919 % 256) * 65536, data(65536, at))
            await trio.sleep(0.01)
            if at % 8 == 0:
                await engine.sync()
            most = max(most, engine.db.ledger.total_length())
        assert most * 6 / 4 < 3 * 16 * MIB
        assert reads > 10
        await trio.sleep(60)
        assert engine.db.ledger.total_length() < 2 * 16 * MIB
