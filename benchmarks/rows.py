"""A row of the table: what is measured, in which unit, and what must have been measured before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import Contender


@dataclass
class Turn:
    """One contender on fresh drives. mib: size of the large file; files: how many small ones."""

    contender: Contender
    mib: int
    files: int

    @property
    def root(self) -> Path:
        return self.contender.root

    @property
    def big(self) -> Path:
        return self.root / "big"

    @property
    def small(self) -> Path:
        return self.root / "small"


Figures = dict[str, float]
Measure = Callable[[Turn], float | Figures]


@dataclass(frozen=True)
class Row:
    """after: rows that must come before it in the same turn. A unit of time is better when lower."""

    name: str
    unit: str
    after: tuple[str, ...]
    measure: Measure

    def figures(self, turn: Turn) -> Figures:
        """By the names that the table shows."""
        found = self.measure(turn)
        return (
            {f"{self.name} {part}": value for part, value in found.items()}
            if isinstance(found, dict)
            else {self.name: found}
        )


ROWS: dict[str, Row] = {}


def row(unit: str, *after: str) -> Callable[[Measure], Measure]:
    """Register a function as the row of its name, behind those that are registered already."""

    def register(measure: Measure) -> Measure:
        name = measure.__name__
        ROWS[name] = Row(name, unit, after, measure)
        return measure

    return register


def with_needed(names: Iterable[str]) -> list[Row]:
    """The rows of these names and those they come after, in the order of the table. Raises KeyError."""
    wanted: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.add(name)
            todo += ROWS[name].after
    return [each for each in ROWS.values() if each.name in wanted]
