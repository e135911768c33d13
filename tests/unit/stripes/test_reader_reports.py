"""What a read takes for damage besides rotten bytes, whom it tells, and whom it then asks."""

from __future__ import annotations

import pytest
import trio

from ecfs.errors import DriveUnreachableError, FormatTooNewError, ShardCorruptError, ShardMissingError, StripeLostError
from ecfs.geometry import Geometry, stripe_id
from ecfs.shard import parse_header
from ecfs.stripes.bad import BadShards
from ecfs.stripes.reader import StripeReader
from ecfs.stripes.writer import encode_stripe
from tests.unit.stripes.damage import BLOCK, damage, lying_parity
from tests.unit.stripes.fakes import POOL_ID, Pool, payload_of

MIB = 1 << 20

# ---- shards of something else -----------------------------------------------------------------------------


async def test_a_shard_of_another_generation_is_rejected_also_when_header_and_blocks_were_cached():
    pool = Pool(cache=True)
    old = await pool.store(payload_of(5000, "old"))
    assert await pool.reader.read(old, 0, 5000) == payload_of(5000, "old")
    new = pool.encode(payload_of(5000, "new"))
    for index in (0, 2, 4, 5):
        pool.drive_of(old, index).shards[old.key] = b"".join(new.buffers(index))
    assert await pool.reader.read(new.fact, 0, 5000) == payload_of(5000, "new")
    assert "another content" in str(pool.bad[0][2])


async def test_generations_are_not_mixed_when_neither_has_k_shards():
    pool = Pool()
    old = await pool.store(payload_of(5000, "old"))
    new = pool.encode(payload_of(5000, "new"))
    for index in (0, 2, 4):
        pool.drive_of(old, index).shards[old.key] = b"".join(new.buffers(index))
    for fact in (old, new.fact):
        with pytest.raises(StripeLostError, match="another content"):
            await pool.new_reader().read(fact, 0, 5000)


async def test_a_shard_of_another_pool_stripe_or_geometry_is_rejected():
    pool = Pool()
    payload = payload_of(5000)
    fact = await pool.store(payload)
    foreign = [
        encode_stripe(b"another pool's i", fact.id, "s", fact.geometry, payload),
        encode_stripe(POOL_ID, stripe_id(1, 8), "s", fact.geometry, payload),
        encode_stripe(POOL_ID, fact.id, "c", fact.geometry, payload),
        encode_stripe(POOL_ID, fact.id, "s", Geometry(2, 4, 2), payload),
    ]
    for encoded in foreign:
        pool.drive_of(fact, 1).shards[fact.key] = b"".join(encoded.buffers(1))
        assert await pool.new_reader().read(fact, 0, 5000) == payload
    assert [str(error).split("another ")[1].split(":")[0] for _, _, error in pool.bad] == [
        "pool",
        "stripe",
        "key space",
        "geometry",
    ]


async def test_two_drives_that_were_swapped_are_both_rejected():
    pool = Pool()
    payload = payload_of(5000)
    fact = await pool.store(payload)
    one, two = pool.drive_of(fact, 0), pool.drive_of(fact, 1)
    one.shards, two.shards = two.shards, one.shards
    assert await pool.reader.read(fact, 0, 5000) == payload
    assert pool.bad_slots == sorted([one.slot, two.slot])


async def test_a_shard_of_a_newer_format_is_read_around_and_not_given_to_heal(monkeypatch):
    pool = Pool()
    payload = payload_of(5000)
    fact = await pool.store(payload)

    def newer_if_first(data):
        header = parse_header(data)
        if header.index == 0:
            raise FormatTooNewError("format 2")
        return header

    monkeypatch.setattr("ecfs.stripes.fetch.parse_header", newer_if_first)
    assert await pool.reader.read(fact, 0, 5000) == payload
    assert pool.bad == []


async def test_a_drive_that_answers_too_few_ranges_is_corrupt_and_not_believed(monkeypatch):
    pool = Pool()
    payload = payload_of(5000)
    fact = await pool.store(payload)

    async def read(key, ranges):
        return [b""]

    monkeypatch.setattr(pool.drive_of(fact, 0), "read", read)
    assert await pool.reader.read(fact, 0, 5000) == payload
    assert pool.bad_slots == [fact.slot_of(0)]


