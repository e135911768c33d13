"""What is looked at again after a wait, and what is tried before ENOSPC."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from ecfs.commit.engine import Engine
from ecfs.drive.memory_store import UNLIMITED
from ecfs.errors import NotEnoughDrivesError, PoolFullError
from tests.memory_pool import MemoryPool
from tests.unit.commit.test_engine import INO, data, make_file, write

MIB = 1 << 20
STRIPE = 64 * 1024
WRITERS = 32


@pytest.fixture
async def pool(tmp_path: Path) -> MemoryPool:
    pool = MemoryPool(tmp_path)
    await pool.create()
    return pool


@pytest.fixture
async def small(tmp_path: Path) -> MemoryPool:
    pool = MemoryPool(tmp_path, stripe_size=STRIPE, seal_at=MIB, journal_limit=256 * 1024, inline_at_most=0)
    await pool.create()
    for store in pool.stores:
        store.capacity = 12 * MIB
    return pool


async def fill(engine: Engine) -> int:
    """Write until the pool is full; the size of the file."""
    await make_file(engine)
    size = 0
    with suppress(PoolFullError):
        while True:
            await write(engine, size, data(STRIPE))
            size += STRIPE
    await engine.sync()
    return size


async def punch(engine: Engine, start: int, end: int) -> None:
    await engine.admit(0, deleting=True)
    with engine.db.atomic():
        engine.db.files.punch(INO, start, end)
    engine.changed()


async def test_memory_stays_bounded_when_many_have_waited_for_the_compactor(
    pool: MemoryPool, autojump_clock: object
) -> None:
    """They go on in the same moment, and each had looked before at the memory that there was."""
    async with pool.engine() as engine:
        await make_file(engine)
        for number in range(15):
            await write(engine, number * MIB, data(MIB, number))
        engine.compactor.backlog.measured(1000 * MIB, 100)
        most = 0

        async def one(number: int) -> None:
            nonlocal most
            await write(engine, number * MIB, data(MIB, number))
            most = max(most, engine.dirty.total)

        async with trio.open_nursery() as nursery:
            for number in range(100, 100 + WRITERS):
                nursery.start_soon(one, number)
            await trio.sleep(0.01)
            engine.compactor.backlog.measured(100 * MIB, 100)
        assert most <= engine.pool.settings.dirty_limit


async def test_writes_that_are_refused_do_not_count_as_won_back(
    pool: MemoryPool, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """ENOSPC again and again, while the compactor is behind: nobody wrote, so nothing may be written for it."""
    async with pool.engine() as engine:
        backlog = engine.compactor.backlog
        backlog.measured(100 * MIB, MIB)
        with monkeypatch.context() as patch:
            patch.setattr(engine.space_keeper, "fits", lambda size: False)
            for _ in range(64):
                with pytest.raises(PoolFullError):
                    await engine.admit(MIB)
        backlog.measured(100 * MIB, MIB)
        assert await backlog.wait_turn(MIB)


async def test_room_is_won_back_also_for_a_write_longer_than_a_stripe(small: MemoryPool) -> None:
    """That a stripe fits says nothing of a megabyte: it was ENOSPC, with half of the pool dead."""
    async with small.engine() as engine:
        size = await fill(engine)
        for store in small.stores:
            store.capacity += 2 * STRIPE
        await engine.space_keeper.sample()
        assert engine.space_keeper.fits(STRIPE)
        await punch(engine, size // 2, size)
        await engine.admit(MIB)


async def test_writers_that_find_the_pool_full_win_room_back_one_after_the_other(
    small: MemoryPool, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """All at once, each would read the same stripes into memory."""
    async with small.engine() as engine:
        size = await fill(engine)
        for start in range(0, size, STRIPE):
            await punch(engine, start, start + STRIPE // 8)
        running = most = 0
        real = engine.compactor.compact_once

        async def compact_once(*, urgent: bool = False) -> bool:
            nonlocal running, most
            running += urgent
            most = max(most, running)
            try:
                return await real(urgent=urgent)
            finally:
                running -= urgent

        monkeypatch.setattr(engine.compactor, "compact_once", compact_once)

        async def one() -> None:
            with suppress(PoolFullError):
                await engine.admit(4 * MIB)

        async with trio.open_nursery() as nursery:
            for _ in range(WRITERS):
                nursery.start_soon(one)
        assert most == 1


async def test_r6_a_change_is_refused_when_too_few_drives_are_left_after_room_was_won_back(
    small: MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with small.engine(clean=False) as engine:
        await make_file(engine)
        await engine.sync()
        keeper = engine.space_keeper
        sample, looks = keeper.sample, 0

        async def drives_vanish() -> None:
            nonlocal looks
            looks += 1
            await sample()
            if looks == 2:
                for slot in range(3):
                    engine.pool.members.take_down(slot, "absent", "unplugged")

        monkeypatch.setattr(keeper, "sample", drives_vanish)
        monkeypatch.setattr(keeper, "fits", lambda size: looks >= 2)
        with pytest.raises(NotEnoughDrivesError):
            await engine.admit(4096)


async def test_what_a_program_reserves_is_compared_with_what_is_free_now(small: MemoryPool) -> None:
    """Somebody has just made room on those disks: ENOSPC for as long as the last look at them was old."""
    async with small.engine() as engine:
        await fill(engine)
        assert not await engine.has_room(MIB)
        for store in small.stores:
            store.capacity = UNLIMITED
        assert await engine.has_room(MIB)


async def filled_in_small_commits(engine: Engine) -> int:
    """As databases do: each write made durable by itself. How many inodes there are."""
    ino = INO
    with suppress(PoolFullError):
        while True:
            await make_file(engine, ino)
            await write(engine, 0, data(STRIPE), ino)
            await engine.sync()
            ino += 1
    return ino - INO


async def remove(engine: Engine, ino: int) -> None:
    await engine.admit(0, deleting=True)
    with engine.db.atomic():
        engine.remove(ino)
        engine.db.names.remove_inode(ino)
        engine.db.names.unlink(1, b"f%d" % ino)
    engine.changed()


async def test_a_small_pool_full_of_small_files_can_be_emptied(tmp_path: Path, autojump_clock: object) -> None:
    """They were kept with the metadata, whole on every drive, until these had no room for a record that deletes one."""
    pool = MemoryPool(tmp_path, stripe_size=4 * MIB, inline_at_most=128 * 1024, inline_limit=64 * MIB)
    await pool.create()
    for store in pool.stores:
        store.capacity = 16 * MIB
    async with pool.engine() as engine:
        await engine.space_keeper.sample()
        count = await filled_in_small_commits(engine)
        for ino in range(INO, INO + count):
            await remove(engine, ino)
        await engine.sync()
        await trio.sleep(10)
        await make_file(engine, INO + count + 1)
        await write(engine, 0, data(STRIPE), INO + count + 1)
        await engine.sync()
        assert not engine.failures


async def test_r17_a_commit_waits_for_the_bytes_of_metadata(pool: MemoryPool, autojump_clock: object) -> None:
    """Rows of 64 KiB each: 4,000 of them are a record that no drive takes."""
    async with pool.engine() as engine:
        await make_file(engine)
        most = 0
        for number in range(400):
            await engine.admit(0)
            with engine.db.atomic():
                engine.db.names.set_xattr(INO, b"user.%d" % number, data(STRIPE))
            engine.changed()
            most = max(most, engine.db.patchset_estimate())
        assert most < engine.pool.settings.journal_limit // 4 + MIB


async def test_a_small_pool_full_of_attributes_can_be_emptied(tmp_path: Path, autojump_clock: object) -> None:
    """What lies in the metadata is on each drive whole, and in two checkpoints."""
    pool = MemoryPool(tmp_path, stripe_size=4 * MIB)
    await pool.create()
    for store in pool.stores:
        store.capacity = 40 * MIB
    async with pool.engine() as engine:
        await engine.space_keeper.sample()
        await make_file(engine)
        count = 0
        with suppress(PoolFullError):
            while True:
                await engine.admit(0, metadata=STRIPE)
                with engine.db.atomic():
                    engine.db.names.set_xattr(INO, b"user.%d" % count, data(STRIPE))
                engine.changed()
                await trio.sleep(0.01)
                count += 1
        assert count > 50
        await engine.sync()
        await remove(engine, INO)
        await engine.sync()
        assert not engine.failures
