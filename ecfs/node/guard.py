"""Who may make a call now: limits that keep one client, or all of them, from taking the node down.

Used from gRPC's threads. Whatever is refused here has cost a few microseconds and no memory.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from ecfs.errors import UsageError
from ecfs.rpc.limits import MAX_CALL_S, MIB

CALLS = 48
"""Calls that are worked on at a time, each with a thread; a disk has 8 threads of its own."""
CALLS_PER_CLIENT = 40
"""A mount has 16 on their way at most, and other commands of its host may come beside it."""
STANDING = 45
STANDING_PER_CLIENT = 27
"""The same for calls that stay open between their messages, which do nothing for most of the time: three mounts' worth.
Who gets none makes a call for each message."""
COMERS = 4
"""Clients on their way in at a time, who may stay and have no deadline."""
HOLDS = COMERS + 2
"""Threads for streams that stay open: one client that has the drive, one on its way out, and comers."""
WINDOW_S = 0.25
CALLS_PER_WINDOW = 2000
"""Calls and messages that one client may begin within `WINDOW_S`: four times what a node can answer."""
MEMORY = 256 * MIB
"""Bytes of data that calls may have announced and not yet given to the disk, beyond their first message."""
MEMORY_PATIENCE_S = 10.0


class OverloadedError(Exception):
    """This call is one too many, and nothing was done for it. The text says of what."""


class Guard:
    """Counts calls per client, by its certificate's name or its address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._running: Counter[str] = Counter()
        self._standing: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()
        self._memory = MEMORY
        self._comers = threading.BoundedSemaphore(COMERS)

    async def run(self) -> None:
        """Begin a new window every `WINDOW_S`; for ever."""
        while True:
            await trio.sleep(WINDOW_S)
            with self._lock:
                self._begun.clear()

    @contextmanager
    def call(
        self, client: str, time_remaining: float | None, most_s: float = MAX_CALL_S, *, standing: bool = False
    ) -> Iterator[None]:
        """One call. standing: it stays open between its messages. Raises OverloadedError; UsageError for a call that
        could last for ever."""
        if time_remaining is None or time_remaining > most_s * 1.05:  # gRPC rounds it up on its way
            raise UsageError(f"a call needs a deadline of {most_s:g} s at most")
        if standing:
            running, most, most_of_all = self._standing, STANDING_PER_CLIENT, STANDING
        else:
            running, most, most_of_all = self._running, CALLS_PER_CLIENT, CALLS
        self._enter(client, running, most, most_of_all)
        try:
            yield
        finally:
            with self._lock:
                running[client] -= 1
                if not running[client]:
                    del running[client]

    def _enter(self, client: str, running: Counter[str], most: int, most_of_all: int) -> None:
        with self._lock:
            if running[client] >= most:
                raise OverloadedError(f"more than {most} calls of one client at a time")
            if running.total() >= most_of_all:
                raise OverloadedError(f"more than {most_of_all} calls at a time")
            self._count(client)
            running[client] += 1

    def message(self, client: str) -> None:
        """One message of a call that stays open. Raises OverloadedError."""
        with self._lock:
            self._count(client)

    def _count(self, client: str) -> None:
        if self._begun[client] >= CALLS_PER_WINDOW:
            raise OverloadedError("too many calls per second")
        self._begun[client] += 1

    @contextmanager
    def coming(self) -> Iterator[None]:
        """One client until it is in. Raises OverloadedError. Apart from calls: comers never keep those waiting."""
        if not self._comers.acquire(blocking=False):
            raise OverloadedError(f"more than {COMERS} clients on their way in at a time")
        try:
            yield
        finally:
            self._comers.release()

    @contextmanager
    def memory(self, size: int) -> Iterator[None]:
        """Room for `size` bytes that are to come. Waits for it; raises OverloadedError."""
        with self._room:
            if not self._room.wait_for(lambda: self._memory >= size, MEMORY_PATIENCE_S):
                raise OverloadedError("too much data at a time")
            self._memory -= size
        try:
            yield
        finally:
            with self._room:
                self._memory += size
                self._room.notify_all()
