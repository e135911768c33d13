"""Bringing the pieces of a file together again, once nobody uses the pool.

A file that was overwritten at random lies in thousands of pieces, each a row to look up and a block to verify when the
file is read. Compaction keeps it so. What programs wrote in pieces is therefore read and written anew in the file's
order, a stripe at a time: hardly more bytes than they wrote, only while they rest, and only right after, so that no
drive is woken for it. What is left at an unmount stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ecfs.commit.readahead import is_fragmented
from ecfs.commit.sealer import Moved
from ecfs.errors import CorruptError, StripeLostError

if TYPE_CHECKING:
    from ecfs.commit.compactor import Compactor
    from ecfs.commit.engine import Engine

IDLE_S = 2.0
"""Since a program last read or changed something."""
SPARE_STRIPES = 4
"""Room that must be left: the old places become free only later."""


class Tidier:
    """Takes the files that `Sealer.scattered` names, one after the other, each from its start to its end."""

    def __init__(self, engine: Engine, compactor: Compactor) -> None:
        self._engine = engine
        self._compactor = compactor
        self._at: dict[int, int] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._engine.sealer.scattered) and not self._engine.pool.settings.read_only

    def is_time(self) -> bool:
        """Nobody uses the pool, all drives are there, and there is room."""
        engine = self._engine
        usable = engine.space_keeper.usable()
        return (
            self.has_work
            and not engine.ending
            and trio.current_time() - engine.last_use >= IDLE_S
            and not engine.pool.members.out_slots()
            and not engine.dirty.total
            and usable is not None
            and usable.free > SPARE_STRIPES * engine.pool.settings.stripe_size
        )

    async def tidy_once(self) -> bool:
        """Write one stretch of a file anew. False if there is nothing to be done."""
        scattered, size = self._engine.sealer.scattered, self._engine.pool.settings.stripe_size
        ino = next(iter(scattered))
        lo = await self._next_stretch(ino, size)
        if lo is None:
            scattered.pop(ino, None)
            self._at.pop(ino, None)
            return False
        self._at[ino] = lo + size
        moved = await self._gather(ino, lo, lo + size)
        left = scattered.get(ino, 0) - sum(len(piece.data) for piece in moved)
        if left > 0:
            scattered[ino] = left
        else:
            scattered.pop(ino, None)
            self._at.pop(ino, None)
        return await self._compactor.swap(moved)

    async def _next_stretch(self, ino: int, size: int) -> int | None:
        """Where the next one begins that lies in small pieces of many stripes; None if there is none any more."""
        inode, files = self._engine.db.names.inode(ino), self._engine.db.files
        for lo in range(self._at.get(ino, 0), inode.size if inode is not None else 0, size):
            extents = files.extents(ino, lo, lo + size)
            length = sum(extent.length for extent in extents)
            # One stripe alone holds what was tidied already: holes keep the pieces of some files apart for ever.
            if is_fragmented(len(extents), length) and len({extent.source for extent in extents}) > 1:
                return lo
            await trio.lowlevel.checkpoint()
        return None

    async def _gather(self, ino: int, lo: int, hi: int) -> list[Moved]:
        try:
            extents, data = await self._engine.files.gather(ino, lo, hi)
        except (StripeLostError, CorruptError):
            return []  # left where it is, for scrub to judge
        return [Moved(each, bytes(data[each.offset - lo : each.end - lo])) for each in extents]
