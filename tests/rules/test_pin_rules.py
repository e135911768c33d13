"""R13: a stripe that dies while somebody reads it; what the compactor read and the user has overwritten meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ecfs.shard import shard_key
from tests.rules.test_commit_rules import FaultyPool
from tests.unit.commit.test_engine import INO, data, make_file, write

SIZE = 400_000


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
