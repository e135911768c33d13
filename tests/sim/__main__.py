"""``make sim SEED=7``: replay one seed, with everything that can be known about it; or ``--seeds 100`` for many."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.sim import tally
from tests.sim.run import Result, minimised, play_seed, what
from tests.sim.steps import MIXES, make_steps, shown


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--mix", choices=MIXES, default="everything")
    parser.add_argument("--tally", type=Path, help="a file that gets a line for each seed, see tests.sim.tally")
    parser.add_argument("--trace", type=int, default=100, help="drive operations to show before a failure")
    parser.add_argument("--no-minimise", action="store_true", help="don't look for the fewest steps that still fail")
    return parser.parse_args()


def explain(result: Result, options: argparse.Namespace) -> None:
    """What happened, the fewest steps that make it happen, and how to see it again."""
    print("\n".join(result.world.weather.trace[-options.trace :]))
    if result.error is not None:
        traceback.print_exception(result.error)
    if not options.no_minimise:
        steps = make_steps(result.seed, options.steps, MIXES[options.mix])
        print("the fewest steps that fail so:", shown(minimised(result, options.mix, steps)))
    print(f"seed {result.seed} failed at step {result.at}: {what(result.error)[:2000]}")
    print(f"again: make sim SEED={result.seed} MIX={options.mix} STEPS={options.steps}", flush=True)


def main() -> int:
    options, counted, failed, began = arguments(), Counter[str](), [], time.monotonic()
    for seed in range(options.seed, options.seed + options.seeds):
        result = play_seed(seed, options.mix, options.steps)
        counted += result.counted
        if options.tally:
            tally.note(options.tally, f"{options.mix} {seed} {options.steps}", what(result.error)[:500], result.counted)
        if result.error is not None:
            failed.append(seed)
            explain(result, options)
    for kind, count in sorted(counted.items()):
        print(f"{count:10} {kind}")
    print(f"{options.seeds} seeds from {options.seed}, mix {options.mix}, {options.steps} steps each, ", end="")
    print(f"{time.monotonic() - began:.0f} s: {f'failed: {failed}' if failed else 'no violation'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
