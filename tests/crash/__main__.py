"""Counts distinct states that a power cut can leave, and judges each: ``python -m tests.crash --seeds 10``.

A state is what all media hold after the power went, together with the oldest moment that is still allowed. What was
seen before is neither recovered nor counted again. `make crash` is slower and looks at each state from more sides.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.crash.recording import Cut, Recording
from tests.crash.scenarios import SCENARIOS
from tests.sim import tally
from tests.sim.knobs import turned
from tests.sim.run import FAST, what
from tests.sim.scheduler import simulate
from tests.sim.store import Image, put_images
from tests.sim.world import World

STATES, RECOVERIES = "TOTAL distinct crash states", "TOTAL recoveries of crash states"
AGAIN = 0.2
"""Share of the states that are recovered a second time, without other drives, which must agree."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=1000, help="the first one")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--tears", type=int, default=4, help="how often the power goes at each operation")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="default: all")
    parser.add_argument("--tally", type=Path, help="a file that gets a line for each scenario and seed")
    return parser.parse_args()


def fingerprint(wreck: list[Image], cut: Cut) -> int:
    """Of what the media hold, and of which moments are too old."""
    held = tuple((image.exists, image.fence, frozenset(image.epochs), _contents(image)) for image in wreck)
    return hash((held, id(cut.moments[0])))


def _contents(image: Image) -> frozenset[tuple[str, bytes]]:
    """Names and bytes: Python remembers the hash of bytes, and images share the bytes of files that did not change."""
    return frozenset((key, image.files[number][0]) for key, number in image.names.items())


async def recover_all(scenario: str, seed: int, tears: int, scratch: Path, counted: Counter[str]) -> None:
    """Record the scenario once; at each of its operations the power goes `tears` times."""
    recording, seen, chance = Recording(World(seed, scratch)), set[int](), Random(f"recover {scenario} {seed}")
    await recording.begin()
    await SCENARIOS[scenario](recording)
    recording.world.kill()
    for cut in recording.cuts:
        for tear in range(tears):
            wreck = recording.wreck(cut, seed * 1000 + tear)
            if (mark := fingerprint(wreck, cut)) in seen:
                continue
            seen.add(mark)
            await recover_one(recording, cut, wreck, chance)
            counted[STATES] += 1
            counted[f"crash states of {scenario}"] += 1
    counted[RECOVERIES] += recording.recoveries
    counted["power cuts at an operation"] += len(recording.cuts)


async def recover_one(recording: Recording, cut: Cut, wreck: list[Image], chance: Random) -> None:
    """Without some allowed set of drives."""
    every = recording.missing_sets(cut)
    put_images(recording.world.stores, wreck)
    first = await recording.recover(cut, chance.choice(every))
    if chance.random() < AGAIN:
        second = await recording.recover(cut, chance.choice(every))
        assert second == first, f"{recording.label(cut, [])}: the second recovery disagrees"


def one(scenario: str, seed: int, tears: int) -> tuple[str, Counter[str]]:
    """Why it failed (empty if it did not), and what was counted."""
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=FAST if Path(FAST).is_dir() else None) as scratch:
        try:
            with turned(seed):
                simulate(seed, recover_all, scenario, seed, tears, Path(scratch), counted)
        except Exception as error:
            return what(error)[:1000], counted
    return "", counted


def main() -> int:
    options, total, failed, began = arguments(), Counter[str](), 0, time.monotonic()
    for seed in range(options.seed, options.seed + options.seeds):
        for scenario in options.scenario or SCENARIOS:
            error, counted = one(scenario, seed, options.tears)
            total += counted
            if options.tally:
                tally.note(options.tally, f"{scenario} {seed} {options.tears}", error, counted)
            if error:
                failed += 1
                print(f"{scenario}, seed {seed}: {error}", flush=True)
    for kind, count in sorted(total.items()):
        print(f"{count:10} {kind}")
    print(f"{time.monotonic() - began:.0f} s, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
