"""A drive that is late is not waited for, one that is only slow is not given up."""

from __future__ import annotations

import itertools

import pytest
import trio
import trio.testing

from ecfs.errors import DriveTimeoutError, StripeLostError
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.hedge import FLOOR_S, LONGEST_SHUN_S, Hedge
from tests.unit.stripes.fakes import Pool, payload_of

PAYLOAD = payload_of(400_000)


async def timed_read(pool: Pool, fact: StripeFact) -> float:
    """Read everything, check it, return how many seconds it took."""
    start = trio.current_time()
    assert await pool.reader.read(fact, 0, len(PAYLOAD)) == PAYLOAD
    return trio.current_time() - start


async def test_every_pair_of_hung_drives_costs_two_pauses_at_most(autojump_clock):
    for hung in itertools.combinations(range(6), 2):
        pool = Pool()
        fact = await pool.store(PAYLOAD)
        for index in hung:
            pool.drive_of(fact, index).delay_s = 1e9
        pause = await timed_read(pool, fact)
        assert pause == (
            0 if hung == (4, 5) else pytest.approx(FLOOR_S) if 4 not in hung else pytest.approx(2 * FLOOR_S)
        )


async def test_a_hung_drive_is_shunned_and_asked_again_now_and_then(autojump_clock):
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    hung = pool.drive_of(fact, 2)
    hung.delay_s = 1e9
    pauses = []
    for _ in range(1000):
        pauses.append(await timed_read(pool, fact))
        await trio.sleep(0.01)
    assert sum(pause > 0 for pause in pauses) == len(hung.reads) <= 12
    hung.delay_s = 0
    await trio.sleep(LONGEST_SHUN_S)
    assert await timed_read(pool, fact) == 0
    assert len(hung.reads) <= 13
    assert not pool.bad
    assert not pool.failures


async def test_patience_follows_the_drives_own_latency(autojump_clock):
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    pool.p95_s = 0.1
    pool.drive_of(fact, 0).delay_s = 0.25
    assert await timed_read(pool, fact) == pytest.approx(0.25)
    assert not pool.drive_of(fact, 4).reads
    pool.drive_of(fact, 0).delay_s = 0.4
    assert await timed_read(pool, fact) == pytest.approx(0.3)
    assert pool.drive_of(fact, 4).reads


async def test_a_late_answer_that_comes_before_the_spares_is_taken(autojump_clock):
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    pool.drive_of(fact, 0).delay_s = 0.05
    for index in (4, 5):
        pool.drive_of(fact, index).delay_s = 10
    assert await timed_read(pool, fact) == pytest.approx(0.05)
    pool.reset_counters()
    for index in (4, 5):
        pool.drive_of(fact, index).delay_s = 0
    assert await timed_read(pool, fact) == 0
    assert not pool.drive_of(fact, 0).reads, "an answer that came late does not end the shunning"


async def test_a_drive_is_not_late_because_somebody_else_held_up_the_event_loop(autojump_clock):
    """A stripe that is being encoded blocks for some milliseconds; that must not double the reads."""
    for _ in range(20):
        pool = Pool()
        fact = await pool.store(PAYLOAD)
        for drive in pool.drives:
            drive.delay_s = FLOOR_S / 2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.reader.read, fact, 0, len(PAYLOAD))
            await trio.testing.wait_all_tasks_blocked()
            autojump_clock.jump(10 * FLOOR_S)
        assert pool.slots_read() == sorted(fact.slot_of(index) for index in range(4))


async def test_a_pool_that_is_slow_as_a_whole_still_answers(autojump_clock):
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    for drive in pool.drives:
        drive.delay_s = 8
    assert await timed_read(pool, fact) == pytest.approx(8)
    for drive in pool.drives:
        drive.delay_s = 0
    assert await timed_read(pool, fact) == 0


async def test_more_than_m_hung_drives_are_waited_for_until_their_deadline(autojump_clock):
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    for index in (0, 1, 2):
        drive = pool.drive_of(fact, index)
        drive.delay_s = 30
        drive.error = DriveTimeoutError("no answer", slot=drive.slot)
    start = trio.current_time()
    with pytest.raises(StripeLostError, match="no answer"):
        await pool.reader.read(fact, 0, 10)
    assert trio.current_time() - start <= 31
    assert len(pool.failures) == 3


async def test_a_hung_drive_of_which_nothing_is_needed_is_not_noticed(autojump_clock):
    pool = Pool()
    fact = await pool.store(PAYLOAD)
    pool.drive_of(fact, 1).delay_s = 1e9
    start = trio.current_time()
    assert await pool.reader.read(fact, 0, 1000) == PAYLOAD[:1000]
    assert trio.current_time() == start


async def test_shunning_doubles_up_to_its_limit_and_ends_with_an_answer(autojump_clock):
    hedge = Hedge(Pool())
    lengths = []
    for _ in range(8):
        hedge.was_late(3)
        start = trio.current_time()
        while hedge.is_shunned(3):
            hedge.was_late(3)  # while it is shunned, that says nothing new
            await trio.sleep(0.01)
        lengths.append(round(trio.current_time() - start, 1))
    assert lengths == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    hedge.was_late(3)
    hedge.answered(3)
    assert not hedge.is_shunned(3)
    assert not hedge.is_shunned(0)
