"""The threads of one local drive: a hung disk holds up its own calls only (R20).

Trio's own way into a thread costs some 100 µs of the event loop per call: a limiter, a copy of the context, two names
for the thread. Here a call is handed to one of trio's cached threads as it is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

import trio

from ecfs.drive.begun import Gathering, Timed, tell_loop
from ecfs.drive.held import Held
from ecfs.errors import DriveError, DriveUnreachableError

T = TypeVar("T")

THREADS = 8
"""Calls that one drive works on at a time; further ones wait for a thread."""

CLOSE_PATIENCE_S = 1.0


class Threads:
    """Runs calls in threads, so many at a time. A call that was given up keeps its thread until it returns."""

    def __init__(self, count: int = THREADS) -> None:
        self._guard = threading.Lock()
        self._free = count
        self._waiting: deque[Call[Any]] = deque()
        self.abandoned = 0
        """Calls that nobody waits for any more and that have not returned."""

    async def run(self, work: Callable[[], T], discard: Callable[[T], None] | None = None) -> T:
        """The result of work(). When cancelled, work that has begun goes on; work that has not never begins.

        discard: gets, in a thread, the result that nobody waits for any more, such as a descriptor to be closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        task = trio.lowlevel.current_task()

        def wake() -> None:
            if not call.given_up:  # else it was woken by being cancelled
                trio.lowlevel.reschedule(task)

        def give_up(_: object) -> trio.lowlevel.Abort:
            call.give_up()
            return trio.lowlevel.Abort.SUCCEEDED

        call = self.begin(work, partial(tell_loop, trio.lowlevel.current_trio_token(), wake), discard)
        await trio.lowlevel.wait_task_rescheduled(give_up)
        return call.result()

    def begin(
        self, work: Callable[[], T], done: Callable[[], object], discard: Callable[[T], None] | None = None
    ) -> Call[T]:
        """Begin work() as soon as a thread is free; done() is called in that thread, or when it is given up."""
        call = Call(self, work, done, discard)
        with self._guard:
            if not self._free:
                self._waiting.append(call)
                return call
            self._free -= 1
        _in_thread(partial(self._work, call), partial(self._fail, call))
        return call

    def line_up(self, work: Callable[[], T], gathering: Gathering) -> Call[T]:
        """`begin` for short work, which the gathering does in a thread for several drives."""
        call = Call(self, work, gathering.expect(), None)
        with self._guard:
            if not self._free:
                self._waiting.append(call)
                return call
            self._free -= 1
        gathering.line_up(partial(self._work_in_line, call), partial(self._fail, call))
        return call

    def _work(self, call: Call[Any] | None) -> None:
        """In a thread: this call, then those that wait for one."""
        while call is not None:
            call.execute()
            call = self._next()

    def _work_in_line(self, call: Call[Any]) -> None:
        """As `_work`, but those that wait are not for this thread: it has other drives' work to do."""
        call.execute()
        waiting = self._next()
        if waiting is not None:
            work = partial(self._work, waiting)
            _in_thread(work, work)

    def _fail(self, call: Call[Any] | None) -> None:
        """The system has no thread to give, for a moment perhaps. Only these calls are to fail: as a RuntimeError that
        would end the commit engine, and the threads that were counted would never be free again."""
        while call is not None:
            call.fail(DriveUnreachableError("no thread could be started for it"))
            call = self._next()

    def _next(self) -> Call[Any] | None:
        """The call that waits for the thread that is free now; if none does, there is one more free thread."""
        with self._guard:
            if self._waiting:
                return self._waiting.popleft()
            self._free += 1
            return None

    def count(self, change: int) -> None:
        with self._guard:
            self.abandoned += change


class Call(Generic[T]):
    """One call on its way: waiting, running, done, or given up."""

    def __init__(
        self,
        owner: Threads,
        work: Callable[[], T],
        done: Callable[[], object],
        discard: Callable[[T], None] | None,
    ) -> None:
        self._owner = owner
        self._work = work
        self._timed = Timed(done)
        self._discard = discard
        self._guard = threading.Lock()
        self._running = False
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.given_up = False

    def execute(self) -> None:
        with self._guard:
            if self.given_up:
                return
            self._running = True
        self._timed.begin()
        # What it holds, buffers of a stripe for one, must not stay until the garbage collector finds this call, whose
        # `done` may lead back to it: so much was kept that a copy of 4 GiB took 340 MiB.
        work, self._work = self._work, _already_done
        try:
            result = work()
        except BaseException as error:
            self._error = error
        else:
            self._results.append(result)
        if self._was_given_up():
            self._throw_away()
            self._owner.count(-1)
        else:
            self._timed.done()

    def fail(self, error: DriveError) -> None:
        """Instead of `execute`."""
        self._work, self._error = _already_done, error
        self._timed.done()

    def _was_given_up(self) -> bool:
        with self._guard:
            self._running = False
            return self.given_up

    @property
    def seconds(self) -> float | None:
        """How long work() took; None before it is done."""
        return self._timed.seconds

    def result(self) -> T:
        """What work() returned or raised, once it is done. To be asked once: the call keeps nothing."""
        if self._error is not None:
            raise self._error
        return self._results.pop()

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        with self._guard:
            if self.given_up:
                return
            self.given_up = True
            running = self._running
            if running:
                self._owner.count(+1)
        self._timed.done()
        if not running and self._results:
            # It returned a moment before it was given up.
            _soon(self._throw_away)

    def _throw_away(self) -> None:
        if self._discard is not None:
            for result in self._results:
                self._discard(result)


def _nothing(_: object) -> None:
    """start_thread_soon wants to be told where results go."""


def _in_thread(work: Callable[[], object], otherwise: Callable[[], object]) -> None:
    """otherwise: called here where no thread is to be had."""
    try:
        trio.lowlevel.start_thread_soon(work, _nothing)
    except RuntimeError:
        otherwise()


def _soon(work: Callable[[], object]) -> None:
    """In a thread; here where none is to be had: it only lets something go, and nobody could handle an error."""
    _in_thread(work, work)


def _already_done() -> NoReturn:
    raise RuntimeError("a call is made once")


def close_soon(things: Iterable[Held[int]]) -> None:
    """Close in a thread and don't wait: on a hung disk even that may take for ever."""
    things = list(things)
    if things:
        _soon(lambda: _close(things))


async def close_patiently(things: Iterable[Held[int]]) -> None:
    """Close in a thread; wait at most a second, even when cancelled, so that locks are usually free on return."""
    things = list(things)
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def close() -> None:
        _close(things)
        tell_loop(token, done.set)

    _soon(close)
    with trio.move_on_after(CLOSE_PATIENCE_S, shield=True):
        await done.wait()


def _close(things: list[Held[int]]) -> None:
    for thing in things:
        thing.close()
