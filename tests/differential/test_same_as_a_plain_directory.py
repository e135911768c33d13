"""Thousands of random steps on a real mount and on a plain directory, drives lost and mounts renewed in between."""

from __future__ import annotations

import os
from random import Random

import pytest

from tests.differential.run import Sides, assert_same, run, shortened
from tests.differential.steps import from_script, random_steps, to_script, with_disasters

pytestmark = pytest.mark.mount

ROUND = 200
"""Steps in one folder before the next begins with an empty one."""


@pytest.mark.parametrize("seed", range(5))
def test_random_steps(seed: int, sides: Sides) -> None:
    assert_same(random_steps(Random(f"quiet {seed}"), ROUND), sides)


@pytest.mark.parametrize("seed", range(2))
def test_random_steps_with_remounts_and_lost_drives(seed: int, sides: Sides) -> None:
    chance = Random(f"rough {seed}")
    assert_same(with_disasters(random_steps(chance, ROUND), chance, 40), sides)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(110))
def test_22000_random_steps(seed: int, sides: Sides) -> None:
    chance = Random(f"long {seed}")
    assert_same(with_disasters(random_steps(chance, ROUND), chance, 80), sides)


def test_a_difference_is_found_shortened_and_can_be_replayed(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test is worth something only if it can say no."""
    truncate = os.truncate

    def broken(path: str, size: int) -> None:
        truncate(path, size + (str(sides.pool.mnt) in path))

    steps = random_steps(Random("quiet 0"), 60)
    steps += [(0, "open", 0, "a", os.O_CREAT | os.O_RDWR, 0o644), (0, "truncate", "a", 100), (0, "unlink", "a")]
    steps = [step for step in steps if step[1] not in ("rename", "mkdir", "symlink", "link", "mkfifo", "churn")]
    monkeypatch.setattr(os, "truncate", broken)
    fewer, found = shortened(steps, sides)
    assert len(fewer) == 2
    assert "size is" in found.what
    monkeypatch.undo()
    assert run(from_script(to_script(fewer)), sides) is None
