"""What programs may write while the compactor is behind: without a limit, a slow pool would fill with what is dead.

As long as dead bytes stay below a bound there is no limit. Above it, programs may write half of what is won back, so
that the backlog shrinks; a write waits for a second at most, so that nobody is stopped for good.
"""

from __future__ import annotations

import math

import trio

LONGEST_S = 1.0
"""That one write waits."""


class Backlog:
    """Told by the compactor while it is at work; asked before each write. Nothing here waits but `wait_turn`."""

    def __init__(self) -> None:
        self._credit = math.inf
        """Bytes that may be written."""
        self._written = 0
        """Bytes, since the last measurement."""
        self._dead = 0
        self._news = trio.Event()

    def measured(self, dead: int, bound: int) -> None:
        """So many dead bytes there are now; from `bound` on programs have to wait."""
        won = self._dead + self._written - dead
        self._dead, self._written = dead, 0
        if dead <= bound:
            self._credit = math.inf
        elif self._credit == math.inf:
            self._credit = 0
        else:
            self._credit += max(0, won // 2)
        self._tell()

    def forget(self) -> None:
        """Nothing will be won back for now, whatever the reason: nobody may wait for it."""
        self._credit = math.inf
        self._tell()

    async def wait_turn(self, size: int) -> bool:
        """Return when `size` bytes may be written; whether that was waited for."""
        waits = self._credit <= 0
        if waits:
            with trio.move_on_after(LONGEST_S):
                while self._credit <= 0:
                    await self._news.wait()
        self._credit -= size
        self._written += size
        return waits

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
