"""What was written in pieces is brought together again: by compaction as far as it goes, and while the pool rests."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from ecfs.commit.engine import Engine
from ecfs.commit.sealer import Moved
from ecfs.commit.tidier import IDLE_S
from ecfs.drive.memory import MemoryDrive
from ecfs.meta import Extent
from tests.memory_pool import MemoryPool
from tests.unit.commit.test_aged_files import KIB, MIB, PIECE, SIZE, aged, in_order
from tests.unit.commit.test_engine import INO, make_file, write

STRIPE = 256 * KIB


@pytest.fixture
async def pool(tmp_path: Path) -> MemoryPool:
    pool = MemoryPool(tmp_path, stripe_size=STRIPE, seal_at=MIB, compact_slack=0)
    await pool.create()
    return pool


@pytest.fixture
async def engine(pool: MemoryPool) -> AsyncIterator[Engine]:
    await trio.sleep(10)  # a clock that shows 0 is never met in the real world
    async with pool.engine() as engine:
        yield engine


def extents(engine: Engine) -> list[Extent]:
    return engine.db.files.extents(INO, 0, SIZE)


async def test_what_was_overwritten_at_random_is_in_order_again_after_a_rest(
    pool: MemoryPool, autojump_clock: object
) -> None:
    await trio.sleep(10)
    async with pool.engine(clean=False) as engine:
        expected = await aged(engine)
        assert len(extents(engine)) > 300
        await trio.sleep(30)
        assert len(extents(engine)) <= 2 * SIZE // STRIPE
        assert await in_order(engine, 64 * KIB) == expected
    pool.crash()
    async with pool.engine() as engine:
        assert await in_order(engine, 64 * KIB) == expected


async def test_a_pool_that_was_tidied_is_left_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    """No disk is woken for it."""
    await aged(engine)
    await trio.sleep(60)
    calls = 0
    for name in ("read", "put", "append", "sync"):

        def counted(*arguments: object, plain: object = getattr(MemoryDrive, name), **more: object) -> object:
            nonlocal calls
            calls += 1
            return plain(*arguments, **more)  # type: ignore[operator]

        monkeypatch.setattr(MemoryDrive, name, counted)
    await trio.sleep(3600)
    assert calls == 0


async def test_nothing_is_tidied_while_programs_use_the_pool(engine: Engine, autojump_clock: object) -> None:
    await aged(engine)
    await trio.sleep(IDLE_S / 2)
    moved = None
    for _ in range(30):
        await engine.read(INO, 0, 10)
        await trio.sleep(IDLE_S / 2)
        moved = engine.compactor.moved_bytes if moved is None else moved
    assert engine.compactor.moved_bytes == moved
    assert len(extents(engine)) > 300


async def test_tidying_writes_hardly_more_than_was_written_in_pieces(engine: Engine, autojump_clock: object) -> None:
    await aged(engine, rounds=1)
    await trio.sleep(60)
    before = engine.compactor.moved_bytes
    for at in range(0, SIZE, 128 * KIB):
        await write(engine, at + PIECE, bytes(PIECE))
        await write(engine, at + 9 * PIECE, bytes(PIECE))
    written = 2 * PIECE * SIZE // (128 * KIB)
    await engine.sync()
    await trio.sleep(60)
    assert 0 < engine.compactor.moved_bytes - before <= written + STRIPE


async def test_with_a_drive_out_nothing_is_tidied(engine: Engine, autojump_clock: object) -> None:
    await aged(engine)
    engine.pool.members.take_down(3, "absent", "pulled")
    await trio.sleep(60)
    assert len(extents(engine)) > 300


async def test_r13_what_is_overwritten_while_it_is_being_tidied_stays_overwritten(
    pool: MemoryPool, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    await trio.sleep(10)
    async with pool.engine(clean=False) as engine:
        expected = bytearray(await aged(engine))
        gather, chance = engine.files.gather, random.Random(9)

        async def overwritten_after_reading(ino: int, lo: int, hi: int) -> object:
            found = await gather(ino, lo, hi)
            for at, size in ((lo + 5000, 300), (lo + 20 * PIECE, PIECE), (lo + 150_000, 20_000)):
                expected[at : at + size] = block = chance.randbytes(size)
                await write(engine, at, block)
            for sealed in engine.sealer.seal_all():
                engine.queue_stripe(sealed)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(engine.files, "gather", overwritten_after_reading)
            await trio.sleep(60)
        await trio.sleep(60)
        assert engine.compactor.moved_bytes > SIZE
        assert await in_order(engine, 64 * KIB) == expected
        await engine.sync()
    pool.crash()
    async with pool.engine() as engine:
        assert await in_order(engine, 64 * KIB) == expected


async def test_space_stays_bounded_while_a_file_is_overwritten(engine: Engine, autojump_clock: object) -> None:
    settings, chance, worst = engine.pool.settings, random.Random(4), 0
    await make_file(engine)
    await write(engine, 0, bytes(SIZE))
    for _ in range(60):
        for _ in range(40):
            await write(engine, chance.randrange(SIZE // PIECE) * PIECE, chance.randbytes(PIECE))
        await trio.sleep(1)
        worst = max(worst, engine.db.ledger.total_length())
    assert engine.compactor.moved_bytes > 0
    assert worst <= SIZE * 8 // 5 + 4 * settings.stripe_size


async def test_compaction_writes_neighbours_as_one(engine: Engine, autojump_clock: object) -> None:
    await make_file(engine)
    for at in (0, 2, 1, 3, 6, 5):
        await write(engine, at * 60 * KIB, bytes([at]) * 60 * KIB)
        await engine.sync()
    before = extents(engine)
    data = await engine.read(INO, 0, 7 * 60 * KIB)
    moved = [Moved(each, data[each.offset : each.end]) for each in before]
    assert await engine.compactor.swap(moved)
    after = extents(engine)
    # The first stripe is full after four.
    assert [(each.offset, each.end) for each in after] == [(0, 240 * KIB), (300 * KIB, 420 * KIB)]
    assert await engine.read(INO, 0, 7 * 60 * KIB) == data
    await engine.sync()
    assert engine.db.files.live_total() == 360 * KIB
