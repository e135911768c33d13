"""Waiting for operations of several drives at once: one wake-up of the event loop for all of them.

Short ones stand in a line for a few threads. Six threads that each make a few system calls of some microseconds spend
most of their time taking Python's lock from each other: on two busy cores, six appends of 100 µs took 3 ms that way.
Disks that are slower than that are written all at once (`Line`), and one that hangs must not hold up the others (R20):
after `PATIENCE_S` each operation that still waits gets a thread of its own.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Protocol

import trio

from ecfs.clock import monotonic_for_threads

AT_ONCE = 3
"""Threads for a line. On two idle cores six appends in one thread took 1.6 ms, in two 1.0, in three 0.7, in six 1.0:
an idle processor takes its time to wake, and that of several threads overlaps."""
PATIENCE_S = 0.005
"""After this a line is dissolved."""
SHORT_S = 0.002
"""What a line's operations may take together. Above, waiting for the disks costs more than many threads do."""
REMEMBERED = 16
"""Gatherings. The shortest of them tells of the disks; the others may tell of a busy machine."""


class Begun(Protocol):
    """An operation that is on its way in a thread. For the event loop only."""

    @property
    def seconds(self) -> float | None:
        """How long it took, without waiting in a line; None before it is done."""

    def result(self) -> None:
        """Once it is done: raise what the operation raises."""

    def give_up(self) -> None:
        """Nobody waits for it any more, its gathering neither, as if a call that waits had been cancelled."""


class Timed:
    """A `done` that notes when it was called."""

    def __init__(self, done: Callable[[], object]) -> None:
        self._done = done
        self._now = monotonic_for_threads()
        self._began = self._now()
        self._ended: float | None = None

    def begin(self) -> None:
        """It waited until now."""
        self._began = self._now()

    def done(self) -> None:
        self._ended = self._now()
        self._done()

    @property
    def seconds(self) -> float | None:
        return None if self._ended is None else self._ended - self._began


class Line:
    """Whether gatherings of the same drives let their short operations wait in a line, as the disks deserve."""

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=REMEMBERED)
        self._count = 0

    def note(self, seconds: float) -> None:
        """What the operations of a gathering took together."""
        self._took.append(seconds)

    def threads(self, works: int) -> int:
        """How many to begin with. Now and then few: many threads would make fast disks look slow for ever."""
        self._count += 1
        is_short = min(self._took, default=0.0) < SHORT_S or not self._count % REMEMBERED
        return min(works, AT_ONCE) if is_short else works


_bells: list[int] = []
"""Eventfds that nobody waits for. Never closed: a thread that is late may still ring one, which wakes whoever has it
then for nothing; written to a number that was closed, it would end up in another file."""


def _bell() -> int:
    """Raises OSError."""
    try:
        return _bells.pop()
    except IndexError:
        return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


def _silence(bell: int) -> None:
    with suppress(BlockingIOError):
        os.eventfd_read(bell)


class Gathering:
    """Begin several operations, each with a `done` from `expect` or by `line_up`, then `wait`."""

    def __init__(self, line: Line | None = None) -> None:
        self._line = Line() if line is None else line
        self._works: deque[tuple[Callable[[], object], Callable[[], object]]] = deque()
        self._has_thread = False
        self._busy_s = 0.0
        self._now = monotonic_for_threads()
        self._guard = threading.Lock()
        self._numbers = count()
        self._open: set[int] = set()
        self._over = False
        self._bell: int | None = None
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
            self._over = True  # before the bell is looked at: see `_ended`
            if self._bell is not None:
                os.eventfd_write(self._bell, 1)

    def line_up(self, work: Callable[[], object], fail: Callable[[], object]) -> None:
        """Have a thread do this, which is short, when `wait` is called. It then tells what it got from `expect`.

        fail: called instead where no thread is to be had.
        """
        self._works.append((work, fail))

    async def wait(self) -> None:
        """Until all are done. After the last `expect`."""
        self._everything_began()
        self._start(self._line.threads(len(self._works)))
        if self._works:
            with trio.move_on_after(PATIENCE_S):
                await self._ended()
        self._start(len(self._works))
        await self._ended()
        self._line.note(self._busy_s)

    async def _ended(self) -> None:
        """`_over`, told by a descriptor that the loop waits for. By way of trio's queue it is told in three steps: that
        cost a fortieth of a commit."""
        if self._is_over():
            await trio.lowlevel.checkpoint()  # as any wait: who begins one thing after the other lets others run
            return
        try:
            bell = self._bell = _bell()
        except OSError:
            while not self._is_over():  # noqa: ASYNC110 (no descriptor is to be had)
                await trio.sleep(PATIENCE_S)
            return
        try:
            while not self._is_over():
                await trio.lowlevel.wait_readable(bell)
                _silence(bell)
        finally:
            _bells.append(bell)

    def _is_over(self) -> bool:
        """Asked anew each time: a thread may have said so since."""
        return self._over

    def _start(self, threads: int) -> None:
        with suppress(RuntimeError):  # no thread is to be had: those that run do all of it, later
            for _ in range(threads):
                trio.lowlevel.start_thread_soon(self._work_off, lambda _: None)
                self._has_thread = True
        while self._works and not self._has_thread:
            self._works.popleft()[1]()

    def _work_off(self) -> None:
        """In a thread. Nothing here may raise; what a work raises is for `Begun.result`."""
        with suppress(IndexError):  # another thread took the last one
            while True:
                work, began = self._works.popleft()[0], self._now()
                work()
                with self._guard:
                    self._busy_s += self._now() - began


def tell_loop(token: trio.lowlevel.TrioToken, call: Callable[[], object]) -> None:
    """From any thread: have the event loop call something; not if it has ended meanwhile."""
    try:
        token.run_sync_soon(call)
    except trio.RunFinishedError:
        return
