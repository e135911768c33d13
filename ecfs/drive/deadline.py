"""No operation of a drive takes longer than its deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from ecfs.drive.base import ODD, Buffer, Drive, odd_answer
from ecfs.drive.begun import Begun, Gathering
from ecfs.drive.wrapper import DriveWrapper
from ecfs.errors import DriveError, DriveTimeoutError

T = TypeVar("T")

LEFT_ALONE = frozenset({"put", "sync", "append"})
"""The commit engine watches these itself: a drive that is late among many late ones must not be taken out (R5)."""

NO_USAGE = frozenset({"read", "read_shards", "delete", "list", "space", "alive", "strays", "read_fence", "location"})
"""What is only ever asked as the contract allows: a node that calls it wrong usage, or of a newer format, is odd."""

CREATE_S = 30.0
"""For making a drive, which syncs many times, and which nobody's program waits for."""


class DeadlineDrive(DriveWrapper):
    """Gives each operation (each entry of a listing) `seconds`, by default what the drive's capabilities say; and lets
    only DriveErrors out of those that promise it.

    The operation itself may go on: see `Drive.abandoned`.
    """

    def __init__(self, inner: Drive, seconds: float | None = None) -> None:
        super().__init__(inner)
        self.seconds = inner.capabilities.deadline_s if seconds is None else seconds

    async def around(self, operation: str, key: str | None, call: Callable[[], Awaitable[T]]) -> T:
        if operation in LEFT_ALONE:
            return await call()
        seconds = max(self.seconds, CREATE_S) if operation == "create" else self.seconds
        with trio.move_on_after(seconds):
            try:
                return await call()
            except ODD as error:
                if operation not in NO_USAGE:
                    raise
                # Whoever asked is ready for a DriveError only: anything else of one drive would end the mount.
                raise odd_answer(error, self.slot, key) from error
        raise DriveTimeoutError(f"no answer to {operation} within {seconds:g} s", slot=self.slot, key=key)

    async def read_shards(
        self, wanted: Sequence[tuple[str, Sequence[tuple[int, int]]]]
    ) -> list[list[bytes] | DriveError]:
        return await self.around("read_shards", None, lambda: self.inner.read_shards(wanted))

    def begin_append(self, segment: str, offset: int, record: Buffer, gathering: Gathering) -> Begun | None:
        return self.inner.begin_append(segment, offset, record, gathering)
