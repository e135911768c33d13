"""What share of the branches was reached, room by room: ``python -m tests.sim.branches FILE`` after ``coverage json``.

Branches alone: coverage.py's own total counts lines as well, of which more are reached.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ENOUGH = 95.0
"""Percent, in each room."""


def by_room(report: dict[str, Any]) -> dict[str, Counter[str]]:
    """The sums of coverage.py's summaries, by the package of ecfs that the files belong to."""
    rooms: dict[str, Counter[str]] = {}
    for name, file in sorted(report["files"].items()):
        rooms.setdefault(Path(name).parent.name, Counter()).update(
            {
                kind: file["summary"][kind]
                for kind in ("covered_branches", "num_branches", "covered_lines", "num_statements")
            }
        )
    rooms["together"] = sum(rooms.values(), Counter())
    return rooms


def main(path: str) -> int:
    """1 if too few branches were reached in a room."""
    low = []
    print("room          branches        percent   lines, percent")
    for room, counts in by_room(json.loads(Path(path).read_text())).items():
        reached, there = counts["covered_branches"], counts["num_branches"]
        percent, lines = 100 * reached / there, 100 * counts["covered_lines"] / counts["num_statements"]
        print(f"{room:10} {reached:6} of {there:5} {percent:13.1f} {lines:16.1f}")
        if percent <= ENOUGH:
            low.append(room)
    print(f"not over {ENOUGH:g} %: {', '.join(low)}" if low else f"over {ENOUGH:g} % of the branches in each room")
    return bool(low)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
