"""Changes on their way, and what must not happen beside them (R2).

A fence is promised only when nothing that was admitted before it can still change the drive: whoever was fenced off
after that has truly stopped.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

LOOK_AGAIN_S = 0.002


class Gate:
    """Many changes at a time, each in a thread; or one who is alone, in the event loop.

    abandoned: how many calls were given up and still run; they may yet change the drive.
    """

    def __init__(self, abandoned: Callable[[], int]) -> None:
        self._abandoned = abandoned
        self._one = trio.Lock()
        self._guard = threading.Condition()
        self._changes = 0
        self._closed = False

    def change(self, admit: Callable[[], object]) -> Change:
        """Around one: waits while somebody is alone, and then asks admit(), which may raise."""
        return Change(self, admit)

    def begin(self) -> None:
        """For `Change`."""
        with self._guard:
            while self._closed:
                self._guard.wait()
            self._changes += 1

    def end(self) -> None:
        with self._guard:
            self._changes -= 1

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """No change is on its way within the block, and none begins. Waits as long as the caller does."""
        async with self._one:
            self._set_closed(True)
            try:
                while self._changes or self._abandoned():  # noqa: ASYNC110 (threads end without telling the event loop)
                    await trio.sleep(LOOK_AGAIN_S)
                yield
            finally:
                self._set_closed(False)

    def _set_closed(self, closed: bool) -> None:
        with self._guard:
            self._closed = closed
            self._guard.notify_all()


class Change:
    """A class of its own: as a generator it would take three times as long, for every change."""

    __slots__ = ("_admit", "_gate")

    def __init__(self, gate: Gate, admit: Callable[[], object]) -> None:
        self._gate = gate
        self._admit = admit

    def __enter__(self) -> None:
        self._gate.begin()
        try:
            self._admit()
        except BaseException:
            self._gate.end()
            raise

    def __exit__(self, *_: object) -> None:
        self._gate.end()
