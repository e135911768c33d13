"""Long reads: what they leave in the cache, and many of them at once while shards are missing."""

from __future__ import annotations

import trio

from tests.unit.stripes.fakes import Pool, payload_of

BLOCK = 64 * 1024
MIB = 1 << 20


async def test_a_stream_does_not_drive_out_what_small_reads_left_in_the_cache():
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    pool.reader.cache.blocks.limit = 2 * BLOCK
    await pool.reader.read(fact, 5 * BLOCK, 10)
    assert await pool.reader.read(fact, MIB, 3 * MIB) == payload[MIB:]
    pool.reset_counters()
    assert await pool.reader.read(fact, 5 * BLOCK + 10, 10) == payload[5 * BLOCK + 10 : 5 * BLOCK + 20]
    assert pool.slots_read() == []


async def test_the_ends_of_a_stream_that_share_a_block_with_the_next_one_are_cached():
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    await pool.reader.read(fact, 0, 10 * BLOCK + 100)
    pool.reset_counters()
    assert await pool.reader.read(fact, 10 * BLOCK + 100, 50) == payload[10 * BLOCK + 100 : 10 * BLOCK + 150]
    assert pool.slots_read() == []


async def test_pieces_of_a_stripe_read_at_once_with_two_drives_gone_fetch_each_shard_once():
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    pool.unreadable = {fact.slot_of(0), fact.slot_of(1)}
    found: dict[int, bytes] = {}

    async def read(piece: int) -> None:
        found[piece] = await pool.reader.read(fact, piece * MIB, MIB)

    async with trio.open_nursery() as nursery:
        for piece in (0, 1):
            nursery.start_soon(read, piece)
    assert found == {piece: payload[piece * MIB : (piece + 1) * MIB] for piece in (0, 1)}
    assert [len(pool.drive_of(fact, index).reads) for index in range(6)] == [0, 0, 1, 1, 1, 1]


async def test_rows_that_lack_different_shards_are_decoded_each_from_its_own_sources():
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    # Block 2 of shard 0 and block 5 of shard 4 are damaged; shard 1 is gone.
    for index, block in ((0, 2), (4, 5)):
        drive = pool.drive_of(fact, index)
        shard = bytearray(drive.shards[fact.key])
        shard[4096 + block * BLOCK + 7] ^= 1
        drive.shards[fact.key] = bytes(shard)
    pool.unreadable = {fact.slot_of(1)}
    assert await pool.reader.read(fact, 0, 4 * MIB) == payload
