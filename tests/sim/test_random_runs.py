"""Random histories of programs, drives and disasters. A failing seed replays with ``make sim SEED=… MIX=…``."""

from __future__ import annotations

import pytest

from tests.sim.run import Result, play_seed, what

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


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("block", range(20))
@pytest.mark.parametrize("mix", ["crashes", "harmed", "everything", "rivals"])
def test_whatever_happens_in_long_runs_nothing_is_lost(mix: str, block: int) -> None:
    for seed in range(1000 + 50 * block, 1000 + 50 * block + 50):
        judge(play_seed(seed, mix, 1000), mix, 1000)
