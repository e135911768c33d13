"""A piece of one shard: one request where all is well, blocks where it is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
import trio.testing

from ecfs.drive.health import Latencies
from ecfs.errors import DriveTimeoutError
from ecfs.geometry import BLOCK_SIZE
from ecfs.stripes.fetch import Source
from ecfs.stripes.hedge import FLOOR_S
from ecfs.stripes.reading import Reading
from tests.unit.stripes.fakes import Pool, payload_of

MIB = 1 << 20
PAYLOAD = payload_of(4 * MIB)


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Counts the reads that are done in blocks."""
    counted, real = SimpleNamespace(reads=0), Reading.gather

    async def gather(self: Reading) -> None:
        counted.reads += 1
        await real(self)

    monkeypatch.setattr(Reading, "gather", gather)
    return counted


async def test_a_stream_is_one_request_per_piece_and_leaves_the_cache_alone(in_blocks):
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    for start in range(0, 4 * MIB, MIB // 2):
        assert await pool.reader.read(fact, start, MIB // 2) == PAYLOAD[start : start + MIB // 2]
    assert in_blocks.reads == 0
    assert [len(pool.drive_of(fact, index).reads) for index in range(6)] == [2, 2, 2, 2, 0, 0]
    assert len(pool.reader.cache.blocks) == 0


async def test_the_last_piece_of_an_odd_stripe_ends_where_the_fragment_does(in_blocks):
    payload = payload_of(3_000_001)
    pool = Pool()
    fact = await pool.store(payload)
    start = fact.fragment_length + 2 * BLOCK_SIZE
    length = fact.fragment_length - 2 * BLOCK_SIZE
    assert await pool.reader.read(fact, start, length) == payload[start : start + length]
    assert in_blocks.reads == 0


@pytest.mark.parametrize(
    ("start", "length", "kept"),
    [(0, MIB, []), (5, 4096, [0]), (BLOCK_SIZE, BLOCK_SIZE, [1]), (BLOCK_SIZE - 1, 2, [0, 1]), (5, MIB - 10, [0, 15])],
)
async def test_blocks_of_which_somebody_may_want_another_part_are_cached(in_blocks, start, length, kept):
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    assert await pool.reader.read(fact, start, length) == PAYLOAD[start : start + length]
    assert in_blocks.reads == 0
    assert [row for row in range(16) if pool.reader.cache.block(fact, 0, row) is not None] == kept


async def test_a_range_in_two_shards_or_partly_in_the_cache_is_read_in_blocks(in_blocks):
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    assert await pool.reader.read(fact, MIB - 5, 10) == PAYLOAD[MIB - 5 : MIB + 5]
    assert await pool.reader.read(fact, MIB // 2, MIB // 2) == PAYLOAD[MIB // 2 : MIB]
    assert in_blocks.reads == 2
    assert pool.drive_of(fact, 0).bytes_read < MIB // 2 + BLOCK_SIZE


async def test_every_damaged_byte_is_found_read_around_and_reported():
    for position in (-1, -MIB, 100, 3000):
        pool = Pool(cache=True)
        fact = await pool.store(PAYLOAD)
        pool.flip(fact, 2, position)
        assert await pool.reader.read(fact, 2 * MIB, MIB) == PAYLOAD[2 * MIB : 3 * MIB]
        assert pool.bad_slots == [fact.slot_of(2)]


async def test_a_drive_that_can_t_be_read_or_should_not_be_asked_is_not(in_blocks):
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    slot = fact.slot_of(1)
    assert await pool.reader.read(fact, MIB, MIB, avoid={slot}) == PAYLOAD[MIB : 2 * MIB]
    pool.unreadable = {slot}
    assert await pool.reader.read(fact, MIB, MIB) == PAYLOAD[MIB : 2 * MIB]
    assert slot not in pool.slots_read()
    assert not pool.failures


async def test_a_drive_that_fails_is_told_to_the_pool():
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    pool.drive_of(fact, 0).unplug()
    assert await pool.reader.read(fact, 0, MIB) == PAYLOAD[:MIB]
    assert {slot for slot, _ in pool.failures} == {fact.slot_of(0)}


async def test_a_late_drive_costs_one_pause_and_is_shunned(autojump_clock):
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    pool.drive_of(fact, 0).delay_s = 1e9
    start = trio.current_time()
    assert await pool.reader.read(fact, 0, MIB) == PAYLOAD[:MIB]
    assert trio.current_time() - start == pytest.approx(FLOOR_S)
    assert await pool.reader.read(fact, 0, MIB) == PAYLOAD[:MIB]
    assert trio.current_time() - start == pytest.approx(FLOOR_S)
    assert len(pool.drive_of(fact, 0).reads) == 1


async def test_a_drive_is_not_late_because_somebody_else_held_up_the_event_loop(autojump_clock):
    for _ in range(20):
        pool = Pool()
        fact = await pool.store(PAYLOAD)
        pool.drive_of(fact, 0).delay_s = FLOOR_S / 2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.reader.read, fact, 0, MIB)
            await trio.testing.wait_all_tasks_blocked()
            autojump_clock.jump(10 * FLOOR_S)
        assert pool.slots_read() == [fact.slot_of(0)]


async def test_who_gives_up_takes_the_request_along(autojump_clock, monkeypatch: pytest.MonkeyPatch):
    """A program that is killed in a read: no request may go on, and no drive be taken for late."""
    ended, real = [], Source.blocks

    async def blocks(self, numbers, header):
        try:
            return await real(self, numbers, header)
        finally:
            ended.append(self.slot)

    monkeypatch.setattr(Source, "blocks", blocks)
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    pool.drive_of(fact, 0).delay_s = FLOOR_S / 2
    with trio.move_on_after(FLOOR_S / 4):
        await pool.reader.read(fact, 0, MIB)
    assert ended == [fact.slot_of(0)]
    assert await pool.reader.read(fact, 0, MIB) == PAYLOAD[:MIB]
    assert pool.slots_read() == [fact.slot_of(0)]


class LearningPool(Pool):
    """Whose drives' speed is learnt from answered reads alone, as `HealthDrive` does it."""

    def __init__(self) -> None:
        super().__init__()
        self.latencies = [Latencies() for _ in self.drives]
        self.cancelled = 0
        for slot, drive in enumerate(self.drives):
            self._watch(slot, drive)

    def _watch(self, slot, drive):
        real = drive.read

        async def read(key, ranges):
            began = trio.current_time()
            try:
                found = await real(key, ranges)
            except trio.Cancelled:
                self.cancelled += 1
                raise
            self.latencies[slot].add(trio.current_time() - began)
            return found

        drive.read = read

    def latency_p95(self, slot: int) -> float:
        return self.latencies[slot].recent_p95


@pytest.mark.parametrize(
    ("known", "before_s"), [(0, 0.05), (4, 0.05), (5, 0.05), (6, 0.001)], ids=["none", "four", "five", "quick"]
)
async def test_a_pool_of_slow_drives_learns_that_they_are(autojump_clock, known, before_s):
    """Nodes far away, buckets: given up as late, a drive that nothing is known of was shunned for ever."""
    pool = LearningPool()
    facts = [await pool.store(PAYLOAD, counter) for counter in range(6)]
    for latencies in pool.latencies[:known]:
        for _ in range(4 if before_s > 0.01 else 256):
            latencies.add(before_s)
    for drive in pool.drives:
        drive.delay_s = 0.05
    for at in range(1200):
        offset = at * 7919 % 4 * MIB
        assert await pool.reader.read(facts[at * 7 // 3 % 6], offset, MIB) == PAYLOAD[offset : offset + MIB]
        if at == 599:
            pool.cancelled = 0
    assert pool.cancelled == 0


async def test_a_drive_that_goes_silent_costs_one_deadline(autojump_clock):
    pool = Pool()
    pool.p95_s = 0.8  # so that patience is longer than the deadline
    fact = await pool.store(PAYLOAD)
    drive = pool.drive_of(fact, 0)
    drive.delay_s, drive.error = 2.0, DriveTimeoutError("no answer within 2 s", slot=drive.slot)
    start = trio.current_time()
    assert await pool.reader.read(fact, 0, MIB) == PAYLOAD[:MIB]
    assert trio.current_time() - start == pytest.approx(2.0)


def every_other(drive, spoil):
    """Each second answer of the drive is well, the others are what `spoil` makes of them."""
    real, counted = drive.read, 0

    async def read(key, ranges):
        nonlocal counted
        counted += 1
        found = await real(key, ranges)
        return spoil(found) if counted % 2 else found

    drive.read = read


async def test_damage_that_shows_now_and_then_is_reported():
    """A cable, or a node's memory: the second request is answered well, and the first must not be forgotten."""
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    drive = pool.drive_of(fact, 0)
    every_other(drive, lambda found: [*found[:-1], found[-1][:-1] + bytes([found[-1][-1] ^ 1])])
    for _ in range(2):
        assert await pool.reader.read(fact, 0, MIB) == PAYLOAD[:MIB]
    assert set(pool.bad_slots) == {drive.slot}


async def test_failures_now_and_then_are_counted(autojump_clock):
    pool = Pool()
    pool.p95_s = 10
    fact = await pool.store(PAYLOAD)
    drive = pool.drive_of(fact, 0)

    def fail(found):
        raise DriveTimeoutError("no answer", slot=drive.slot)

    every_other(drive, fail)
    assert await pool.reader.read(fact, 0, MIB) == PAYLOAD[:MIB]
    assert len(pool.failures) == 1


async def test_blocks_that_are_well_are_not_fetched_again_because_of_one_that_is_not():
    pool = Pool(cache=True)
    fact = await pool.store(PAYLOAD)
    pool.flip(fact, 0, 4096 + 100)
    assert await pool.reader.read(fact, 0, MIB) == PAYLOAD[:MIB]
    assert pool.drive_of(fact, 0).bytes_read < 1.2 * MIB


@pytest.mark.parametrize(
    "change", [lambda b: b + b"x" * 70000, lambda b: b[:-1], lambda b: b"", lambda b: b[1:] + b[:1], lambda b: b * 2]
)
@pytest.mark.parametrize("payload", [PAYLOAD, payload_of(3_000_001)], ids=["full", "odd"])
async def test_answers_of_another_length_give_no_wrong_bytes(payload, change):
    for start, length in ((0, 700_000), (5, 4096), (BLOCK_SIZE, BLOCK_SIZE), (BLOCK_SIZE - 1, 2), (0, 1)):
        pool = Pool(cache=True)
        fact = await pool.store(payload)
        every_other(pool.drive_of(fact, 0), lambda found: [*found[:-1], change(found[-1])])
        for _ in range(3):
            assert await pool.reader.read(fact, start, length) == payload[start : start + length]
