"""The threads of one local drive: a hung disk holds up its own calls only (R20)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

from ecfs.drive.held import Held

T = TypeVar("T")

THREADS = 8
"""Calls that one drive works on at a time; further ones wait for a thread."""

CLOSE_PATIENCE_S = 1.0


class Threads:
    """Runs calls in threads of their own limit. A call that was given up keeps its thread until it returns."""

    def __init__(self, count: int = THREADS) -> None:
        self._limiter = trio.CapacityLimiter(count)
        self._guard = threading.Lock()
        self.abandoned = 0
        """Calls that nobody waits for any more and that have not returned."""

    async def run(self, work: Callable[[], T]) -> T:
        """The result of work(). When cancelled, work that has begun goes on; work that has not never begins."""
        call = _Call(self)
        try:
            return await trio.to_thread.run_sync(call.work, work, limiter=self._limiter, abandon_on_cancel=True)
        except trio.Cancelled:
            call.abandon()
            raise

    def count(self, change: int) -> None:
        with self._guard:
            self.abandoned += change


class _Call:
    """One call on its way: waiting, running, done, or given up."""

    def __init__(self, owner: Threads) -> None:
        self._owner = owner
        self._guard = threading.Lock()
        self._running = False
        self._given_up = False

    def work(self, work: Callable[[], T]) -> T:
        with self._guard:
            if self._given_up:
                raise RuntimeError("given up before it began")  # nobody waits for this
            self._running = True
        try:
            return work()
        finally:
            self._returned()

    def _returned(self) -> None:
        with self._guard:
            self._running = False
            if self._given_up:
                self._owner.count(-1)

    def abandon(self) -> None:
        with self._guard:
            self._given_up = True
            if self._running:
                self._owner.count(+1)


def close_soon(things: Iterable[Held[int]]) -> None:
    """Close in a thread and don't wait: on a hung disk even that may take for ever."""
    things = list(things)
    if things:
        trio.lowlevel.start_thread_soon(lambda: _close(things), lambda result: None)


async def close_patiently(things: Iterable[Held[int]]) -> None:
    """Close in a thread; wait at most a second, even when cancelled, so that locks are usually free on return."""
    things = list(things)
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def deliver(result: object) -> None:
        try:
            token.run_sync_soon(done.set)
        except trio.RunFinishedError:
            return

    trio.lowlevel.start_thread_soon(lambda: _close(things), deliver)
    with trio.move_on_after(CLOSE_PATIENCE_S, shield=True):
        await done.wait()


def _close(things: list[Held[int]]) -> None:
    for thing in things:
        thing.close()
