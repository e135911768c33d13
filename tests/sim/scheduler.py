"""Runs trio so that one seed always gives the same order of events: simulated time, seeded scheduling, no threads."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio
from trio._core import _run
from trio.testing import MockClock

T = TypeVar("T")

START_S = 1000.0
"""Simulated time begins here: in the real world a clock that shows 0 is never met."""


def simulate(seed: int, work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """The result of ``work(*arguments)``, run in simulated time. Sleeping costs nothing."""
    clock = MockClock(autojump_threshold=0)
    clock.jump(START_S)
    deterministic = _run._ALLOW_DETERMINISTIC_SCHEDULING
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r.seed(seed)
    gc.disable()  # what a collection finalizes would be scheduled at a moment of its own choosing
    try:
        return trio.run(work, *arguments, clock=clock)
    finally:
        gc.enable()
        _run._ALLOW_DETERMINISTIC_SCHEDULING = deterministic  # type: ignore[misc]


class SimClock:
    """`ecfs.clock.Clock` under trio's simulated time; tokens come from the seed."""

    WALL_BASE_NS = 1_700_000_000_000_000_000

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)

    def wall_ns(self) -> int:
        return self.WALL_BASE_NS + int(trio.current_time() * 1e9)

    def monotonic(self) -> float:
        return trio.current_time()

    def token(self, size: int) -> bytes:
        return self._chance.randbytes(size)
