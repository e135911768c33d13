"""The only door to time and randomness, so that a simulation can own both.

Waiting is done with trio, whose clock the simulation replaces by itself (autojump).
Nothing else in ecfs may import ``time``, ``random``, ``secrets`` or ``uuid``; a test enforces it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import trio


class Clock(Protocol):
    """What the rest of ecfs may ask about time and chance."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as file times show it. May jump; never used to order or to wait."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment, never going back; the clock that trio waits by."""

    def token(self, size: int) -> bytes:
        """`size` random bytes, unpredictable outside a simulation."""


class SystemClock:
    """The real thing. `monotonic` may only be asked inside ``trio.run``."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return trio.current_time()

    def token(self, size: int) -> bytes:
        return os.urandom(size)


stopwatch: Callable[[], float] = time.perf_counter
"""Seconds since an arbitrary moment, to say how long something took; nothing may be decided or waited for by it."""


def monotonic_for_threads() -> Callable[[], float]:
    """What trio waits by, to be asked from any thread. Called in the event loop."""
    return trio.lowlevel.current_clock().current_time


def deadline_from_now(seconds: float) -> float:
    """When so many seconds have passed, as gRPC takes deadlines: seconds since 1970. It counts them by itself."""
    return time.time() + seconds


def local_text(wall_ns: int, *, seconds: bool = False) -> str:
    """A moment of the wall clock as people here write it: "2026-11-22 10:07"."""
    shape = "%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M"
    return time.strftime(shape, time.localtime(wall_ns // 1_000_000_000))


def utc(wall_ns: int) -> datetime:
    """A moment of the wall clock as other libraries want it."""
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC)


def span(seconds: float) -> timedelta:
    """A length of time as other libraries want it."""
    return timedelta(seconds=seconds)
