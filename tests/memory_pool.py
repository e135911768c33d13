"""A pool on six drives in memory, for tests below FUSE."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from ecfs.clock import SystemClock
from ecfs.commit.engine import Engine
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.geometry import Geometry
from ecfs.journal.create import create_pool
from ecfs.journal.opened import OpenedPool
from ecfs.journal.opening import open_pool
from ecfs.pool.settings import Settings


async def in_line(call: Callable[..., Any], *arguments: Any) -> Any:
    """Instead of a thread: with one, what happens next would depend on the machine."""
    return call(*arguments)


class MemoryPool:
    """Six stores that outlive every opening."""

    def __init__(self, scratch: Path, k: int = 4, m: int = 2, **settings: int) -> None:
        self.geometry = Geometry(1, k, m)
        self.stores = [MemoryStore() for _ in range(k + m)]
        self.scratch = scratch
        self.settings = Settings(**settings)  # type: ignore[arg-type]
        self.pool_id = ""
        self.drives: list[MemoryDrive] = []

    def handles(self) -> list[MemoryDrive]:
        self.drives = [MemoryDrive(store, name=str(slot)) for slot, store in enumerate(self.stores)]
        return self.drives

    async def create(self) -> None:
        self.pool_id = await create_pool(self.handles(), self.geometry, clock=SystemClock(), scratch=self.scratch)

    async def open(self, **options: bool) -> OpenedPool:
        opened = await open_pool(
            self.handles(),
            pool_id=self.pool_id,
            clock=SystemClock(),
            scratch=self.scratch,
            settings=self.settings,
            **options,
        )
        opened.in_thread = in_line
        return opened

    @asynccontextmanager
    async def engine(self, *, clean: bool = True) -> AsyncIterator[Engine]:
        """An engine on the opened pool; clean=False leaves it as a kill would."""
        engine = Engine(await self.open())
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            try:
                yield engine
                if clean:
                    assert await engine.close()
            finally:
                nursery.cancel_scope.cancel()
                for drive in self.drives:
                    with trio.CancelScope(shield=True):
                        await drive.close()
                engine.db.close()

    def crash(self) -> None:
        for store in self.stores:
            store.crash()
