"""Waiting for operations of several drives at once: one wake-up of the event loop for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Protocol

import trio


class Begun(Protocol):
    """An operation that is on its way in a thread. For the event loop only."""

    def result(self) -> None:
        """Once it is done: raise what the operation raises."""

    def give_up(self) -> None:
        """Nobody waits for it any more, as if a call that waits had been cancelled."""


class Gathering:
    """Begin several operations, each with a `done` from `expect`, then `wait`."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._guard = threading.Lock()
        self._numbers = count()
        self._open: set[int] = set()
        self._all = trio.Event()
        self._everything_began = self.expect()

    def expect(self) -> Callable[[], None]:
        """One more to wait for: what to call, from any thread, when it is done. Calling it again does nothing."""
        number = next(self._numbers)
        with self._guard:
            self._open.add(number)
        return partial(self._done, number)

    def _done(self, number: int) -> None:
        with self._guard:
            last = self._open == {number}
            self._open.discard(number)
        if last:
            tell_loop(self._token, self._all.set)

    async def wait(self) -> None:
        """Until all are done. After the last `expect`."""
        self._everything_began()
        await self._all.wait()


def tell_loop(token: trio.lowlevel.TrioToken, call: Callable[[], object]) -> None:
    """From any thread: have the event loop call something; not if it has ended meanwhile."""
    try:
        token.run_sync_soon(call)
    except trio.RunFinishedError:
        return
