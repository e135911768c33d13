"""``make fuzz``: hostile bytes for every parser, by atheris where it is installed, else by random changes.

``python -m tests.fuzz [--seconds N] [--seed N] [--plain] [TARGET…]``; each target runs in a process of its own with a
limit on its memory. Exit status 1 if one failed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.mutate import inputs, run, try_one
from tests.fuzz.targets import TARGETS, Target

MEMORY = 2 << 30
GUIDED = importlib.util.find_spec("atheris") is not None


def plain(target: Target, seed: int, seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    counts = run(target, seed, seconds)
    print(f"{target.name:<11} {counts.tried:>11,} inputs, {counts.taken:>7,} taken", flush=True)


def guided(target: Target, seed: int, seconds: float) -> None:
    """Coverage-guided; never returns. libFuzzer limits memory and time per input itself."""
    atheris = importlib.import_module("atheris")  # need not be installed

    atheris.instrument_all()

    def one(data: bytes) -> None:
        try_one(target, data)
        try_one(target, target.reseal(data))

    with tempfile.TemporaryDirectory() as folder:
        for number, data in zip(range(200), inputs(target, seed), strict=False):
            Path(folder, str(number)).write_bytes(data)
        options = [f"-max_total_time={seconds:g}", f"-seed={seed + 1}", "-rss_limit_mb=2048", "-timeout=20"]
        atheris.Setup([sys.argv[0], folder, *options, "-max_len=200000", "-print_final_stats=1"], one)
        atheris.Fuzz()


def in_process(target: Target, seed: int, seconds: float, *, coverage: bool) -> bool:
    command = [sys.executable, "-m", "tests.fuzz", "--inside", "--seconds", f"{seconds}", "--seed", f"{seed}"]
    command += [] if coverage else ["--plain"]
    done = subprocess.run([*command, target.name], capture_output=True, text=True)
    said = [text for text in done.stderr.splitlines() if "number_of_executed_units" in text]
    if coverage:
        print(f"{target.name:<11} {int(said[-1].split()[-1]) if said else 0:>11,} inputs, guided", flush=True)
    print(done.stdout if not coverage else "", end="", flush=True)
    if done.returncode:
        print(f"{target.name} FAILED", done.stdout[-3000:], done.stderr[-3000:], sep="\n", flush=True)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=float, default=60, help="per target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="random changes even where atheris is installed")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*")
    chosen = parser.parse_args()
    targets = [target for target in TARGETS if not chosen.targets or target.name in chosen.targets]
    if chosen.inside:
        (plain if chosen.plain else guided)(targets[0], chosen.seed, chosen.seconds)
        return 0
    coverage = GUIDED and not chosen.plain
    good = [in_process(target, chosen.seed, chosen.seconds, coverage=coverage) for target in targets]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