@pytest.mark.parametrize("in_parts", [False, True])
async def test_of_a_longer_answer_no_byte_that_nothing_was_compared_with_is_given_out(in_parts, monkeypatch):
    """The next block comes from the cache: what the drive sent behind its own must not lie in its place."""
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    await pool.reader.read(fact, 4 * BLOCK + 5, 100)
    drive = pool.drive_of(fact, 0)
    honest = drive.read

    async def read(key, ranges):
        *others, last = await honest(key, ranges)
        return [*others, last + b"x" * BLOCK]

    monkeypatch.setattr(drive, "read", read)
    into = bytearray(5 * BLOCK)
    if in_parts:
        await pool.reader.read_parts(fact, [(0, 5 * BLOCK, 0)], into)
    else:
        into[:] = await pool.reader.read(fact, 0, 5 * BLOCK)
    assert into == payload[: 5 * BLOCK]


# ---- reporting --------------------------------------------------------------------------------------------


async def test_what_is_bad_is_reported_once_and_then_not_asked_again():
    pool = Pool()
    payload = payload_of(5000)
    fact = await pool.store(payload)
    damage(pool, fact, 0, "missing")
    damage(pool, fact, 1, "every block")
    for _ in range(3):
        assert await pool.reader.read(fact, 0, 5000) == payload
    missing, corrupt = sorted(pool.bad, key=lambda report: fact.index_of(report[1]))
    assert missing[:2] == (fact.id, fact.slot_of(0))
    assert isinstance(missing[2], ShardMissingError)
    assert corrupt[:2] == (fact.id, fact.slot_of(1))
    assert isinstance(corrupt[2], ShardCorruptError)
    assert (corrupt[2].slot, corrupt[2].key) == (fact.slot_of(1), fact.key)
    assert len(pool.drive_of(fact, 0).reads) == 1


async def test_after_forget_a_repaired_shard_is_read_and_a_bad_one_reported_anew():
    pool = Pool()
    payload = payload_of(5000)
    fact = await pool.store(payload)
    pool.flip(fact, 0, -1)
    await pool.reader.read(fact, 0, 5000)
    pool.reader.forget(fact.id)
    await pool.reader.read(fact, 0, 5000)
    assert pool.bad_slots == [fact.slot_of(0)] * 2
    pool.flip(fact, 0, -1)
    pool.reader.forget(fact.id)
    pool.reset_counters()
    assert await pool.reader.read(fact, 0, 5000) == payload
    assert pool.slots_read() == sorted(fact.slot_of(index) for index in range(4))


@pytest.mark.parametrize("length", [MIB, MIB + BLOCK])
@pytest.mark.parametrize("damage", ["cut off", "bad sector"])
async def test_damage_is_told_although_a_request_for_each_block_takes_longer_than_anybody_waits(length, damage):
    """The drive said at once that the shard is damaged; it is not late, and is not shunned."""
    pool = Pool()
    pool.p95_s = 0.005
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    for drive in pool.drives:
        drive.delay_s = 0.004
    drive = pool.drive_of(fact, 0)
    if damage == "cut off":
        drive.shards[fact.key] = drive.shards[fact.key][:-10]
    else:
        drive.unreadable_at = 4096 + 5 * BLOCK
    start = trio.current_time()
    assert await pool.reader.read(fact, 0, length) == payload[:length]
    assert pool.bad_slots == [drive.slot]
    assert not pool.reader._context.hedge.is_shunned(drive.slot)
    assert trio.current_time() - start == pytest.approx(2 * 0.004)  # its answer, then that of the others


async def test_the_pool_is_told_which_drives_answered():
    """So that time-outs are counted in a row, not over the life of a mount."""
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    await pool.reader.read(fact, 0, 5000)
    assert sorted(pool.answers) == sorted(fact.slot_of(index) for index in range(4))


async def test_a_drive_that_fails_is_told_to_the_pool_and_not_to_heal():
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    damage(pool, fact, 0, "unplugged")
    await pool.reader.read(fact, 0, 5000)
    assert pool.bad == []
    ((slot, error),) = pool.failures
    assert slot == fact.slot_of(0)
    assert isinstance(error, DriveUnreachableError)


