"""``python -m tests.differential --seed 7 --steps 20000`` or ``--replay FILE``: without pytest, for a closer look."""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

from tests.differential.run import assert_same
from tests.differential.steps import from_script, random_steps, with_disasters
from tests.differential.world import two_sides

ROUND = 200
"""Steps in one folder before the next begins with an empty one."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.differential")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--disasters", type=int, default=100, help="one per so many steps; 0: none")
    parser.add_argument("--options", default="rw", help="of the mount, as after -o")
    parser.add_argument("--replay", type=Path)
    chosen = parser.parse_args()
    with two_sides(chosen.options) as both:
        if chosen.replay is not None:
            assert_same(from_script(chosen.replay.read_text()), both)
        for start in range(0, 0 if chosen.replay else chosen.steps, ROUND):
            chance = Random(f"{chosen.seed} {start}")
            steps = random_steps(chance, ROUND)
            if chosen.disasters:
                steps = with_disasters(steps, chance, chosen.disasters)
            assert_same(steps, both)
            print(f"seed {chosen.seed}: {start + ROUND} steps, no difference", flush=True)


if __name__ == "__main__":
    main()
