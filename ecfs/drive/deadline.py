"""No operation of a drive takes longer than its deadline."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import trio

from ecfs.drive.base import KEY_PATTERN, ODD, PREFIX_PATTERN, Buffer, Drive, odd_answer
from ecfs.drive.begun import Begun, Gathering
from ecfs.drive.wrapper import DriveWrapper
from ecfs.errors import DriveError, DriveTimeoutError

T = TypeVar("T")

LEFT_ALONE = frozenset({"put", "sync", "append"})
"""The commit engine watches these itself: a drive that is late among many late ones must not be taken out (R5)."""

NO_USAGE = frozenset({"read", "read_shards", "delete", "list", "space", "alive", "strays", "read_fence", "location"})
"""What is only ever asked as the contract allows: a node that calls it wrong usage, or of a newer format, is odd."""

UNKNOWN = 16 << 20
"""Bytes that are expected of a read "to the end": so much has a journal segment."""

PATIENCE_S = 30.0
"""For making a drive, which syncs many times, and for fencing one, which waits for all that its disk has yet to write.
Nobody's program waits for either."""

PATIENT = frozenset({"create", "fence"})


class DeadlineDrive(DriveWrapper):
    """Gives each operation (each entry of a listing) `seconds`, by default what the drive's capabilities say; and lets
    only DriveErrors out of those that promise it.

    The operation itself may go on: see `Drive.abandoned`. Reads share the drive's link, each slowed down by all others:
    each gets time for the data of all that are on their way (`Capabilities.bytes_per_s`), also of those that begin
    after it. Without it a healthy pool behind 100 Mbit/s gave EIO to whoever read a file in order.
    """

    def __init__(self, inner: Drive, seconds: float | None = None) -> None:
        super().__init__(inner)
        self.seconds = inner.capabilities.deadline_s if seconds is None else seconds
        self._bytes_per_s = inner.capabilities.bytes_per_s
        self._reads: dict[trio.CancelScope, float] = {}
        """Those on their way, with the seconds that the data of each may take."""

    async def around(self, operation: str, key: str | None, call: Callable[[], Awaitable[T]]) -> T:
        if operation in LEFT_ALONE:
            return await call()
        seconds = max(self.seconds, PATIENCE_S) if operation in PATIENT else self.seconds
        with trio.move_on_after(seconds):
            return await self._ask(operation, key, call)
        raise self._late(operation, key, seconds)

    async def _ask(self, operation: str, key: str | None, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except ODD as error:
            if operation not in NO_USAGE or not _is_named_right(operation, key):
                raise
            # Whoever asked is ready for a DriveError only: anything else of one drive would end healing.
            raise odd_answer(error, self.slot, key) from error

    def _late(self, operation: str, key: str | None, seconds: float) -> DriveTimeoutError:
        return DriveTimeoutError(f"no answer to {operation} within {seconds:.3g} s", slot=self.slot, key=key)

    async def _bring(
        self, operation: str, key: str | None, lengths: Iterable[int], call: Callable[[], Awaitable[T]]
    ) -> T:
        """A read of so many bytes."""
        if math.isinf(self._bytes_per_s):
            return await self.around(operation, key, call)
        began = trio.current_time()
        more = sum(UNKNOWN if length < 0 else length for length in lengths) / self._bytes_per_s
        for each in self._reads:
            each.deadline += more
        with trio.move_on_after(self.seconds + sum(self._reads.values()) + more) as scope:
            self._reads[scope] = more
            try:
                return await self._ask(operation, key, call)
            finally:
                del self._reads[scope]
        raise self._late(operation, key, trio.current_time() - began)

    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        return await self._bring("read", key, (length for _, length in ranges), lambda: self.inner.read(key, ranges))

    async def read_shards(
        self, wanted: Sequence[tuple[str, Sequence[tuple[int, int]]]]
    ) -> Sequence[Sequence[Buffer] | DriveError]:
        lengths = (length for _, ranges in wanted for _, length in ranges)
        return await self._bring("read_shards", None, lengths, lambda: self.inner.read_shards(wanted))

    def begin_put(
        self, key: str, buffers: Sequence[Buffer], gathering: Gathering, *, replace: bool = False
    ) -> Begun | None:
        return self.inner.begin_put(key, buffers, gathering, replace=replace)

    def begin_append(self, segment: str, offset: int, record: Buffer, gathering: Gathering) -> Begun | None:
        return self.inner.begin_append(segment, offset, record, gathering)


def _is_named_right(operation: str, key: str | None) -> bool:
    """False where the mistake is ours."""
    pattern = PREFIX_PATTERN if operation == "list" else KEY_PATTERN
    return key is None or pattern.fullmatch(key) is not None
