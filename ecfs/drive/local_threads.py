"""The threads of one local drive: a hung disk holds up its own calls only (R20)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

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

    async def run(self, work: Callable[[], T], discard: Callable[[T], None] | None = None) -> T:
        """The result of work(). When cancelled, work that has begun goes on; work that has not never begins.

        discard: gets, in a thread, the result that nobody waits for any more, such as a descriptor to be closed.
        """
        call = _Call(self, work, discard)
        try:
            return await trio.to_thread.run_sync(call.work, limiter=self._limiter, abandon_on_cancel=True)
        except trio.Cancelled:
            call.abandon()
            raise

    def count(self, change: int) -> None:
        with self._guard:
            self.abandoned += change


class _Call(Generic[T]):
    """One call on its way: waiting, running, done, or given up."""

    def __init__(self, owner: Threads, work: Callable[[], T], discard: Callable[[T], None] | None) -> None:
        self._owner = owner
        self._work = work
        self._discard = discard
        self._guard = threading.Lock()
        self._running = False
        self._given_up = False
        self._results: list[T] = []

    def work(self) -> T:
        with self._guard:
            if self._given_up:
                raise RuntimeError("given up before it began")  # nobody waits for this
            self._running = True
        try:
            result = self._work()
            with self._guard:
                self._results.append(result)
            return result
        finally:
            self._returned()

    def _returned(self) -> None:
        with self._guard:
            self._running = False
            given_up = self._given_up
        if given_up:
            self._throw_away()
            self._owner.count(-1)

    def abandon(self) -> None:
        with self._guard:
            self._given_up = True
            running = self._running
            if running:
                self._owner.count(+1)
        if not running:
            # It may have returned a moment before it was given up.
            trio.lowlevel.start_thread_soon(self._throw_away, lambda result: None)

    def _throw_away(self) -> None:
        if self._discard is not None:
            for result in self._results:
                self._discard(result)


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
