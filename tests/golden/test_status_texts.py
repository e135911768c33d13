"""What people and programs are told about every state of a pool, word for word. To write it anew: `make golden`."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from ecfs.control.status import Healing, build_status
from ecfs.control.verdict import exit_status, verdict
from ecfs.heal.report import ScrubProgress
from tests.golden.render import FOLDER, json_of, text_of
from tests.golden.states import STATES
from tests.memory_pool import MemoryPool

DOCUMENT = Path(__file__).parents[2] / "docs" / "STATUS.md"
ENDS_WITH = {"healthy": 0, "degraded": 1, "failed": 3}


@pytest.mark.parametrize("name", STATES)
def test_the_text_is_as_it_was_agreed(name: str) -> None:
    assert text_of(STATES[name]) == (FOLDER / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", STATES)
def test_the_data_are_as_they_were_agreed(name: str) -> None:
    assert json_of(STATES[name]) == (FOLDER / f"{name}.json").read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(STATES)
    assert {path.stem for path in FOLDER.glob("*.json")} == set(STATES)


@pytest.mark.parametrize("name", STATES)
def test_nobody_is_left_without_something_to_do(name: str) -> None:
    status = STATES[name]
    said = verdict(status, "POOL")
    assert said.headline
    assert said.actions
    assert exit_status(status) == ENDS_WITH[status["state"]]
    assert status["state"] == "healthy" or (said.causes and said.means)


def test_a_name_that_a_shell_would_split_is_quoted() -> None:
    assert "ecfs replace '/srv/my pool' 3 NEW" in "".join(verdict(STATES["degraded-by-one"], "/srv/my pool").actions)


def test_a_bucket_is_no_directory() -> None:
    status = deepcopy(STATES["degraded-by-one"])
    status["drives"][3]["url"] = "s3://shards/d3"
    assert "if its contents were deleted, rebuild drive 3 in place" in "".join(verdict(status, "POOL").actions)


# ---- the shape is the one of real pools, and the one that is documented ------------------------------------------

VARIES = {"errors", "with_shards", "memory", "progress", "risks", "notes"}
"""Members whose own members depend on the pool."""


def members(value: Any, path: str = "") -> set[str]:
    """Every member as a path: "drives[].slot"."""
    if not isinstance(value, dict | list) or path.rpartition(".")[2] in VARIES:
        return {path}
    if isinstance(value, list):
        return set().union(*(members(each, f"{path}[]") for each in value))
    return set().union(*(members(each, f"{path}.{name}".lstrip(".")) for name, each in value.items()))


async def test_real_pools_have_the_same_members(tmp_path: Path) -> None:
    pool = MemoryPool(tmp_path)
    await pool.create()
    async with pool.engine() as engine:
        healing = Healing(ScrubProgress(), "scrub", position=None)
        real = build_status(engine.pool, usable=engine.usable(), engine=engine, healing=healing)
    real["pool"] |= {"mountpoint": None, "path": ""}
    assert members(real) == members(STATES["scrubbing"])
    assert set(real["memory"]) == set(STATES["healthy"]["memory"])


def test_every_member_is_documented_and_nothing_else() -> None:
    documented = set(re.findall(r"^\| `([^`]+)` \|", DOCUMENT.read_text(), re.MULTILINE))
    assert documented == set().union(*(members(status) for status in STATES.values()))


def test_it_is_still_schema_1() -> None:
    """Members are only ever added. When this fails, something was taken away that programs may rely on."""
    for status in STATES.values():
        assert json.loads(json_of(status))["schema"] == 1
