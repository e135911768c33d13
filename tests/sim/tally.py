"""Counts of many runs in files, one JSON line for each run: ``python -m tests.sim.tally FILE…`` adds them up."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def note(path: Path, run: str, error: str, counted: Counter[str]) -> None:
    """One line for one run. error: what ended it, empty if nothing did."""
    with path.open("a") as file:
        file.write(json.dumps({"run": run, "error": error, "counted": counted}) + "\n")


def added_up(paths: Iterable[Path]) -> tuple[int, list[str], Counter[str]]:
    """How many different runs, the runs that failed with why, and the sum of what they counted. A run that was done
    twice with the same outcome counts once."""
    runs, failed, counted = set[str](), list[str](), Counter[str]()
    for line in sorted({line for path in paths for line in path.read_text().splitlines()}):
        found = json.loads(line)
        runs.add(found["run"])
        counted.update(found["counted"])
        if found["error"]:
            failed.append(f"{found['run']}: {found['error']}")
    return len(runs), failed, counted


def main(paths: list[str]) -> int:
    runs, failed, counted = added_up(map(Path, paths))
    for kind, count in sorted(counted.items()):
        print(f"{count:12,} {kind}")
    print(f"{runs} runs, {len(failed)} failed", *failed, sep="\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
