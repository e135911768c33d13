"""Runs steps on both sides, and makes a failing list of steps short."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.differential.actor import Actor
from tests.differential.compare import Moment, difference, difference_of_times, moment
from tests.differential.steps import DISASTERS, Step, to_script
from tests.mount.real import Pool

CONTENTS_EVERY = 25
"""Steps between two looks at all contents."""
PAIRS = list(itertools.combinations(range(6), 2))
ATTEMPTS = 150
"""Shortened lists that are tried."""


@dataclass
class Difference:
    """Where the two sides parted: after which step, and how."""

    number: int
    step: Step
    what: str

    def __str__(self) -> str:
        return f"step {self.number} {self.step}: {self.what}"


@dataclass
class Sides:
    """A pool that is mounted, a plain directory beside it, and a fresh folder in both for each run."""

    pool: Pool
    plain: Path
    lost: bool = False
    _runs: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def actors(self) -> Iterator[tuple[Actor, Actor]]:
        name = f"run{next(self._runs)}"
        folders = [self.plain / name, self.pool.mnt / name]
        for folder in folders:
            folder.mkdir()
            folder.chmod(0o777)
        actors = Actor(str(folders[0])), Actor(str(folders[1]))
        try:
            yield actors
        finally:
            for actor in actors:
                actor.close_all()
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)  # it must not hide what went wrong

    def disaster(self, name: str, number: int) -> None:
        if name == "remount":
            self.pool.remount()
        elif name == "lose" and not self.lost:
            self.pool.lose(*PAIRS[number])
            self.lost = True
        elif name == "scrub" and self.lost:
            self.pool.ecfs("scrub", "mnt")
            self.lost = False


def run(steps: list[Step], sides: Sides) -> Difference | None:
    """The first difference."""
    with sides.actors() as actors:
        before = _moments(actors, contents=False)
        for number, step in enumerate(steps, 1):
            found = _do(step, actors, sides)
            if found is None:
                contents = number % CONTENTS_EVERY == 0 or number == len(steps) or step[1] in DISASTERS
                after = _moments(actors, contents=contents)
                ticking = "writeback" in sides.pool.options
                found = difference(*after) or difference_of_times(before, after, ticking=ticking)
                before = after
            if found is not None:
                return Difference(number, step, found)
    return None


def _moments(actors: tuple[Actor, Actor], *, contents: bool) -> tuple[Moment, Moment]:
    return moment(actors[0].base, contents=contents), moment(actors[1].base, contents=contents)


def _do(step: Step, actors: tuple[Actor, Actor], sides: Sides) -> str | None:
    if step[1] not in DISASTERS:
        should, is_ = (actor.do(step) for actor in actors)
        return None if should == is_ else f"returned {is_}, should return {should}"
    if step[1] == "remount":
        for actor in actors:
            actor.close_all()
    sides.disaster(str(step[1]), int(step[2]))
    return None


def shortened(steps: list[Step], sides: Sides) -> tuple[list[Step], Difference]:
    """As few of the steps as still show a difference, found by leaving out ever smaller parts."""
    found = run(steps, sides)
    if found is None:
        raise AssertionError("the difference does not come again with the same steps")
    steps, size, attempts = steps[: found.number], len(steps) // 2, 0
    while size and attempts < ATTEMPTS:
        at = 0
        while at < len(steps) and attempts < ATTEMPTS:
            attempts += 1
            fewer = steps[:at] + steps[at + size :]
            again = run(fewer, sides)
            if again is None:
                at += size
            else:
                steps, found = fewer[: again.number], again
        size //= 2
    return steps, found


def assert_same(steps: list[Step], sides: Sides) -> None:
    """Fails with a script that `python -m tests.differential --replay FILE` runs."""
    found = run(steps, sides)
    if found is None:
        return
    script = steps[: found.number]
    try:
        script, found = shortened(script, sides)
    except AssertionError as error:
        found.what += f" ({error})"
    raise AssertionError(
        f"{found}\nto be replayed, by {'root' if os.geteuid() == 0 else 'a user'}:\n{to_script(script)}"
    )
