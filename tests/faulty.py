"""A drive that hangs or fails on demand, around any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ecfs.drive.base import Drive
from ecfs.drive.wrapper import DriveWrapper

T = TypeVar("T")


class FaultyDrive(DriveWrapper):
    """hanging: operations that wait until `release`. failing: operation → error to raise, until removed."""

    def __init__(self, inner: Drive) -> None:
        super().__init__(inner)
        self.hanging: set[str] = set()
        self.failing: dict[str, Exception] = {}
        self._released = trio.Event()

    def release(self) -> None:
        self.hanging.clear()
        self._released.set()
        self._released = trio.Event()

    async def around(self, operation: str, key: str | None, call: Callable[[], Awaitable[T]]) -> T:
        if operation in self.failing:
            raise self.failing[operation]
        if operation in self.hanging:
            await self._released.wait()
        return await call()
