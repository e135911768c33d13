"""Random histories of programs, drives and disasters. A failing seed replays with ``make sim SEED=… MIX=…``."""

from __future__ import annotations

import pytest

from tests.sim.run import Result, play, play_seed, what
from tests.sim.steps import Step
from tests.sim.test_histories import BIG

STEPS = 150


def judge(result: Result, mix: str, steps: int) -> None:
    if result.error is not None:
        trace = "\n".join(result.world.weather.trace[-40:])
        again = f"make sim SEED={result.seed} MIX={mix} STEPS={steps}"
        raise AssertionError(f"{what(result.error)}\n{trace}\nagain: {again}") from result.error


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mix", ["crashes", "harmed", "everything", "rivals"])
def test_whatever_happens_within_the_budget_nothing_is_lost(mix: str, seed: int) -> None:
    judge(play_seed(seed, mix, STEPS), mix, STEPS)


def test_a_status_in_the_moment_in_which_a_drive_is_deleted_may_still_call_it_healthy() -> None:
    steps = [Step("create", 0, 0, 1), Step("write", 1, 0, BIG), Step("mend"), Step("wipe"), Step("status")]
    judge(play(1, "broken", steps), "broken", len(steps))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("block", range(20))
@pytest.mark.parametrize("mix", ["crashes", "harmed", "everything", "rivals"])
def test_whatever_happens_in_long_runs_nothing_is_lost(mix: str, block: int) -> None:
    for seed in range(1000 + 50 * block, 1000 + 50 * block + 50):
        judge(play_seed(seed, mix, 1000), mix, 1000)
