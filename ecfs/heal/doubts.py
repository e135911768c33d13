"""Shards of checkpoints that are being put right: they count as missing until the new ones are durable.

The ledger knows the stripes of files only. Without this note, a process that ends between the put of a shard and its
sync would leave one that the next scrub reads, from a cache, and takes for whole, until the power goes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ecfs.drive.base import Buffer, Drive
from ecfs.errors import ShardMissingError
from ecfs.heal.part import Job
from ecfs.meta import Outcome
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.rebuild import check_shard

SETTING = "checkpoint_doubts"
Pair = tuple[int, int]
"""A stripe of a checkpoint, and a slot."""


class Doubts:
    """The pairs that the setting names, and putting them right."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def about(self, fact: StripeFact, slot: int) -> ShardMissingError | None:
        """Why the shard does not count, whatever is read of it; None if it does."""
        if (fact.id, slot) not in self._noted():
            return None
        return ShardMissingError("was never made durable", slot=slot, key=fact.key)

    async def put_right(self, fact: StripeFact, shards: Mapping[int, list[Buffer]]) -> set[int]:
        """Store these shards, by slot, anew. Returns the slots on which they are durable and were read back; `settle`
        those. Raises StalledError, FencedError."""
        job = self._job
        if job.dry_run:
            return set()
        await self._note(self._noted() | {(fact.id, slot) for slot in shards})
        return {slot for slot, buffers in shards.items() if await self._put(fact, slot, buffers)}

    async def _put(self, fact: StripeFact, slot: int, buffers: list[Buffer]) -> bool:
        job, pool = self._job, self._job.ctx.pool
        member = pool.members[slot]
        incarnation = member.incarnation

        async def write(drive: Drive) -> None:
            await drive.put(fact.key, buffers, replace=True)

        async def read_back(drive: Drive) -> None:
            await check_shard(drive, fact, slot, pool.pool_id)

        durable = await job.change(member, write) and await job.sync(member)
        return durable and member.incarnation == incarnation and await job.change(member, read_back)

    async def settle(self, done: Collection[Pair]) -> None:
        """These are durable: no doubt is left about them. Raises StalledError, FencedError."""
        if done:
            await self._note(self._noted() - set(done))

    def _noted(self) -> set[Pair]:
        return {(stripe, slot) for stripe, slot in self._job.ctx.pool.db.drives.setting(SETTING) or ()}

    async def _note(self, pairs: set[Pair]) -> None:
        """Of checkpoints that are gone nothing needs to be known."""
        pool = self._job.ctx.pool
        retained = {row[0] for checkpoint in pool.checkpoints for row in checkpoint.stripes}
        kept = sorted(pair for pair in pairs if pair[0] in retained)
        await self._job.ctx.engine.record(Outcome(settings={SETTING: kept or None}))
