"""What programs may write while the compactor is behind: without a limit, a slow pool would fill with what is dead.

While the compactor is at work, programs may make as much dead as the bound allows. Above it, they may write half of
what is won back, so that the backlog shrinks. Nobody is stopped for good: a write waits for a second at most, a short
one for as much less, and each one less when many wait, since all requests of the mount share so many tasks.
"""

from __future__ import annotations

import math

import trio

LONGEST_S = 1.0
"""That one write waits."""
SIZE_OF_LONGEST = 64 * 1024
"""Bytes of a write that may have to wait that long."""
AT_ONCE = 8
"""Writes that may wait that long: n times as many wait an n-th of it."""
MOST_OWED = 64 << 20
"""Bytes that moving may have stored twice before it wins anything."""
MOST_DEBT = 1 << 20
"""Bytes written by those who had waited long enough, which the next ones have to wait for."""


class Backlog:
    """Told by the compactor while it is at work; asked before each write, told of it when it is allowed. Nothing here
    waits but `wait_turn`."""

    def __init__(self) -> None:
        self._credit = math.inf
        """Bytes that may be written."""
        self._written = 0
        """Bytes, since the last measurement."""
        self._dead = 0
        self._owed = 0
        """Bytes by which there was more dead than before: what moves is there twice until its old place dies."""
        self._waiting = 0
        self._news = trio.Event()

    def measured(self, dead: int, bound: int) -> None:
        """So many dead bytes there are now; from `bound` on programs have to wait."""
        begins = self._credit == math.inf
        won = 0 if begins else self._dead + self._written - dead - self._owed
        self._dead, self._written, self._owed = dead, 0, min(max(0, -won), MOST_OWED)
        if dead <= bound:
            self._credit = max(bound - dead, 1)
        elif begins:
            self._credit = 0
        else:
            self._credit = max(self._credit, -MOST_DEBT) + max(0, won // 2)
        self._tell()

    def forget(self) -> None:
        """Nothing will be won back for now, whatever the reason: nobody may wait for it."""
        self._credit = math.inf
        self._tell()

    async def wait_turn(self, size: int) -> bool:
        """Return when `size` bytes may be written; whether that was waited for."""
        waits = self._credit <= 0
        if waits:
            self._waiting += 1
            try:
                with trio.move_on_after(self._patience(size)):
                    while self._credit <= 0:
                        await self._news.wait()
            finally:
                self._waiting -= 1
        return waits

    def written(self, size: int) -> None:
        """So many bytes are written now. Counted with its turn, what is refused afterwards for want of room would look
        as if the compactor had won it back."""
        self._credit -= size
        self._written += size

    def _patience(self, size: int) -> float:
        """Seconds."""
        return LONGEST_S * min(1, size / SIZE_OF_LONGEST) * min(1, AT_ONCE / self._waiting)

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()
