"""Reads of healthy stripes: right bytes, and no more I/O than needed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecfs.stripes.prefetch import Wish
from tests.unit.stripes.fakes import Pool, payload_of

SHAPES = [(2, 1), (4, 2), (8, 3)]
BLOCK = 65536
MIB = 1 << 20


@pytest.mark.parametrize(("k", "m"), SHAPES)
async def test_every_range_of_small_stripes(k, m):
    for length in range(1, 2 * k + 2):
        pool = Pool(k, m)
        payload = payload_of(length)
        fact = await pool.store(payload)
        for start in range(length + 1):
            for end in range(start, length + 1):
                assert await pool.reader.read(fact, start, end - start) == payload[start:end]


@pytest.mark.parametrize("offset", [0, 1, BLOCK - 1, BLOCK, MIB - 1, MIB, 3 * MIB + 5])
@pytest.mark.parametrize("length", [1, 4096, BLOCK, BLOCK + 1, MIB - 5])
async def test_ranges_across_blocks_and_fragments(offset, length):
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    for _ in range(2):
        assert await pool.reader.read(fact, offset, length) == payload[offset : offset + length]


@settings(max_examples=50)
@given(st.data())
async def test_any_ranges_one_after_the_other_with_a_small_cache(data):
    pool = Pool(cache=True)
    pool.reader.cache.blocks.limit = 3 * BLOCK
    length = data.draw(st.integers(1, 9 * BLOCK))
    payload = payload_of(length)
    fact = await pool.store(payload)
    for _ in range(5):
        start = data.draw(st.integers(0, length))
        end = data.draw(st.integers(start, length))
        assert await pool.reader.read(fact, start, end - start) == payload[start:end]


async def test_a_small_read_touches_one_block_of_one_data_shard():
    pool = Pool(cache=True)
    fact = await pool.store(payload_of(4 * MIB))
    await pool.reader.read(fact, MIB + 3 * BLOCK + 100, 4096)
    assert pool.slots_read() == [fact.slot_of(1)]
    assert pool.drive_of(fact, 1).reads == [[(0, 4016), (4096 + 3 * BLOCK, BLOCK)]]


async def test_a_known_header_is_not_read_again_and_a_known_block_neither():
    pool = Pool(cache=True)
    fact = await pool.store(payload_of(4 * MIB))
    await pool.reader.read(fact, 0, 10)
    pool.reset_counters()
    await pool.reader.read(fact, BLOCK, 2 * BLOCK)
    assert pool.drive_of(fact, 0).reads == [[(4096 + BLOCK, 2 * BLOCK)]]
    pool.reset_counters()
    await pool.reader.read(fact, 5, 3 * BLOCK - 5)
    assert pool.slots_read() == []


async def test_only_what_is_not_cached_is_read():
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    await pool.reader.read(fact, 2 * BLOCK, 10)
    pool.reset_counters()
    assert await pool.reader.read(fact, 0, 5 * BLOCK) == payload[: 5 * BLOCK]
    assert pool.drive_of(fact, 0).reads == [[(4096, 2 * BLOCK), (4096 + 3 * BLOCK, 2 * BLOCK)]]


async def test_a_whole_stripe_is_read_from_its_k_data_shards():
    pool = Pool()
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    assert await pool.reader.read(fact, 0, 4 * MIB) == payload
    assert pool.slots_read() == sorted(fact.slot_of(index) for index in range(4))
    assert sum(drive.bytes_read for drive in pool.drives) == 4 * MIB + 4 * 4016


async def test_reading_nothing_reads_nothing():
    pool = Pool()
    fact = await pool.store(payload_of(10))
    assert await pool.reader.read(fact, 10, 0) == b""
    assert pool.slots_read() == []


async def test_a_range_outside_of_the_stripe_is_refused():
    pool = Pool()
    fact = await pool.store(payload_of(10))
    with pytest.raises(ValueError, match="outside a stripe of 10 bytes"):
        await pool.reader.read(fact, 5, 6)


async def test_buffers_follow_each_other():
    pool = Pool()
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    buffers = await pool.reader.read_buffers(fact, MIB - 10, 3 * BLOCK)
    assert [len(buffer) for buffer in buffers] == [10, BLOCK, BLOCK, BLOCK - 10]
    assert b"".join(buffers) == payload[MIB - 10 : MIB - 10 + 3 * BLOCK]


async def test_forget_frees_the_cache():
    pool = Pool(cache=True)
    fact = await pool.store(payload_of(100_000))
    await pool.reader.read(fact, 0, 100_000)
    pool.reader.forget(fact.id)
    assert len(pool.reader.cache.blocks) == len(pool.reader.cache.headers) == 0


def _parts(length, pairs):
    """What `Part` wants, and where it would be put: one part behind the other."""
    parts, place = [], 0
    for start, size in pairs:
        size = min(size, length - start)
        parts.append((start, size, place))
        place += size
    return parts, bytearray(place)


@settings(max_examples=50)
@given(st.data())
async def test_many_parts_of_a_stripe_are_what_was_stored(data):
    pool = Pool(cache=data.draw(st.booleans()))
    length = data.draw(st.integers(1, 9 * BLOCK))
    payload = payload_of(length)
    fact = await pool.store(payload)
    pair = st.tuples(st.integers(0, length - 1), st.integers(1, 2 * BLOCK))
    for _ in range(2):
        parts, into = _parts(length, data.draw(st.lists(pair, min_size=1, max_size=20)))
        await pool.reader.read_parts(fact, parts, into)
        for start, size, place in parts:
            assert into[place : place + size] == payload[start : start + size]
        known, copied = _parts(length, [part[:2] for part in parts])
        left = pool.reader.from_cache(fact, known, copied)
        for start, size, place in {*known} - {*left}:
            assert copied[place : place + size] == payload[start : start + size]


async def test_many_parts_of_one_block_fetch_it_once_and_are_in_the_cache_then():
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    parts, into = _parts(len(payload), [(at * 4096, 4096) for at in (5, 1, 20, 2, 9)])
    assert pool.reader.from_cache(fact, parts, into) == parts
    await pool.reader.warm([Wish(fact, [part[:2] for part in parts])])
    assert pool.drive_of(fact, 0).reads == [[(0, 4016), (4096, 2 * BLOCK)]]
    assert pool.reader.from_cache(fact, parts, into) == []
    assert into == b"".join(payload[start : start + size] for start, size, _ in parts)
    across = [(BLOCK - 10, 20, 0), (MIB - 10, 20, 0)]
    assert pool.reader.from_cache(fact, across, into) == across


async def test_the_neighbours_of_a_small_read_are_at_hand_and_nothing_else_is():
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB - 100)
    fact = await pool.store(payload)
    assert pool.reader.at_hand(fact, 4096, 4096) is None
    await pool.reader.read(fact, 4096, 4096)
    await pool.reader.read(fact, len(payload) - 10, 10)
    reads = [len(drive.reads) for drive in pool.drives]
    for start, length in ((0, 4096), (BLOCK - 4096, 4096), (17, 1), (0, BLOCK), (len(payload) - 500, 500)):
        assert pool.reader.at_hand(fact, start, length) == payload[start : start + length]
    assert [len(drive.reads) for drive in pool.drives] == reads
    for start, length in ((BLOCK - 1, 2), (3 * BLOCK, 1), (fact.fragment_length, 1)):
        assert pool.reader.at_hand(fact, start, length) is None
    pool.reader.forget(fact.id)
    assert pool.reader.at_hand(fact, 0, 4096) is None


async def test_parts_are_decoded_where_two_drives_are_gone():
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    pool.unreadable = {fact.slot_of(0), fact.slot_of(2)}
    parts, into = _parts(len(payload), [(at * 3 * BLOCK, 5000) for at in range(20)])
    await pool.reader.read_parts(fact, parts, into)
    assert into == b"".join(payload[start : start + size] for start, size, _ in parts)
