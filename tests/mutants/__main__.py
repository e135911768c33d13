"""``make mutants``: every fault of the table, one at a time, against its tests. Exit status 1 if one survives.

``python -m tests.mutants [--jobs N] [WORD…]`` runs the faults whose name contains one of the words.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.apply import apply, copy_tree
from tests.mutants.table import FAULTS, Fault

LIMIT_S = 400
FAST = "/dev/shm"
CAUGHT, SURVIVED, HUNG, BROKEN = "caught", "SURVIVED", "caught (hung)", "BROKEN"


@dataclass(frozen=True)
class Verdict:
    fault: Fault | None
    word: str
    seconds: float
    detail: str


def run_tests(root: Path, tests: tuple[str, ...]) -> tuple[str, str]:
    """What pytest says of a tree; the first failure."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    there = [part for part in command if not part.startswith("tests/") or (root / part).exists()]
    try:
        done = subprocess.run(there, cwd=root, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return HUNG, f"no end within {LIMIT_S} s"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    word = {0: SURVIVED, 1: CAUGHT}.get(done.returncode, BROKEN)
    return word, (failed or done.stdout.splitlines()[-1:] or [done.stderr[-200:]])[0]


def try_fault(fault: Fault | None, tests: tuple[str, ...]) -> Verdict:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=FAST if Path(FAST).is_dir() else None) as folder:
        root = Path(folder)
        copy_tree(root)
        if fault is not None:
            apply(fault, root)
        word, detail = run_tests(root, tests)
    return Verdict(fault, word, time.monotonic() - began, detail)


def show(verdict: Verdict) -> None:
    name = verdict.fault.name if verdict.fault else "no fault at all"
    test = verdict.detail.removeprefix("FAILED ").split(" - ")[0]
    print(f"{verdict.word:<14} {verdict.seconds:5.0f} s  {name}  [{test}]", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-baseline", action="store_true", help="don't run the tests on the sound tree first")
    parser.add_argument("words", nargs="*")
    chosen = parser.parse_args()
    faults = [fault for fault in FAULTS if not chosen.words or any(word in fault.name for word in chosen.words)]
    if not chosen.no_baseline:
        for tests in dict.fromkeys(fault.tests for fault in faults):
            sound = try_fault(None, tests)
            if sound.word != SURVIVED:
                print(f"these tests fail without any fault: {' '.join(tests)}: {sound.detail}")
                return 2
    with ThreadPoolExecutor(chosen.jobs) as pool:
        verdicts = []
        for verdict in pool.map(lambda fault: try_fault(fault, fault.tests), faults):
            show(verdict)
            verdicts.append(verdict)
    bad = [verdict for verdict in verdicts if verdict.word not in (CAUGHT, HUNG)]
    print(f"{len(verdicts)} faults, {len(verdicts) - len(bad)} caught, {len(bad)} not")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
