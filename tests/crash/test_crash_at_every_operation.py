"""The power goes at the k-th drive operation, of anything. ``make crash`` runs all of them; here is a sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.recording import Recording
from tests.crash.scenarios import SCENARIOS
from tests.sim.scheduler import simulate
from tests.sim.world import World


async def record(scenario: str, seed: int, scratch: Path) -> Recording:
    recording = Recording(World(seed, scratch))
    await recording.begin()
    await SCENARIOS[scenario](recording)
    recording.world.kill()
    assert len(recording.cuts) > 20
    return recording


async def judge_some(scenario: str, seed: int, scratch: Path, cuts: int, thorough: int) -> None:
    """Some cuts without one set of drives each, and some of those without every allowed set."""
    recording = await record(scenario, seed, scratch)
    for number, cut in enumerate(recording.sampled(cuts)):
        await recording.judge(cut, 1 if number >= thorough else 0, seed)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_crash_at_any_operation_opens_to_a_moment(tmp_path: Path, scenario: str) -> None:
    simulate(1, judge_some, scenario, 1, tmp_path, 12, 1)


async def judge_all(scenario: str, seed: int, scratch: Path) -> None:
    recording = await record(scenario, seed, scratch)
    for cut in recording.cuts:
        await recording.judge(cut, 0 if cut.number % 20 == seed % 20 else 1, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 22))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_crash_at_every_operation_opens_to_a_moment(tmp_path: Path, scenario: str, seed: int) -> None:
    simulate(seed, judge_all, scenario, seed, tmp_path)
