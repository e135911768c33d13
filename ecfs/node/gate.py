"""Changes on their way, and what must not happen beside them (R2).

A fence is promised only when nothing that was admitted before it can still change the drive: whoever was fenced off
after that has truly stopped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

LOOK_AGAIN_S = 0.01


class Gate:
    """Many changes at a time, or one who is alone.

    abandoned: how many calls were given up and still run; they may yet change the drive.
    """

    def __init__(self, abandoned: Callable[[], int]) -> None:
        self._abandoned = abandoned
        self._lock = trio.Lock()
        self._changes = 0
        self._idle = trio.Event()

    @asynccontextmanager
    async def change(self) -> AsyncIterator[None]:
        async with self._lock:
            self._changes += 1
        try:
            yield
        finally:
            self._changes -= 1
            if not self._changes:
                self._idle.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """No change is on its way within the block, and none begins. Waits as long as the caller does."""
        async with self._lock:
            while self._changes:
                self._idle = trio.Event()
                await self._idle.wait()
            while self._abandoned():  # noqa: ASYNC110 (their threads end without telling the event loop)
                await trio.sleep(LOOK_AGAIN_S)
            yield
