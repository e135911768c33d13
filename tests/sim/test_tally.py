"""Counts of long runs add up, and a failed one can't hide among them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.crash.__main__ import fingerprint
from tests.crash.recording import Cut
from tests.sim.branches import main as branches
from tests.sim.model import Moment
from tests.sim.run import CLIENT, DRIVE, play_seed
from tests.sim.store import SimStore, take_images
from tests.sim.tally import added_up, note


def test_runs_in_several_files_are_added_and_a_run_counts_once(tmp_path: Path) -> None:
    note(tmp_path / "a", "busy 1 10", "", Counter(read=2, fsync=1))
    note(tmp_path / "b", "busy 1 10", "", Counter(read=2, fsync=1))
    note(tmp_path / "b", "busy 2 10", "Violation: gone", Counter(read=5))
    runs, failed, counted = added_up([tmp_path / "a", tmp_path / "b"])
    assert (runs, failed, counted) == (2, ["busy 2 10: Violation: gone"], Counter(read=7, fsync=1))


def test_operations_of_programs_and_of_drives_are_counted_apart() -> None:
    counted = play_seed(1, "busy", 40).counted
    assert counted[DRIVE] == sum(n for kind, n in counted.items() if kind.startswith("drive: "))
    assert 20 < counted[CLIENT] <= 40


def test_states_that_differ_in_what_survived_of_one_file_are_two() -> None:
    store, moments = SimStore(), [Moment({}, {})]
    store.write("j/1", b"record")
    whole, torn = take_images([store]), take_images([store])
    torn[0].files = {number: (data[:-1], durable) for number, (data, durable) in torn[0].files.items()}
    cut = Cut(0, "append", whole, moments, frozenset(), [0])
    assert fingerprint(whole, cut) == fingerprint(take_images([store]), cut)
    assert fingerprint(whole, cut) != fingerprint(torn, cut)


@pytest.mark.parametrize("reached", [95, 96])
def test_each_room_must_have_its_branches_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reached: int
) -> None:
    """However many lines there are, and however good the other rooms."""

    def file(branches: int) -> dict[str, dict[str, int]]:
        counts = {"covered_branches": branches, "num_branches": 100, "covered_lines": 1000, "num_statements": 1000}
        return {"summary": counts}

    files = {"/somewhere/ecfs/heal/a.py": file(reached), "/somewhere/ecfs/journal/b.py": file(100)}
    (tmp_path / "report").write_text(json.dumps({"files": files}))
    assert branches(str(tmp_path / "report")) == (reached == 95)
    assert ("not over 95 %: heal" in capsys.readouterr().out) == (reached == 95)
