"""One run from a seed, and finding the shortest list of steps that still fails."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sim.driver import Driver
from tests.sim.knobs import turned
from tests.sim.scheduler import simulate
from tests.sim.steps import FILE_OPERATIONS, MIXES, Step, make_steps
from tests.sim.world import World

CLIENT, DRIVE, FAULTS = "TOTAL client operations", "TOTAL drive operations", "TOTAL injected faults"
FAST = "/dev/shm"
"""Where the metadata database is fastest, if it is there."""


@dataclass
class Result:
    """error: what ended the run, None if nothing did. at: the step it came to."""

    seed: int
    world: World
    at: int
    error: BaseException | None

    @property
    def counted(self) -> Counter[str]:
        """Steps done, each injected fault as "fault: …", each kind of drive operation as "drive: …", and totals."""
        weather, done = self.world.weather, self.world.done
        faults = Counter({f"fault: {kind}": n for kind, n in weather.struck.items()})
        drives = Counter({f"drive: {kind}": n for kind, n in weather.operations.items()})
        client = sum(n for kind, n in done.items() if kind in FILE_OPERATIONS)
        return done + faults + drives + Counter({CLIENT: client, DRIVE: weather.seen, FAULTS: weather.struck.total()})


def play(seed: int, mix: str, steps: Sequence[Step]) -> Result:
    """Run these steps in a fresh world of this seed."""
    with tempfile.TemporaryDirectory(dir=FAST if Path(FAST).is_dir() else None) as scratch:
        world = World(seed, Path(scratch), lockable=mix != "rivals")
        driver = Driver(world, steps)
        try:
            with turned(seed):
                simulate(seed, driver.run)
        except Exception as error:
            return Result(seed, world, driver.at, error)
        return Result(seed, world, driver.at, None)


def play_seed(seed: int, mix: str, count: int) -> Result:
    return play(seed, mix, make_steps(seed, count, MIXES[mix]))


def shortest(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], most: int = 400) -> list[Step]:
    """Leave out ever smaller parts as long as what is left still fails; at most `most` attempts."""
    left, size, attempts = list(steps), len(steps) // 2, 0
    while size and attempts < most:
        start = 0
        while start < len(left) and attempts < most:
            shorter = left[:start] + left[start + size :]
            attempts += 1
            if fails(shorter):
                left = shorter
            else:
                start += size
        size //= 2
    return left


def minimised(result: Result, mix: str, steps: Sequence[Step]) -> list[Step]:
    """The fewest steps after which the same kind of error comes."""
    kind = what(result.error)[:40]

    def fails(shorter: Sequence[Step]) -> bool:
        return what(play(result.seed, mix, shorter).error)[:40] == kind

    return shortest(list(steps)[: result.at + 1], fails)


def what(error: BaseException | None) -> str:
    """The first error that is no group, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "" if error is None else f"{type(error).__name__}: {error}"
