"""A stripe that lacks data shards, read in order: as a whole where that goes smoothly, in blocks where it does not."""

from __future__ import annotations

import trio

from ecfs.stripes.cache import STRIPE_BYTES
from ecfs.stripes.hedge import FLOOR_S
from ecfs.stripes.whole import LATE
from tests.unit.stripes.damage import lying_parity
from tests.unit.stripes.fakes import Pool, payload_of

MIB = 1 << 20
PAYLOAD = payload_of(4 * MIB)


async def test_read_in_order_with_two_drives_gone_each_shard_is_read_once_and_proven():
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    pool.unreadable = {fact.slot_of(1), fact.slot_of(4)}
    for start in range(0, 4 * MIB, MIB // 2):
        assert await pool.reader.read(fact, start, MIB // 2) == PAYLOAD[start : start + MIB // 2]
    assert [len(pool.drive_of(fact, index).reads) for index in range(6)] == [1, 0, 1, 1, 0, 1]


async def test_small_reads_and_those_of_shards_that_are_here_do_not_fetch_a_whole_stripe():
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    pool.unreadable = {fact.slot_of(1)}
    assert await pool.reader.read(fact, MIB + 5, 4096) == PAYLOAD[MIB + 5 : MIB + 5 + 4096]
    assert sum(drive.bytes_read for drive in pool.drives) < MIB
    pool.reset_counters()
    assert await pool.reader.read(fact, 2 * MIB, MIB) == PAYLOAD[2 * MIB : 3 * MIB]
    assert pool.slots_read() == [fact.slot_of(2)]


async def test_a_drive_that_hangs_meanwhile_is_not_waited_for(autojump_clock):
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    pool.unreadable = {fact.slot_of(0)}
    pool.drive_of(fact, 2).delay_s = 1e9
    start = trio.current_time()
    assert await pool.reader.read(fact, 0, 4 * MIB) == PAYLOAD
    assert trio.current_time() - start <= (LATE + 2) * FLOOR_S + 0.001


async def test_a_lying_parity_shard_is_found_by_the_content_hash_and_reported():
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    pool.unreadable = {fact.slot_of(0)}
    lying_parity(pool, fact, 4)
    assert await pool.reader.read(fact, 0, 4 * MIB) == PAYLOAD
    assert pool.bad_slots == [fact.slot_of(4)]


async def test_shards_known_to_be_missing_are_not_asked_and_not_reported():
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    lost = [fact.slot_of(0), fact.slot_of(3)]
    for slot in lost:
        del pool.drives[slot].shards[fact.key]
    assert await pool.reader.read(fact, 0, 4 * MIB, avoid=lost) == PAYLOAD
    assert not pool.bad
    assert not {slot for slot in lost if pool.drives[slot].reads}


async def test_who_waits_for_a_stripe_that_can_t_be_had_as_a_whole_reads_it_in_blocks():
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    pool.unreadable = {fact.slot_of(0)}
    for index, block in ((1, 3), (2, 5)):  # with these, four whole shards are not left
        pool.flip(fact, index, 4096 + block * 65536)
    found: dict[int, bytes] = {}

    async def read(start: int) -> None:
        found[start] = await pool.reader.read(fact, start, MIB)

    async with trio.open_nursery() as nursery:
        for start in range(0, 4 * MIB, MIB):
            nursery.start_soon(read, start)
    assert found == {start: PAYLOAD[start : start + MIB] for start in range(0, 4 * MIB, MIB)}


async def test_what_is_kept_is_bounded_and_forgotten_with_the_stripe():
    pool = Pool(cache=True)
    facts = [await pool.store(PAYLOAD, counter) for counter in range(1, 7)]
    for fact in facts:
        pool.unreadable = {fact.slot_of(0)}
        await pool.reader.read(fact, 0, MIB)
    kept = pool.reader.cache.stripes
    assert 4 * 4 * MIB < kept.used <= kept.limit == STRIPE_BYTES
    pool.reader.forget(facts[-1].id)
    pool.reset_counters()
    assert await pool.reader.read(facts[-1], 0, MIB) == PAYLOAD[:MIB]
    assert len(pool.slots_read()) == 4


async def test_a_pool_told_to_keep_little_keeps_no_whole_stripes():
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    pool.unreadable = {fact.slot_of(0)}
    assert await pool.reader.read(fact, 0, 4 * MIB) == PAYLOAD
    assert pool.reader.cache.used == 0
