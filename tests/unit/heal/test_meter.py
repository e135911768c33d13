"""The time left of a scrub, against the truth, on a simulated clock while the speed changes."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from ecfs.heal.meter import REBUILD, SILENT_S, VERIFY, Meter
from ecfs.heal.report import ScrubProgress

MIB = 1 << 20
Guess = tuple[float, float, float | None]
"""Seconds since the beginning, share of the work that is done, and the time left that was shown."""


class Pace:
    """How many bytes/s a disk does at a moment."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def now(self, seconds: float) -> float:
        raise NotImplementedError


class Noisy(Pace):
    """Between a third and twice the usual, from one second to the next."""

    def now(self, seconds: float) -> float:
        return 100 * MIB * self._chance.uniform(0.35, 2.0)


class Waves(Pace):
    """Programs that come and go: fifteen seconds fast, fifteen slow; now and then nothing at all for five."""

    def now(self, seconds: float) -> float:
        if seconds % 97 < 5:
            return 2 * MIB
        return (150 if seconds % 30 < 15 else 60) * MIB


class Slope(Pace):
    """A disk that is slower towards its inner tracks: at the end three quarters of the beginning."""

    def now(self, seconds: float) -> float:
        return max(75, 100 - seconds / 60) * MIB


async def guesses(pace: Pace, total: int, *, rebuilt: int = 0, limit: float | None = None) -> tuple[list[Guess], float]:
    """What is shown during a run over `total` bytes, of which the first `rebuilt` cost six times as much each."""
    progress = ScrubProgress()
    meter = Meter(progress, None, limit)
    meter.add_total(total - rebuilt, (total - rebuilt) // (16 * MIB))
    meter.add_total(rebuilt, rebuilt // (2 * MIB), REBUILD)
    shown: list[Guess] = []
    for _ in range(100 if rebuilt and not limit else 0):  # what the rebuild is begun with: it can't see longer waves
        await trio.sleep(16 * MIB / pace.now(0))
        meter.sampled(16 * MIB)
    meter.begin(REBUILD if rebuilt else VERIFY)
    began, left = trio.current_time(), total
    while left > 0:
        dear = total - left < rebuilt
        size = min(left, (2 if dear else 16) * MIB)
        await trio.sleep(size * (6 if dear else 1) / pace.now(trio.current_time() - began))
        await meter.add(size, 1)
        left -= size
        if total - left >= rebuilt:
            meter.begin(VERIFY)
        work = (total - left) + 5 * min(total - left, rebuilt)
        shown.append((trio.current_time() - began, work / (total + 5 * rebuilt), progress.eta_s))
    return shown, trio.current_time() - began


def assert_honest(shown: list[Guess], took: float) -> None:
    """From 10 % of the work on, within 25 % of the truth, or 10 s."""
    for at, share, eta in shown:
        if share < 0.1 or at < SILENT_S + 2:  # what is shown is as old as the last wait
            continue
        assert eta is not None
        assert abs(eta - (took - at)) <= max(0.25 * (took - at), 10), f"at {at:.0f} of {took:.0f} s: {eta:.0f} s left?"


@pytest.mark.parametrize(
    ("pace", "rebuilt"), [(Noisy, 0), (Waves, 0), (Slope, 0), (Noisy, 4_000 * MIB), (Slope, 4_000 * MIB)]
)
async def test_within_a_quarter_of_the_truth(pace: type[Pace], rebuilt: int, autojump_clock: MockClock) -> None:
    for seed in range(2):
        shown, took = await guesses(pace(seed), 60_000 * MIB, rebuilt=rebuilt)
        assert took > 400
        assert_honest(shown, took)


@pytest.mark.parametrize("each", [0.12, 0.4, 4.0])
@pytest.mark.parametrize("large_first", [True, False])
async def test_what_small_shards_cost_beside_large_ones_is_learnt(
    each: float, large_first: bool, autojump_clock: MockClock
) -> None:
    """each: MiB that could be read while a shard is opened; measured were 0.12 at 10 MB/s and 0.4 on drives in memory.

    Before shards of the other kind were seen nobody can know, and half of the time is spent on them here.
    """
    blocks = [[MIB] * 1_500, [MIB // 20] * 4_500]
    sizes = (blocks if large_first else blocks[::-1]) * 2

    def takes(size: int) -> float:
        return (size + each * MIB) / (25 * MIB)

    shown, took = await walk([size for block in sizes for size in block], takes, limit=None)
    learnt = (sum(map(takes, sizes[0])) + 0.1 * sum(map(takes, sizes[1]))) / took
    assert 0.1 < learnt < 0.5
    assert_honest([guess for guess in shown if guess[1] > learnt], took)


@pytest.mark.parametrize("large_first", [True, False])
async def test_under_a_limit_only_bytes_count(large_first: bool, autojump_clock: MockClock) -> None:
    sizes = [MIB] * 2_000 + [MIB // 20] * 6_000
    sizes = sizes if large_first else sizes[::-1]
    shown, took = await walk(sizes, lambda size: (size + 0.4 * MIB) / (500 * MIB), limit=10.0 * MIB)
    assert took == pytest.approx(sum(sizes) / (10 * MIB), rel=0.05)
    assert_honest(shown, took)


async def walk(sizes: list[int], takes: Callable[[int], float], limit: float | None) -> tuple[list[Guess], float]:
    """Verify shards of these sizes, six at a time, in `takes(size)` seconds by six drives together."""
    progress, shown = ScrubProgress(), list[tuple[float, float | None]]()
    meter = Meter(progress, None, limit)
    meter.add_total(sum(sizes), len(sizes))
    began = trio.current_time()

    async def verify(size: int) -> None:
        await trio.sleep(6 * takes(size))
        await meter.checked(size)

    for at in range(0, len(sizes), 6):
        async with trio.open_nursery() as nursery:
            for size in sizes[at : at + 6]:
                nursery.start_soon(verify, size)
        shown.append((trio.current_time() - began, progress.eta_s))
    took = trio.current_time() - began
    return [(at, at / took, eta) for at, eta in shown], took


async def test_phases_in_which_nothing_is_counted_are_foreseen_and_pass(autojump_clock: MockClock) -> None:
    progress = ScrubProgress()
    meter = Meter(progress, None, None)
    meter.phase("stripes")
    meter.add_total(60 * MIB, 60)
    meter.foresee("journals", 20.0, 10 * MIB)
    meter.foresee("leftovers", 40.0)
    for _ in range(60):
        await trio.sleep(1.25)  # as fast as 10 MiB in 10 s, with what a shard usually costs besides
        await meter.checked(MIB)
    assert progress.eta_s == pytest.approx(20 + 10 + 40, rel=0.01)
    meter.phase("journals")
    await trio.sleep(10)
    meter.tick()
    assert progress.eta_s == pytest.approx(20 + 40, rel=0.01)
    await trio.sleep(500)
    meter.tick()
    assert progress.eta_s == pytest.approx(40, rel=0.01)  # longer than foreseen: no more can be said of it
    meter.phase("leftovers")
    await trio.sleep(39)
    meter.tick()
    assert progress.eta_s == pytest.approx(1, rel=0.01)


async def test_a_change_for_good_is_followed_within_a_minute(autojump_clock: MockClock) -> None:
    class Slower(Pace):
        def now(self, seconds: float) -> float:
            return (100 if seconds < 200 else 25) * MIB

    shown, took = await guesses(Slower(0), 60_000 * MIB)
    assert_honest([guess for guess in shown if guess[0] > 200 + 60], took)


async def test_under_a_limit_that_rules_both_stages(autojump_clock: MockClock) -> None:
    """Rebuilding is then as fast per byte as verifying, and must not foretell six times the speed."""
    shown, took = await guesses(Noisy(3), 3000 * MIB, rebuilt=600 * MIB, limit=10.0 * MIB)
    assert took == pytest.approx(300, rel=0.05)
    assert_honest(shown, took)


async def test_nothing_is_said_for_half_a_minute(autojump_clock: MockClock) -> None:
    shown, _ = await guesses(Noisy(1), 10_000 * MIB)
    assert all(eta is None for at, _, eta in shown if at < SILENT_S)
    assert all(eta is not None for at, _, eta in shown if at >= SILENT_S)


async def test_what_an_earlier_run_did_does_not_count_as_speed(autojump_clock: MockClock) -> None:
    progress = ScrubProgress()
    meter = Meter(progress, None, None)
    meter.resume_at(50_000 * MIB)
    meter.add_total(50_000 * MIB, 5_000)
    for _ in range(100):
        await trio.sleep(1)
        await meter.add(10 * MIB, 1)
    assert progress.rate == pytest.approx(10 * MIB, rel=0.05)
    assert progress.eta_s == pytest.approx(4900, rel=0.05)
    assert (progress.bytes_done, progress.bytes_total) == (51_000 * MIB, 100_000 * MIB)


async def test_a_new_limit_holds_from_now_on(autojump_clock: MockClock) -> None:
    meter = Meter(ScrubProgress(), None, 1000.0)
    began = trio.current_time()
    await meter.add(10_000, 1)
    assert trio.current_time() - began == pytest.approx(10)
    meter.limit_to(100.0)
    await meter.add(1000, 1)
    assert trio.current_time() - began == pytest.approx(20)
