"""Programs first: beside them, a scrub takes one shard at a time and then rests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ecfs.commit.engine import Engine

QUIET_S = 0.1
"""A pool that nobody has read or changed for so long is idle: then a scrub takes all it can get."""
REST = 3.0
"""Times as long as the work took. Programs keep more than 70 % of their rate."""
LONGEST_REST_S = 1.0


class Pace:
    """Shared by everything that one scrub does side by side."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._alone = trio.Lock()

    def is_busy(self) -> bool:
        """Whether programs use the pool just now."""
        return trio.current_time() - self._engine.last_use < QUIET_S

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Around the check of one shard. Full speed on an idle pool."""
        if not self.is_busy():
            yield
            return
        async with self._alone:
            began = trio.current_time()
            yield
            await trio.sleep(min(REST * (trio.current_time() - began), LONGEST_REST_S))
