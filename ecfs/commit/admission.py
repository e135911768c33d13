"""Before a change: is it allowed now, is there room in memory, is there room on the drives? (R6, R23, promise 10)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ecfs.commit.space import CHECKPOINTS, Usable, journal_limit
from ecfs.errors import NotEnoughDrivesError, PoolFullError, StalledError

if TYPE_CHECKING:
    from ecfs.commit.engine import Engine


class Admission:
    """Says yes, waits, or says why not; then nothing was changed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = engine.pool
        self._reclaiming = trio.Lock()

    async def admit(self, size: int, *, deleting: bool, metadata: int = 0) -> None:
        """Raises StalledError, FencedError, NotEnoughDrivesError, PoolFullError."""
        backlog = self._engine.compactor.backlog
        await self._wait_for_memory(size)
        if size and await backlog.wait_turn(size):
            await self._wait_for_memory(size)
        if not deleting:
            await self._find_room(size, metadata)
        backlog.written(size)

    async def _wait_for_memory(self, size: int) -> None:
        """Also says whether changes are allowed at all. Asked again after every other wait: the engine may have stalled
        meanwhile, and of 32 who go on at once each would still see the room that one of them takes."""
        self._refuse_if_unable()
        while self._is_crowded(size):
            await self._engine.wait_for_room()
            self._refuse_if_unable()

    def _refuse_if_unable(self) -> None:
        engine = self._engine
        engine.raise_if_failed()
        if self._pool.settings.read_only:
            raise StalledError("mounted read-only")
        if len(self._pool.members.writable()) < self._pool.members.need:
            raise NotEnoughDrivesError("too few drives for writing")

    def _is_crowded(self, size: int) -> bool:
        """Memory is bounded: dirty data, sealed stripes, and the rows of one commit. An idle engine takes anything."""
        engine, settings = self._engine, self._pool.settings
        return (
            engine.dirty.total + size > settings.dirty_limit
            or engine.sealed.bytes > settings.sealed_limit
            or engine.db.changes > 2 * settings.commit_rows
            or self._is_patchset_large()
        ) and engine.in_memory() + engine.db.changes > 0

    def _is_patchset_large(self) -> bool:
        """More than a commit should take, and than the journal bears. Large drives bear more: nobody waits so soon."""
        size = self._engine.db.patchset_estimate()
        return size > 2 * self._pool.settings.commit_bytes and size > journal_limit(self._pool) // 4

    async def _find_room(self, size: int, metadata: int) -> None:
        keeper = self._engine.space_keeper
        size += metadata * (self._pool.geometry.k + CHECKPOINTS)  # in the journal of every drive it is whole
        if not keeper.fits(size):
            await self._make_room(size)
            await self._wait_for_memory(size)
            if not keeper.fits(size):
                raise PoolFullError("no space left for new data")
        keeper.promise(size)

    async def has_room(self, size: int) -> bool:
        """See `FileData.has_room`."""
        if not self._engine.space_keeper.fits(size):
            await self._make_room(size)
        return self._engine.space_keeper.fits(size)

    async def _make_room(self, size: int) -> None:
        """Before saying no: what is dead may only wait for a commit or for the compactor. Bounded, not a loop."""
        async with self._reclaiming:
            if not self._engine.space_keeper.fits(size):
                await self._reclaim(size)

    async def _reclaim(self, size: int) -> None:
        """Look again; commit, delete what died, compact once, look again."""
        engine = self._engine
        await engine.space_keeper.sample()
        if engine.space_keeper.fits(max(size, self._pool.settings.stripe_size)):
            return
        await engine.sync()
        await engine.compactor.compact_once(urgent=True)
        await engine.sync()
        await engine.reaper.drain()
        await engine.space_keeper.sample()

    def usable(self) -> Usable:
        """For statfs: total is what is stored plus what still fits, so that the reserve, the metadata and whatever
        else lies on those disks is never shown as taken by files."""
        engine = self._engine
        usable = engine.space_keeper.usable() or Usable(0, 0, 0)
        stored = engine.db.ledger.total_length() + engine.db.files.inline_total + engine.in_memory()
        return Usable(stored + usable.free, usable.free, usable.kept)
