"""What a run does, as data: a list of steps made from a seed, which can be cut shorter and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

Mix = dict[str, float]


@dataclass(frozen=True)
class Step:
    """kind: what to do. a, b, c: numbers to choose with, whatever there is to choose from when it comes to it, so that
    leaving out other steps keeps this one meaningful. wait: for its answer, before the next one."""

    kind: str
    a: int = 0
    b: int = 0
    c: int = 0
    wait: bool = True

    def __str__(self) -> str:
        return f"{self.kind}({self.a}, {self.b}, {self.c}){'' if self.wait else ' …'}"


FILE_OPERATIONS = {
    "create": 6, "write": 16, "truncate": 2, "mkdir": 3, "symlink": 1, "fifo": 1, "link": 2, "unlink": 4, "rmdir": 1,
    "rename": 3, "exchange": 1, "noreplace": 1, "set_xattr": 2, "remove_xattr": 1, "chmod": 1, "open": 2, "close": 2,
    "read": 6, "fsync": 5, "idle": 2, "df": 1, "reserve": 1,
}  # fmt: skip
HOUSEKEEPING = {"checkpoint": 1, "compact": 2, "pack": 1, "breeze": 1, "calm": 1, "status": 2}
ENDINGS = {"crash": 1, "kill": 1, "remount": 1}
HARM: Mix = {
    "vanish": 2, "come_back": 4, "reboot": 1, "wipe": 1, "rot": 3, "lie": 1, "storm": 6, "calm": 1, "save": 3,
    "roll_back": 2, "scatter": 1, "prune": 1, "muddle": 0.3, "unmount": 1,
}  # fmt: skip
HEALING = {"mend": 3, "scrub": 1.5, "replace": 1.5, "drill": 1, "pause": 1, "mistake": 0.5}
BEYOND = {"blackout": 1, "lights": 3, "full": 1, "roomy": 3}


def mixed(*parts: tuple[Mix | dict[str, int], float]) -> Mix:
    """One mix out of several; the second number is the share of each."""
    mix: Mix = {}
    for weights, share in parts:
        total = sum(weights.values())
        for kind, weight in weights.items():
            mix[kind] = mix.get(kind, 0.0) + weight / total * share
    return mix


CRASHES = mixed((FILE_OPERATIONS, 0.93), (HOUSEKEEPING, 0.03), (ENDINGS, 0.04))
HARMED = mixed((FILE_OPERATIONS, 0.88), (HOUSEKEEPING, 0.03), (ENDINGS, 0.03), (HARM, 0.06))
BUSY = mixed(
    (FILE_OPERATIONS, 0.985),
    (HOUSEKEEPING, 0.008),
    (ENDINGS, 0.002),
    (HARM, 0.003),
    (HEALING, 0.0015),
    (BEYOND, 0.0005),
)
"""Long lives, many commits, few openings."""
BROKEN = mixed(
    (FILE_OPERATIONS, 0.66), (HOUSEKEEPING, 0.04), (ENDINGS, 0.03), (HARM, 0.13), (HEALING, 0.1), (BEYOND, 0.04)
)
"""Something is always wrong: little is written, much of it is repaired."""
TIGHT = mixed(
    (FILE_OPERATIONS, 0.91), (HOUSEKEEPING, 0.03), (ENDINGS, 0.02), ({"full": 3, "roomy": 2, "mend": 2}, 0.04)
)
"""Drives that are full again and again."""
EVERYTHING = mixed(
    (FILE_OPERATIONS, 0.86), (HOUSEKEEPING, 0.02), (ENDINGS, 0.03), (HARM, 0.05), (HEALING, 0.03), (BEYOND, 0.01)
)


LAPSES = mixed(
    (FILE_OPERATIONS, 0.5),
    (HOUSEKEEPING, 0.05),
    (ENDINGS, 0.1),
    (HEALING, 0.1),
    ({"mend": 1}, 0.1),
    (BEYOND, 0.1),
    ({"scatter": 1, "unmount": 1, "prune": 1}, 0.05),
)
"""Mended again and again: only then may happen what goes beyond the budget, and calamities between short lives."""


def make_steps(seed: int, count: int, mix: Mix) -> list[Step]:
    chance = Random(f"steps {seed}")
    kinds, weights = list(mix), list(mix.values())

    def number() -> int:
        return chance.randrange(1 << 30)

    return [
        Step(kind, number(), number(), number(), chance.random() < 0.8)
        for kind in chance.choices(kinds, weights, k=count)
    ]


def shown(steps: Sequence[Step]) -> str:
    """As Python, to be pasted into a test."""
    return "[\n" + "".join(f"    {step!r},\n" for step in steps) + "]"


RIVALS = mixed(
    (FILE_OPERATIONS, 0.92),
    (HOUSEKEEPING, 0.03),
    ({"rival": 3, "race": 2, "crash": 1, "remount": 1}, 0.05),
    ({"reboot": 2, "vanish": 1, "come_back": 2, "mend": 1}, 0.02),
)
"""Needs drives without locks."""
MIXES = {
    "broken": BROKEN,
    "busy": BUSY,
    "crashes": CRASHES,
    "harmed": HARMED,
    "lapses": LAPSES,
    "everything": EVERYTHING,
    "rivals": RIVALS,
    "tight": TIGHT,
}
