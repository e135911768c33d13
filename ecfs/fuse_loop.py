"""A stand-in for what pyfuse3 calls ``trio``, so that a request that is already there is taken at once.

pyfuse3 goes through the event loop before every single request: it takes a lock, registers the descriptor with epoll
and sleeps, even when the next request is waiting. Its asyncio mode shows the way to put something else in trio's
place. Here the descriptor is polled first; when it has nothing and nobody else can run, the poll waits a moment, since
a program that does one thing after the other sends its next request some microseconds after the last answer.

Nobody starves: every `TURN` requests or `TURN_S`, and before every longer wait, the other tasks get their turn; the
waiting poll lets go of the GIL, and ends when a drive's thread has finished something.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import Any

import trio

from ecfs.clock import monotonic_for_threads
from ecfs.fuse_init import Introduction

TURN = 16
"""Requests taken in a row before other tasks run,"""
TURN_S = 0.002
"""or for so many seconds: of a stream, whose requests take 0.5 ms each, sixteen would keep what is to be put and synced
waiting until no more fits into memory and programs stand still, for 25 to 60 ms each time."""
PATIENCE_S = 60e-6
"""Seconds to wait inside the poll: about as long as going through the event loop takes."""


class QuickLock:
    """What pyfuse3 uses of `trio.Lock`: who holds it takes the next request.

    Whoever comes first gets it. Handed over to the one that waits, every request would be taken by another task than
    the last one, and each change of tasks goes through the event loop.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._parked = 0
        self.woken = 0
        """Waiting tasks that were told that it is free and have not run since."""

    async def __aenter__(self) -> None:
        while self._held:
            await self._park()
        self._held = True

    async def _park(self) -> None:
        self._parked += 1
        try:
            await self._waiting.park()
        except BaseException:
            self._parked -= 1
            raise
        self.woken -= 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = False
        if self._parked:
            self._parked -= 1
            self.woken += 1
            self._waiting.unpark()  # should the request take long, that one takes the next ones


class PollFirst:
    """`wait_readable` and `notify_closing` for one descriptor, that of the FUSE session, and the lock around them.

    The loop is told of the end of the session by `notify_closing`, once. Trio tells only who is waiting at that moment;
    here the one who waits also gives way to other tasks before, and must not go to sleep for ever if it was then.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.lock = QuickLock()
        self._patience_s = patience_s
        self._poll = select.poll()
        self._fd = -1
        self._taken = 0
        self._until = math.inf
        self._now: Callable[[], float] = trio.current_time
        self._wakeup = -1
        """The socket by which threads wake trio; -1 if it is not known."""
        self._runnable: Callable[[], int] = _count_runnable
        self._closing = False
        self._introduction: Introduction | None = None

    def notify_closing(self, fd: int) -> None:
        self._closing = True
        trio.lowlevel.notify_closing(fd)

    async def _give_way(self) -> None:
        await trio.lowlevel.checkpoint()
        self._begin_turn()
        if self._closing:
            raise trio.ClosedResourceError("the session ends")

    def _begin_turn(self) -> None:
        self._taken, self._until = 0, self._now() + TURN_S

    def _watch(self, fd: int) -> None:
        self._fd, self._poll = fd, select.poll()
        self._now = monotonic_for_threads()  # the same clock, for each request: a third of what asking trio takes
        self._poll.register(fd, select.POLLIN)
        self._begin_turn()
        try:
            runner: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner
            self._wakeup = runner.entry_queue.wakeup.wakeup_sock.fileno()
            self._runnable = runner.runq.__len__
        except AttributeError:
            pass  # another trio: that only costs some microseconds

    async def wait_readable(self, fd: int) -> None:
        if fd != self._fd:
            self._watch(fd)
            self._introduction = Introduction.begin(fd)
            if self._introduction is not None:
                return  # libfuse has something to read
        elif self._introduction is not None:
            self._introduction.finish()
            self._introduction = None
        poll = self._poll
        self._taken += 1
        if self._taken >= TURN or self._now() >= self._until:
            await self._give_way()
        if poll.poll(0) or (self._is_idle() and self._wait_a_moment(fd)):
            return
        await self._give_way()
        if not poll.poll(0):
            await trio.lowlevel.wait_readable(fd)
            self._begin_turn()

    def _is_idle(self) -> bool:
        """Nobody else could run now, but for tasks that would only find the lock taken."""
        return self._patience_s > 0 and self._runnable() <= self.lock.woken

    def _wait_a_moment(self, fd: int) -> bool:
        watched = [fd] if self._wakeup < 0 else [fd, self._wakeup]
        return fd in select.select(watched, (), (), self._patience_s)[0]


def _count_runnable() -> int:
    return trio.lowlevel.current_statistics().tasks_runnable


def stand_in(patience_s: float = PATIENCE_S) -> SimpleNamespace:
    """To be put where pyfuse3 has its module ``trio``."""
    polling = PollFirst(patience_s)
    forwarded: dict[str, Callable[..., Any]] = {
        name: getattr(trio.lowlevel, name) for name in ("current_trio_token", "current_task")
    }
    return SimpleNamespace(
        open_nursery=trio.open_nursery,
        from_thread=trio.from_thread,
        ClosedResourceError=trio.ClosedResourceError,
        Lock=lambda: polling.lock,
        lowlevel=SimpleNamespace(
            wait_readable=polling.wait_readable, notify_closing=polling.notify_closing, **forwarded
        ),
    )