async def test_slots_known_to_miss_theirs_are_not_asked_nor_reported():
    pool = Pool()
    payload = payload_of(5000)
    fact = await pool.store(payload)
    avoid = {fact.slot_of(0), fact.slot_of(4)}
    for index in (0, 4):
        damage(pool, fact, index, "missing")
    assert await pool.reader.read(fact, 0, 5000, avoid) == payload
    assert pool.bad == []
    assert not set(pool.slots_read()) & avoid


async def test_slots_known_to_miss_theirs_are_asked_when_nothing_else_is_left():
    pool = Pool()
    payload = payload_of(5000)
    fact = await pool.store(payload)
    for index in (1, 2):
        damage(pool, fact, index, "missing")
    assert await pool.reader.read(fact, 0, 5000, [fact.slot_of(0), fact.slot_of(4)]) == payload


async def test_slots_known_to_miss_theirs_are_not_reported_when_asked_in_need():
    pool = Pool()
    fact = await pool.store(payload_of(5000))
    for index in (0, 1, 2):
        damage(pool, fact, index, "missing")
    with pytest.raises(StripeLostError) as caught:
        await pool.reader.read(fact, 0, 5000, [fact.slot_of(0)])
    assert set(caught.value.reasons) == {fact.slot_of(index) for index in (0, 1, 2)}
    assert pool.bad_slots == sorted(fact.slot_of(index) for index in (1, 2))


async def test_a_degraded_read_of_one_block_reads_one_block_of_k_shards():
    pool = Pool()
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    pool.unreadable = {fact.slot_of(0)}
    assert await pool.reader.read(fact, 3 * BLOCK, 100) == payload[3 * BLOCK : 3 * BLOCK + 100]
    assert pool.slots_read() == sorted(fact.slot_of(index) for index in (1, 2, 3, 4))
    assert {drive.bytes_read for drive in pool.drives} == {0, 4016 + BLOCK}


async def test_rebuilt_blocks_are_cached():
    pool = Pool(cache=True)
    payload = payload_of(4 * MIB)
    fact = await pool.store(payload)
    pool.unreadable = {fact.slot_of(0)}
    await pool.reader.read(fact, 0, 100)
    pool.reset_counters()
    assert await pool.reader.read(fact, 100, 100) == payload[100:200]
    assert pool.slots_read() == []
    assert pool.reader.cache.block(fact, 0, 0) == payload[:BLOCK]


async def test_a_bad_shard_is_reported_once_however_many_find_it_and_memory_of_it_is_bounded():
    pool = Pool()
    bad = BadShards(pool.on_bad, limit=10_000)
    error = ShardMissingError("no such shard")
    for stripe in range(1000):
        for _ in range(2):
            bad.report(stripe, 3, error)
    assert pool.bad == [(stripe, 3, error) for stripe in range(1000)]
    assert bad.is_known(999, 3)
    assert not bad.is_known(999, 2)
    assert not bad.is_known(0, 3)
    bad.forget(999)
    assert not bad.is_known(999, 3)


# ---- verified shards that contradict each other -----------------------------------------------------------


async def test_a_lying_parity_shard_is_found_out_by_the_damaged_shards_own_checksum():
    pool = Pool()
    payload = payload_of(4 * BLOCK)
    fact = await pool.store(payload)
    lying_parity(pool, fact, 4)
    pool.flip(fact, 0, -1)
    assert await pool.reader.read(fact, 0, len(payload)) == payload
    assert pool.bad_slots == sorted([fact.slot_of(0), fact.slot_of(4)])


async def test_a_lying_parity_shard_and_no_other_set_of_k_is_an_error():
    pool = Pool()
    fact = await pool.store(payload_of(4 * BLOCK))
    lying_parity(pool, fact, 4)
    pool.flip(fact, 0, -1)
    damage(pool, fact, 5, "missing")
    with pytest.raises(StripeLostError, match="contradicts the other shards"):
        await pool.reader.read(fact, 0, 10)


def test_a_reader_without_a_cache_argument_has_one_of_its_own():
    assert StripeReader(Pool(), POOL_ID).cache is not StripeReader(Pool(), POOL_ID).cache
