"""Promise 4: up to m damaged shards of a stripe are read around; beyond that an error, and never a wrong byte."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecfs.errors import StripeLostError
from ecfs.shard import parse_header
from tests.unit.stripes.damage import BLOCK, DAMAGES, damage, subsets_up_to
from tests.unit.stripes.fakes import Pool, payload_of

SHAPES = [(2, 1), (4, 2), (8, 3)]
MIB = 1 << 20


# ---- within m ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 1000, 12345, 65535, 65536, 65537, 300_000])
async def test_every_set_of_up_to_m_damaged_shards(k, m, length):
    payload = payload_of(length)
    kinds = itertools.cycle(DAMAGES)
    for lost in subsets_up_to(k + m, m):
        pool = Pool(k, m)
        fact = await pool.store(payload)
        for index in lost:
            damage(pool, fact, index, next(kinds))
        assert await pool.reader.read(fact, 0, length) == payload, lost


@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("length", [MIB, 4 * MIB - 13, 4 * MIB])
async def test_every_set_of_m_lost_shards_of_a_large_stripe(k, m, length):
    payload = payload_of(length)
    pool = Pool(k, m)
    fact = await pool.store(payload)
    for lost in itertools.combinations(range(k + m), m):
        pool.unreadable = {fact.slot_of(index) for index in lost}
        assert await pool.new_reader().read(fact, 0, length) == payload, lost


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("cache", [False, True])
async def test_every_kind_of_damage_in_every_pair_of_shards(kind, cache):
    payload = payload_of(5 * BLOCK + 3)
    for lost in itertools.combinations(range(6), 2):
        pool = Pool(cache=cache)
        fact = await pool.store(payload)
        for index in lost:
            damage(pool, fact, index, kind)
        for start in (0, 2 * BLOCK, 5 * BLOCK):
            assert await pool.reader.read(fact, start, 3) == payload[start : start + 3]
        assert await pool.reader.read(fact, 0, len(payload)) == payload


async def test_damage_in_other_blocks_of_more_than_m_shards_is_read_around():
    """Every row still has k good blocks, although every single shard has a bad one."""
    pool = Pool()
    payload = payload_of(4 * 6 * BLOCK)
    fact = await pool.store(payload)
    for index in range(6):
        pool.flip(fact, index, 4096 + index * BLOCK)
    assert await pool.reader.read(fact, 0, len(payload)) == payload


@pytest.mark.parametrize("headers_known", [False, True])
async def test_cut_off_shards_are_still_used_up_to_the_cut(headers_known):
    """Every row has k whole blocks, but reading all of a shard at once fails on three of them."""
    pool = Pool()
    payload = payload_of(4 * 3 * BLOCK)
    fact = await pool.store(payload)
    if headers_known:
        for index in range(6):
            pool.reader.cache.put_header(fact, parse_header(pool.drive_of(fact, index).shards[fact.key]))
    for index, blocks in ((0, 0), (1, 1), (2, 2), (3, 2)):
        drive = pool.drive_of(fact, index)
        drive.shards[fact.key] = drive.shards[fact.key][: 4096 + blocks * BLOCK + 5]
    for row in range(2):
        for index in range(4):
            start = (3 * index + row) * BLOCK
            assert await pool.reader.read(fact, start, BLOCK) == payload[start : start + BLOCK]
    assert await pool.new_reader().read(fact, 6 * BLOCK, 2 * BLOCK) == payload[6 * BLOCK : 8 * BLOCK]
    with pytest.raises(StripeLostError):
        await pool.reader.read(fact, 8 * BLOCK, 1)


async def test_one_unreadable_sector_costs_one_block_and_not_the_shard():
    pool = Pool()
    payload = payload_of(4 * 6 * BLOCK)
    fact = await pool.store(payload)
    for index in range(6):
        pool.drive_of(fact, index).unreadable_at = 4096 + index * BLOCK + 99
    assert await pool.reader.read(fact, 0, len(payload)) == payload
    assert set(pool.bad_slots) >= {fact.slot_of(index) for index in range(4)}


@settings(max_examples=150)
@given(st.data())
async def test_random_damage_never_gives_wrong_bytes(data):
    k, m = data.draw(st.sampled_from(SHAPES))
    length = data.draw(st.one_of(st.integers(1, 40), st.integers(k * BLOCK - 2, k * BLOCK + 2)))
    pool = Pool(k, m, cache=data.draw(st.booleans()))
    payload = payload_of(length)
    fact = await pool.store(payload)
    hurt = data.draw(st.lists(st.integers(0, k + m - 1), unique=True, max_size=m + 2))
    for index in hurt:
        size = len(pool.drive_of(fact, index).shards[fact.key])
        pool.flip(fact, index, data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, 255)))
    for _ in range(3):
        start = data.draw(st.integers(0, length))
        end = data.draw(st.integers(start, length))
        try:
            assert await pool.reader.read(fact, start, end - start) == payload[start:end]
        except StripeLostError:
            assert len(hurt) > m


# ---- beyond m ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "m"), SHAPES)
async def test_every_set_of_more_than_m_damaged_shards_is_an_error(k, m):
    payload = payload_of(1000)
    kinds = itertools.cycle(DAMAGES)
    for lost in itertools.combinations(range(k + m), m + 1):
        pool = Pool(k, m)
        fact = await pool.store(payload)
        for index in lost:
            damage(pool, fact, index, next(kinds))
        if all(index >= k for index in lost):
            assert await pool.reader.read(fact, 0, 1000) == payload
            continue
        with pytest.raises(StripeLostError) as caught:
            await pool.reader.read(fact, 0, 1000)
        assert caught.value.stripe_id == fact.id
        assert set(caught.value.reasons) == {fact.slot_of(index) for index in lost}


async def test_what_is_still_there_of_a_lost_stripe_can_be_read():
    pool = Pool()
    payload = payload_of(4000)
    fact = await pool.store(payload)
    for index in (0, 4, 5):
        damage(pool, fact, index, "missing")
    assert await pool.reader.read(fact, 1000, 3000) == payload[1000:]
    with pytest.raises(StripeLostError, match="no such shard"):
        await pool.reader.read(fact, 999, 2)
