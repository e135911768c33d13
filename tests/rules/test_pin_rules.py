"""R13: a stripe that dies while somebody reads it; what the compactor read and the user has overwritten meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ecfs.commit.compactor import RETRY_S
from ecfs.commit.engine import Engine
from ecfs.errors import DriveTimeoutError
from ecfs.shard import shard_key
from tests.memory_pool import MemoryPool
from tests.rules.test_commit_rules import FaultyPool
from tests.unit.commit.test_engine import INO, data, make_file, write

SIZE = 400_000
MIB = 1 << 20


@pytest.fixture
async def pool(tmp_path: Path) -> FaultyPool:
    pool = FaultyPool(tmp_path)
    await pool.create()
    return pool


async def test_r13_a_read_that_waits_while_its_stripe_dies_gets_what_was_there(
    pool: FaultyPool, autojump_clock: MockClock
) -> None:
    """Without pins: six times missing, a false "data lost"."""
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        await write(engine, 0, data(SIZE))
        await engine.sync()
        (stripe,) = [fact.id for fact in engine.db.ledger.facts(0, 10)]
        engine.pool.reader.forget(stripe)
        for drive in pool.faulty:
            drive.hanging.add("read")
        answers: list[bytes] = []

        async def read() -> None:
            answers.append(await engine.read(INO, 0, SIZE))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.1)
            await write(engine, 0, data(SIZE, 2))
            await engine.sync()
            await trio.sleep(0.1)
            assert all(shard_key("s", stripe) in store.names for store in pool.stores)
            for drive in pool.faulty:
                drive.release()
        assert answers == [data(SIZE)]
        await engine.reaper.drain()
        assert not any(shard_key("s", stripe) in store.names for store in pool.stores)
        assert await engine.read(INO, 0, SIZE) == data(SIZE, 2)


async def test_r13_the_compactor_never_puts_back_what_was_overwritten_meanwhile(
    pool: FaultyPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool.engine() as engine:
        await make_file(engine)
        await write(engine, 0, data(SIZE))
        await engine.sync()
        await write(engine, 0, data(300_000, 2))
        await engine.sync()
        gather = engine.compactor._gather

        async def overwritten_after_reading(stripe: int) -> object:
            moved = await gather(stripe)
            await write(engine, 350_000, data(20_000, 3))
            for sealed in engine.sealer.seal_all():
                engine.queue_stripe(sealed)
            return moved

        monkeypatch.setattr(engine.compactor, "_gather", overwritten_after_reading)
        await engine.compactor.compact_once()
        await engine.sync()
        expected = bytearray(data(SIZE))
        expected[:300_000] = data(300_000, 2)
        expected[350_000:370_000] = data(20_000, 3)
        assert await engine.read(INO, 0, SIZE) == expected
    pool.crash()
    async with pool.engine() as engine:
        assert await engine.read(INO, 0, SIZE) == expected


async def two_thin_stripes(engine: Engine) -> list[int]:
    """Two stripes of 1 MiB, of which a tenth is alive."""
    await make_file(engine)
    await write(engine, 0, data(2 * MIB))
    await engine.sync()
    thin = [row.stripe for row in engine.db.files.stripes_by_liveness(10)]
    for half in range(2):
        await write(engine, half * MIB, data(9 * MIB // 10, 7))
    await engine.sync()
    return thin


async def test_r13_the_compactor_leaves_a_stripe_alone_that_died_while_it_read_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """It was deleted before it was pinned: read all the same, six shards were told as missing."""
    pool = MemoryPool(tmp_path, stripe_size=MIB, seal_at=MIB, inline_at_most=0)
    await pool.create()
    async with pool.engine() as engine:
        assert len(await two_thin_stripes(engine)) == 2
        await engine.read(INO, 0, 2 * MIB)  # a program reads the file
        told: list[object] = []
        engine.pool.on_bad = lambda *about: told.append(about)
        real, begun, go_on = engine.files.read_stripe, trio.Event(), trio.Event()

        async def read_stripe(stripe: int) -> bytes:
            if not begun.is_set():
                begun.set()
                await go_on.wait()
            return await real(stripe)

        monkeypatch.setattr(engine.files, "read_stripe", read_stripe)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.compactor.compact_once)
            await begun.wait()
            await write(engine, 0, data(2 * MIB, 9))
            await engine.sync()
            await trio.sleep(5)  # what nobody has pinned is deleted
            go_on.set()
        assert told == []
        assert not engine.compactor._hopeless


async def test_a_stripe_that_could_not_be_read_for_a_moment_is_compacted_later(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    pool = MemoryPool(tmp_path, stripe_size=MIB, seal_at=MIB, inline_at_most=0)
    await pool.create()
    async with pool.engine() as engine:
        assert len(await two_thin_stripes(engine)) == 2
        is_busy = True

        def fail(operation: str, key: str) -> None:
            if is_busy and operation == "read":
                raise DriveTimeoutError("busy")

        for drive in pool.drives[:3]:
            drive.on_operation = fail
        assert not await engine.compactor.compact_once()
        is_busy = False
        assert not await engine.compactor.compact_once()  # not at once: each try reads whole stripes
        await trio.sleep(RETRY_S)
        assert await engine.compactor.compact_once()


async def test_a_round_of_deletions_that_is_cancelled_leaves_the_rest_to_the_next(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A program is killed while room is made for what it writes. Forgotten, what it waited for to be deleted took room
    until the next mount."""
    pool = MemoryPool(tmp_path, stripe_size=MIB, seal_at=MIB, inline_at_most=0)
    await pool.create()
    async with pool.engine() as engine:
        await make_file(engine)
        await write(engine, 0, data(2 * MIB))
        await engine.sync()
        first, second = sorted(row.stripe for row in engine.db.files.stripes_by_liveness(10))
        async with trio.open_nursery() as killed:
            with engine.pool.pins.pin(second):
                with engine.pool.pins.pin(first):
                    await write(engine, 0, data(MIB, 3))
                    await engine.sync()
                    await trio.sleep(1)  # the background has begun a round, and waits for the pin
                    await write(engine, MIB, data(MIB, 4))
                    await engine.sync()
                    killed.start_soon(engine.reaper.drain)
                    await trio.sleep(1)
                await trio.sleep(1)  # its turn: it waits for the other pin
                killed.cancel_scope.cancel()
        await engine.reaper.drain()
        assert not any(shard_key("s", second) in store.names for store in pool.stores)
        await engine.sync()
        assert not list(engine.db.ledger.garbage())
