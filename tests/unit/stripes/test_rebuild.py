"""Rebuilding makes the very bytes that were lost, proves them, and starts from nothing unverified."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecfs.errors import DriveUnreachableError, ShardCorruptError, ShardMissingError, StripeLostError
from ecfs.shard import verify_shard
from ecfs.stripes.rebuild import check_shard
from tests.unit.stripes.damage import BLOCK, DAMAGES, damage, lying_parity, subsets_up_to
from tests.unit.stripes.fakes import POOL_ID, Pool, payload_of

SHAPES = [(2, 1), (4, 2), (8, 3)]


@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 12345, 65537, 300_000])
async def test_every_set_of_up_to_m_shards_comes_back_byte_by_byte(k, m, length):
    kinds = itertools.cycle(DAMAGES)
    for lost in subsets_up_to(k + m, m):
        pool = Pool(k, m)
        fact = await pool.store(payload_of(length))
        before = [drive.shards[fact.key] for drive in pool.drives]
        for index in lost:
            damage(pool, fact, index, next(kinds))
        slots = [fact.slot_of(index) for index in lost]
        assert await pool.rebuild(fact, *slots) == {slot: before[slot] for slot in slots}


async def test_shards_of_a_full_stripe_come_back():
    pool = Pool()
    fact = await pool.store(payload_of(4 << 20))
    before = [drive.shards[fact.key] for drive in pool.drives]
    for lost in itertools.combinations(range(6), 2):
        pool.unreadable = set(lost)
        assert await pool.rebuild(fact, *lost) == {slot: before[slot] for slot in lost}


async def test_only_k_shards_are_read_and_never_the_accused_one():
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    await pool.rebuild(fact, fact.slot_of(1), avoid=[fact.slot_of(2)])
    assert pool.slots_read() == sorted(fact.slot_of(index) for index in (0, 3, 4, 5))


@pytest.mark.parametrize("kind", DAMAGES)
async def test_bad_sources_are_passed_over_and_reported(kind):
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    before = pool.drive_of(fact, 0).shards[fact.key]
    damage(pool, fact, 0, "missing")
    damage(pool, fact, 2, kind)
    assert await pool.rebuild(fact, fact.slot_of(0)) == {fact.slot_of(0): before}
    told = {slot for slot, _ in pool.failures} | set(pool.bad_slots) | pool.unreadable
    assert told == {fact.slot_of(2)}
    assert not any("contradicts" in str(error) for _, _, error in pool.bad), "should not have come as far as a decode"


async def test_one_wrong_byte_anywhere_in_a_source_disqualifies_it():
    """A block read would not notice: it is in a block that nobody wants."""
    pool = Pool()
    fact = await pool.store(payload_of(4 * 3 * BLOCK))
    for position in (4015, 4016, 4095, 4096, 4096 + BLOCK, -1):
        pool.flip(fact, 1, position)
        pool.unreadable = {fact.slot_of(index) for index in (2, 3)}
        with pytest.raises(StripeLostError) as caught:
            await pool.rebuild(fact, fact.slot_of(2))
        assert fact.slot_of(1) in caught.value.reasons
        pool.flip(fact, 1, position)


async def test_the_accused_shard_is_used_if_it_turns_out_to_be_sound_and_needed():
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    pool.unreadable = {fact.slot_of(index) for index in (1, 2)}
    slots = [fact.slot_of(index) for index in (0, 1)]
    assert set(await pool.rebuild(fact, *slots)) == set(slots)


@pytest.mark.parametrize(("k", "m"), SHAPES)
async def test_beyond_m_nothing_is_handed_out(k, m):
    for lost in itertools.combinations(range(k + m), m + 1):
        pool = Pool(k, m)
        fact = await pool.store(payload_of(100))
        for index in lost:
            damage(pool, fact, index, "every block")
        with pytest.raises(StripeLostError) as caught:
            await pool.rebuild(fact, fact.slot_of(lost[0]))
        assert set(caught.value.reasons) == {fact.slot_of(index) for index in lost}


@settings(max_examples=100)
@given(st.data())
async def test_random_damage_never_gives_a_wrong_shard(data):
    k, m = data.draw(st.sampled_from(SHAPES))
    pool = Pool(k, m)
    fact = await pool.store(payload_of(data.draw(st.integers(1, 50))))
    before = [drive.shards[fact.key] for drive in pool.drives]
    hurt = data.draw(st.lists(st.integers(0, k + m - 1), unique=True, max_size=m + 2))
    for index in hurt:
        position = data.draw(st.integers(0, len(before[0]) - 1))
        pool.flip(fact, index, position, data.draw(st.integers(1, 255)))
    wanted = data.draw(st.lists(st.integers(0, k + m - 1), unique=True))
    try:
        assert await pool.rebuild(fact, *wanted) == {slot: before[slot] for slot in wanted}
    except StripeLostError:
        assert len(hurt) > m


async def test_a_lying_parity_shard_is_voted_out_by_the_content_hash_and_reported():
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    before = pool.drive_of(fact, 0).shards[fact.key]
    damage(pool, fact, 0, "missing")
    lying_parity(pool, fact, 4)
    assert await pool.rebuild(fact, fact.slot_of(0)) == {fact.slot_of(0): before}
    ((_, slot, error),) = pool.bad
    assert slot == fact.slot_of(4)
    assert "content hash" in str(error)


async def test_a_lying_parity_shard_never_makes_a_wrong_one():
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    for index in (0, 5):
        damage(pool, fact, index, "missing")
    lying_parity(pool, fact, 4)
    with pytest.raises(StripeLostError) as caught:
        await pool.rebuild(fact, fact.slot_of(0), fact.slot_of(5))
    assert set(caught.value.reasons) == set(range(6))


# ---- check_shard ------------------------------------------------------------------------------------------


async def test_check_accepts_every_sound_shard():
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    for slot in range(6):
        await check_shard(pool.drive(slot), fact, slot, POOL_ID)
        assert verify_shard(pool.drives[slot].shards[fact.key]).index == fact.index_of(slot)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("missing", ShardMissingError),
        ("header", ShardCorruptError),
        ("every block", ShardCorruptError),
        ("cut off", ShardCorruptError),
        ("generation", ShardCorruptError),
        ("swapped", ShardCorruptError),
        ("unplugged", DriveUnreachableError),
    ],
)
async def test_check_names_what_is_wrong(kind, error):
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    slot = fact.slot_of(3)
    damage(pool, fact, 3, kind)
    with pytest.raises(error) as caught:
        await check_shard(pool.drive(slot), fact, slot, POOL_ID)
    assert caught.value.slot == slot
