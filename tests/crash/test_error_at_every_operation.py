"""The k-th drive operation fails with each error in turn: on up to m drives nobody notices, beyond that cleanly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.errors import LOUD, SILENT, plans, trial
from tests.sim.scheduler import simulate

OPERATIONS = 420
"""About as many as one trial has."""


@pytest.mark.parametrize("count", [0, 1, 2], ids=["once", "one drive", "two drives"])
@pytest.mark.parametrize("fault", [*LOUD, *SILENT])
def test_an_error_on_up_to_m_drives_is_seen_by_nobody(tmp_path: Path, fault: str, count: int) -> None:
    for at in range(1 + 17 * count, OPERATIONS, 200):
        simulate(at, trial, 1, tmp_path, plans(1, fault, at, count))


@pytest.mark.parametrize("count", [3, 6], ids=["three drives", "all drives"])
@pytest.mark.parametrize("fault", [each for each in LOUD if each not in ("missing", "corrupt")])
def test_an_error_on_more_drives_is_a_clean_one_and_passes(tmp_path: Path, fault: str, count: int) -> None:
    for at in range(20 + count, OPERATIONS, 250):
        simulate(at, trial, 1, tmp_path, plans(1, fault, at, count))


@pytest.mark.parametrize("count", [0, 2, 4])
def test_being_fenced_is_for_good_and_loses_nothing(tmp_path: Path, count: int) -> None:
    for at in range(20 + count, OPERATIONS, 67):
        simulate(at, trial, 1, tmp_path, plans(1, "fenced", at, count))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(2, 5))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("fault", [*LOUD, *SILENT, "fenced"])
def test_every_error_at_every_operation(tmp_path: Path, fault: str, count: int, seed: int) -> None:
    if count > 2 and fault in SILENT:
        return  # more than m drives that don't tell are beyond what any code can survive (docs/TESTING.md)
    at = 1
    while simulate(at, trial, seed, tmp_path, plans(seed, fault, at, count)) >= at:
        at += 1
