"""What is dirty, beside the plainest thing that could hold it; and when it is sealed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecfs.commit.dirty import Dirty
from tests.memory_pool import MemoryPool
from tests.unit.commit.test_engine import INO, data, make_file, write

KIB = 1 << 10
Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "cut", "drop", "take"]), st.integers(1, 3), st.integers(0, 40), st.integers(1, 30)
    ),
    max_size=40,
)


@given(STEPS)
def test_dirty_bytes_are_those_written_last_and_all_are_counted(steps: list[Step]) -> None:
    dirty, model = Dirty(), dict[tuple[int, int], int]()
    for number, (step, ino, offset, length) in enumerate(steps):
        span = range(offset, offset + length)
        if step == "write":
            dirty.write(ino, offset, bytes([number % 256]) * length)
            model |= {(ino, at): number % 256 for at in span}
        elif step == "cut":
            dirty.cut(ino, offset, offset + length)
            model = {key: value for key, value in model.items() if key[0] != ino or key[1] not in span}
        elif step == "drop":
            dirty.drop(ino)
            model = {key: value for key, value in model.items() if key[0] != ino}
        else:
            for each, start, taken in dirty.take(length):
                for at, value in enumerate(taken, start):
                    assert model.pop((each, at)) == value
        files = [file for each in (1, 2, 3) if (file := dirty.file(each)) is not None]
        found = {
            (each, start + at): value
            for each in (1, 2, 3)
            if (file := dirty.file(each)) is not None
            for start, piece in file.pieces(0, 100)
            for at, value in enumerate(piece)
        }
        assert found == model
        assert dirty.total == len(model)
        assert dirty.runs == sum(map(len, files))


@pytest.fixture
async def pool(tmp_path: Path) -> MemoryPool:
    pool = MemoryPool(tmp_path, stripe_size=512 * KIB, seal_at=2048 * KIB, inline_at_most=0)
    await pool.create()
    return pool


async def test_what_is_written_in_order_is_sealed_as_soon_as_it_fills_a_stripe(pool: MemoryPool) -> None:
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        for number in range(3):
            await write(engine, number * 256 * KIB, data(256 * KIB))
        assert engine.in_memory() == 768 * KIB
        assert engine.dirty.total == 256 * KIB


async def test_small_pieces_wait_until_more_of_them_are_there(pool: MemoryPool) -> None:
    """Neighbours that come later lie in the same stripe; what is overwritten or deleted soon is never written."""
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        for number in range(500):
            await write(engine, number * 8 * KIB, data(4 * KIB))
        assert engine.dirty.total == 2000 * KIB
        for number in range(500, 513):
            await write(engine, number * 8 * KIB, data(4 * KIB))
        assert engine.dirty.total < 2048 * KIB
        assert await engine.read(INO, 8 * KIB, 4 * KIB) == data(4 * KIB)
