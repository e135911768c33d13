"""A file that was overwritten at random lies in many small pieces of many stripes: read in order all the same."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from ecfs.commit.engine import Engine
from ecfs.commit.readahead import BLOCKS, NEAR, WINDOW, ReadAhead, first_blocks, is_fragmented
from ecfs.drive.memory import MemoryDrive
from ecfs.errors import CorruptError
from ecfs.geometry import BLOCK_SIZE
from ecfs.meta import Extent, Inode
from tests.memory_pool import MemoryPool
from tests.unit.commit.test_engine import INO, make_file, write

KIB = 1024
MIB = KIB * KIB
SIZE = 3 * MIB
PIECE = 4 * KIB


@pytest.fixture
async def pool(tmp_path: Path) -> MemoryPool:
    pool = MemoryPool(tmp_path, stripe_size=MIB, seal_at=2 * MIB)
    await pool.create()
    return pool


async def aged(engine: Engine, rounds: int = 2) -> bytes:
    """Make the file and overwrite so many times its size at random; its bytes."""
    chance = random.Random(rounds)
    expected = bytearray(chance.randbytes(SIZE))
    await make_file(engine)
    await write(engine, 0, bytes(expected))
    await engine.sync()
    for _ in range(rounds * SIZE // PIECE):
        at = chance.randrange(SIZE // PIECE) * PIECE
        expected[at : at + PIECE] = block = chance.randbytes(PIECE)
        await write(engine, at, block)
    await engine.sync()
    return bytes(expected)


async def in_order(engine: Engine, step: int) -> bytes:
    return b"".join([await engine.read(INO, at, min(step, SIZE - at)) for at in range(0, SIZE, step)])


class Reads:
    """Counts the ranges that all drives are asked for, by shard."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ranges: Counter[tuple[str, str, int]] = Counter()
        self.calls = 0
        plain = MemoryDrive.read

        async def read(drive: MemoryDrive, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
            self.calls += 1
            for offset, length in ranges:
                starts = range(offset, offset + length, BLOCK_SIZE)
                self.ranges.update((drive.url, key, start) for start in starts)
            return await plain(drive, key, ranges)

        monkeypatch.setattr(MemoryDrive, "read", read)


async def small_files(engine: Engine, count: int) -> list[bytes]:
    """Files 100, 101, … of one piece each, in one stripe; their bytes."""
    chance = random.Random(count)
    data = [chance.randbytes(PIECE) for _ in range(count)]
    for number, each in enumerate(data):
        engine.db.names.add_inode(Inode(100 + number, 0o100644, 0, 0, 1, PIECE, 0, 0, 0, 0))
        engine.write(100 + number, 0, each)
    engine.changed()
    await engine.sync()
    return data


@pytest.mark.parametrize("lost", [(), (1, 4)])
async def test_small_files_read_in_the_order_of_their_making_ask_the_drives_rarely(
    pool: MemoryPool, monkeypatch: pytest.MonkeyPatch, lost: tuple[int, ...]
) -> None:
    async with pool.engine() as engine:
        data = await small_files(engine, 256)
        for slot in lost:
            engine.pool.members.take_down(slot, "absent", "pulled")
        reads = Reads(monkeypatch)
        assert [await engine.read(100 + number, 0, PIECE) for number in range(256)] == data
        assert reads.calls <= 8  # 16 blocks hold it all; one by one, they were 16


async def test_small_files_read_in_any_order_fetch_their_own_block_only(
    pool: MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool.engine() as engine:
        data = await small_files(engine, 256)
        reads = Reads(monkeypatch)
        for number in (200, 100, 10, 60, 150):
            assert await engine.read(100 + number, 0, PIECE) == data[number]
        assert sum(start >= BLOCK_SIZE // 16 for _, _, start in reads.ranges) == 5


@pytest.mark.parametrize("lost", [(), (1, 4)])
async def test_every_byte_of_an_aged_file_is_what_was_written_last(pool: MemoryPool, lost: tuple[int, ...]) -> None:
    async with pool.engine() as engine:
        expected = await aged(engine)
    async with pool.engine() as engine:
        for slot in lost:
            engine.pool.members.take_down(slot, "absent", "pulled")
        assert await in_order(engine, 128 * KIB) == expected
        assert await in_order(engine, 100_000) == expected
        chance = random.Random(1)
        for _ in range(100):
            lo, hi = sorted((chance.randrange(SIZE), chance.randrange(SIZE)))
            assert await engine.read(INO, lo, hi - lo) == expected[lo:hi]


async def test_reading_an_aged_file_in_order_fetches_each_block_once(
    pool: MemoryPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool.engine() as engine:
        expected = await aged(engine)
    async with pool.engine() as engine:
        reads = Reads(monkeypatch)
        assert await in_order(engine, 64 * KIB) == expected
        assert max(reads.ranges.values()) == 1
        # Hundreds of pieces, one call for each shard of a stripe that has any.
        assert reads.calls <= 6 * len({key for _, key, _ in reads.ranges})


async def test_what_is_written_over_a_window_that_was_read_ahead_is_read(pool: MemoryPool) -> None:
    async with pool.engine() as engine:
        expected = bytearray(await aged(engine))
        await engine.read(INO, 0, 64 * KIB)
        for at, size in ((64 * KIB, PIECE), (200 * KIB, 3 * PIECE), (MIB, MIB)):
            expected[at : at + size] = new = random.Random(at).randbytes(size)
            await write(engine, at, new)
        assert await in_order(engine, 64 * KIB) == expected
        await engine.sync()
        assert await in_order(engine, 64 * KIB) == expected


async def test_damage_further_on_in_an_aged_file_is_no_error_of_what_is_read_before_it(pool: MemoryPool) -> None:
    """Promise 4: what can be read is read; only who asks for the damaged bytes gets EIO."""
    async with pool.engine() as engine:
        expected = bytearray(await aged(engine))
        expected[2 * MIB : 2 * MIB + 100] = new = bytes(100)
        await write(engine, 2 * MIB, new)
        await engine.sync()
    async with pool.engine() as engine:
        engine.db.store.run("UPDATE inline SET crc = crc + 1")
        assert await engine.read(INO, 0, 64 * KIB) == expected[: 64 * KIB]
        with pytest.raises(CorruptError):
            await engine.read(INO, 2 * MIB, 64 * KIB)


# ---- which windows ------------------------------------------------------------------------------------------------


class Fetches:
    """What was asked for; `hold` keeps it on its way."""

    def __init__(self) -> None:
        self.windows: list[tuple[int, int, int]] = []
        self.hold = trio.Event()
        self.reach = WINDOW

    async def __call__(self, ino: int, lo: int, hi: int) -> int:
        self.windows.append((ino, lo, hi))
        await self.hold.wait()
        return lo + self.reach


async def test_two_reads_in_one_window_have_it_fetched_once() -> None:
    fetches = Fetches()
    ahead = ReadAhead(fetches)
    async with trio.open_nursery() as nursery:
        for ino, offset in ((7, 0), (7, MIB), (8, MIB), (7, WINDOW)):
            nursery.start_soon(ahead.fetch, ino, offset)
            await trio.testing.wait_all_tasks_blocked()
        fetches.hold.set()
    assert sorted(fetches.windows) == [(7, 0, WINDOW), (7, WINDOW, 2 * WINDOW), (8, MIB, MIB + WINDOW)]
    await ahead.fetch(7, MIB)
    assert fetches.windows[-1] == (7, MIB, MIB + WINDOW)


async def test_a_window_that_nobody_fetches_any_more_holds_up_nobody() -> None:
    fetches = Fetches()
    ahead = ReadAhead(fetches)
    given_up = trio.CancelScope()

    async def first() -> None:
        with given_up:
            await ahead.fetch(7, 0)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ahead.fetch, 7, MIB)
            await trio.testing.wait_all_tasks_blocked()
            given_up.cancel()
        fetches.hold.set()
        await ahead.fetch(7, MIB)
    assert fetches.windows == [(7, 0, WINDOW), (7, MIB, MIB + WINDOW)]


async def test_where_a_window_had_to_end_early_the_next_one_begins() -> None:
    fetches = Fetches()
    fetches.reach = MIB
    ahead = ReadAhead(fetches)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ahead.fetch, 7, 0)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ahead.fetch, 7, MIB)
        await trio.testing.wait_all_tasks_blocked()
        fetches.hold.set()
    assert fetches.windows == [(7, 0, WINDOW), (7, MIB, MIB + WINDOW)]


def test_a_read_that_goes_on_where_one_ended_is_in_order() -> None:
    ahead = ReadAhead(Fetches())
    assert ahead.is_in_order(7, 0, MIB)
    assert ahead.is_in_order(7, MIB, MIB)
    assert ahead.is_in_order(7, 3 * MIB, MIB)  # the kernel asks for several at once
    assert ahead.is_in_order(7, 2 * MIB, MIB)
    assert not ahead.is_in_order(7, 3 * MIB + NEAR + 1, PIECE)
    assert ahead.is_in_order(7, 3 * MIB + NEAR + PIECE, PIECE)
    for other in range(100):
        ahead.is_in_order(other + 8, 0, PIECE)
    assert not ahead.is_in_order(7, 3 * MIB + NEAR + 2 * PIECE, PIECE)  # too long ago to be remembered


def test_a_window_is_bounded_by_the_blocks_that_it_needs() -> None:
    scattered = [Extent(7, at * PIECE, PIECE, at + 1, 0) for at in range(1000)]
    assert first_blocks(scattered) == BLOCKS
    packed = [Extent(7, at * PIECE, PIECE, 1, at * PIECE) for at in range(1000)]
    assert first_blocks(packed) == len(packed)


def test_small_pieces_make_a_file_fragmented() -> None:
    assert is_fragmented(32, 128 * KIB)
    assert not is_fragmented(1, 128 * KIB)
