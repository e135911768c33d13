"""Blocks that are fetched before anybody asks for them: with few calls, verified, and never in anybody's way."""

from __future__ import annotations

import dataclasses

import pytest
import trio

from ecfs.stripes.fact import StripeFact
from ecfs.stripes.prefetch import SHARDS_AT_ONCE, Wish
from tests.unit.stripes.fakes import Pool, payload_of

BLOCK = 65536
MIB = 1 << 20
PARTS = [(at * 3 * BLOCK + 100, 4096) for at in range(20)]


async def stored(pool: Pool, count: int = 3) -> list[tuple[StripeFact, bytes]]:
    payloads = [payload_of(4 * MIB, f"{number}") for number in range(count)]
    stripes = [(await pool.store(payload, counter), payload) for counter, payload in enumerate(payloads)]
    pool.reset_counters()
    return stripes


async def warm(pool: Pool, stripes: list[tuple[StripeFact, bytes]]) -> None:
    await pool.reader.warm([Wish(fact, PARTS) for fact, _ in stripes])


def left(pool: Pool, stripe: tuple[StripeFact, bytes]) -> int:
    """How many parts are not in the cache; those that are, are right."""
    fact, payload = stripe
    parts = [(offset, length, at * 4096) for at, (offset, length) in enumerate(PARTS)]
    into = bytearray(len(parts) * 4096)
    missing = pool.reader.from_cache(fact, parts, into)
    for offset, length, place in {*parts} - {*missing}:
        assert into[place : place + length] == payload[offset : offset + length]
    return len(missing)


async def test_what_is_wanted_of_many_stripes_is_one_call_to_each_drive() -> None:
    pool = Pool(cache=True)
    stripes = await stored(pool)
    await warm(pool, stripes)
    assert [len(drive.batches) for drive in pool.drives] == [1] * 6
    assert [left(pool, stripe) for stripe in stripes] == [0, 0, 0]
    pool.reset_counters()
    await warm(pool, stripes)
    assert pool.slots_read() == []


async def test_a_call_has_a_bounded_number_of_shards() -> None:
    pool = Pool(cache=True)
    facts = [await pool.store(payload_of(4 * BLOCK), number) for number in range(2 * SHARDS_AT_ONCE)]
    await pool.reader.warm([Wish(fact, [(0, 4 * BLOCK)]) for fact in facts])
    assert max(len(batch) for drive in pool.drives for batch in drive.batches) == SHARDS_AT_ONCE


async def test_a_damaged_block_is_left_to_the_read_that_reports_it() -> None:
    pool = Pool(cache=True)
    stripes = await stored(pool, 1)
    fact, payload = stripes[0]
    drive = pool.drive_of(fact, 0)
    damaged = bytearray(drive.shards[fact.key])
    damaged[4096 + 3 * BLOCK + 5] ^= 1
    drive.shards[fact.key] = bytes(damaged)
    await warm(pool, stripes)
    assert left(pool, stripes[0]) == 1
    assert pool.bad == []
    assert await pool.reader.read(fact, 3 * BLOCK, 10) == payload[3 * BLOCK : 3 * BLOCK + 10]
    assert [(stripe, slot) for stripe, slot, _ in pool.bad] == [(fact.id, fact.slot_of(0))]


async def test_the_shard_of_another_generation_is_not_kept() -> None:
    pool = Pool(cache=True)
    (fact, payload) = (await stored(pool, 1))[0]
    other = dataclasses.replace(fact, content_hash=bytes(32))
    await warm(pool, [(other, payload)])
    assert left(pool, (other, payload)) == len(PARTS)
    assert len(pool.reader.cache.headers) == 0


@pytest.mark.parametrize("how", ["gone", "known to lack it", "found bad"])
async def test_with_two_drives_gone_what_a_read_decodes_from_is_fetched(how: str) -> None:
    pool = Pool(cache=True)
    (fact, payload) = (await stored(pool, 1))[0]
    slots = {fact.slot_of(0), fact.slot_of(2)}
    avoid = []
    if how == "gone":
        pool.unreadable = slots
    elif how == "known to lack it":
        avoid = list(slots)
    else:
        for slot in slots:
            del pool.drives[slot].shards[fact.key]
        await pool.reader.read(fact, 0, 4 * MIB)
        pool.reader.cache.forget(fact.id)
        pool.reset_counters()
    await pool.reader.warm([Wish(fact, PARTS, avoid)])
    assert not slots & {*pool.slots_read()}
    pool.reset_counters()
    for offset, length in PARTS:
        assert await pool.reader.read(fact, offset, length, avoid) == payload[offset : offset + length]
    assert pool.slots_read() == []


async def test_a_hung_drive_holds_up_nobody_for_long_and_is_asked_last_then(autojump_clock: trio.abc.Clock) -> None:
    pool = Pool(cache=True)
    stripes = await stored(pool)
    pool.drives[2].delay_s = 3600
    with trio.fail_after(1):
        await warm(pool, stripes)
    fetched = [len(PARTS) - left(pool, stripe) for stripe in stripes]
    assert min(fetched) > 0
    pool.reset_counters()
    await warm(pool, stripes)
    assert 2 not in pool.slots_read()


async def test_a_drive_that_fails_is_no_failure_of_the_others() -> None:
    pool = Pool(cache=True)
    stripes = await stored(pool)
    pool.drives[2].unplug()
    await warm(pool, stripes)
    assert all(left(pool, stripe) < len(PARTS) for stripe in stripes)
    fact, payload = stripes[0]
    assert await pool.reader.read(fact, 0, 4 * MIB) == payload
