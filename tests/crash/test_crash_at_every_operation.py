"""The power goes at the k-th drive operation of opening, commits, checkpoint and closing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.harness import Cut, Workload, fresh, judge, power_off, run_cut


async def count_operations(scratch: Path, seed: int, steps: int) -> int:
    pool, cut = await fresh(scratch), Cut()
    await run_cut(pool, Workload(seed, steps).run, cut)
    return cut.seen


async def crash_at(scratch: Path, seed: int, steps: int, at: int) -> bool:
    """False once the workload ends before the cut."""
    pool, work = await fresh(scratch), Workload(seed, steps)
    struck = await run_cut(pool, work.run, Cut(at))
    power_off(pool, seed * 7919 + at)
    await judge(pool, work.history, random.Random(at), f"seed {seed}, cut at {at}")
    return struck


@pytest.mark.parametrize("seed", range(4))
async def test_a_crash_at_any_operation_opens_to_a_moment(tmp_path: Path, autojump_clock: object, seed: int) -> None:
    total = await count_operations(tmp_path, seed, 25)
    chance = random.Random(seed)
    for at in sorted(chance.sample(range(1, total + 1), min(60, total))):
        await crash_at(tmp_path, seed, 25, at)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 112))
async def test_a_crash_at_every_operation_opens_to_a_moment(tmp_path: Path, autojump_clock: object, seed: int) -> None:
    at = 1
    while await crash_at(tmp_path, seed, 40, at):
        at += 1
    assert at > 300
