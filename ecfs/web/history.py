"""What the plots show: rates and latencies of the last ten minutes and of the last day, in two bounded rings.

Pure: totals in, points out. A point is the difference of two moments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecfs.histogram import quantile

SHOWN = ("read", "write", "fsync")
"""Requests whose latency is plotted; the others ask for names and attributes, from memory."""
SLOW = 0.95


@dataclass(frozen=True)
class Totals:
    """Everything counted since the mount. requests, drives: buckets of histograms, by request and by slot."""

    monotonic: float
    wall_s: int
    read: int
    written: int
    requests: Mapping[str, Sequence[int]]
    drives: Sequence[Sequence[int]]


Point = dict[str, Any]


def point(before: Totals, after: Totals) -> Point:
    """read, write: bytes/s of files; requests: per second; latency: seconds within which 95 % were answered, by request
    and by slot; None where there was none. A counter that went back has begun anew with its drive."""
    seconds = max(after.monotonic - before.monotonic, 1e-3)
    answered = {name: _more(before.requests.get(name), buckets) for name, buckets in after.requests.items()}
    return {
        "at": after.wall_s,
        "read": round(max(after.read - before.read, 0) / seconds),
        "write": round(max(after.written - before.written, 0) / seconds),
        "requests": round(sum(map(sum, answered.values())) / seconds, 1),
        "latency": {name: _slow(answered.get(name, ())) for name in SHOWN},
        "drives": [
            _slow(_more(before.drives[slot] if slot < len(before.drives) else None, buckets))
            for slot, buckets in enumerate(after.drives)
        ],
    }


def _more(before: Sequence[int] | None, after: Sequence[int]) -> Sequence[int]:
    if not before or not after:
        return after
    more = [new - old for old, new in zip(before, after, strict=True)]
    return after if any(each < 0 for each in more) else more


def _slow(buckets: Sequence[int]) -> float | None:
    seconds = quantile(buckets, SLOW)
    return None if seconds is None else round(seconds, 6)


@dataclass
class Ring:
    """The newest `size` points, one per `every_s`; each has a number, so that a viewer asks for what is new only."""

    every_s: float
    size: int
    points: deque[tuple[int, Point]] = field(default_factory=deque)
    _last: Totals | None = None
    _number: int = 0

    def add(self, totals: Totals) -> None:
        """To be called at least once per `every_s`; what comes earlier is left for later."""
        if self._last is None:
            self._last = totals
        elif totals.monotonic - self._last.monotonic >= self.every_s * 0.95:
            self._number += 1
            self.points.append((self._number, point(self._last, totals)))
            self._last = totals
            if len(self.points) > self.size:
                self.points.popleft()

    def after(self, number: int) -> list[Point]:
        """Points with a greater number, oldest first. One that is not ours (the daemon was started anew): all."""
        number = number if number <= self._number else 0
        return [{"number": at, **each} for at, each in self.points if at > number]


RINGS = {"minutes": (2.0, 300), "day": (60.0, 1440)}
"""(seconds per point, points): together well below 2 MB."""


class History:
    """The rings by name."""

    def __init__(self) -> None:
        self.rings = {name: Ring(every_s, size) for name, (every_s, size) in RINGS.items()}

    def add(self, totals: Totals) -> None:
        for ring in self.rings.values():
            ring.add(totals)
