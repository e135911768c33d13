"""Shards that belong to nothing: noted by one scrub, removed by the next that still finds them (R12)."""

from __future__ import annotations

from contextlib import aclosing

import trio

from ecfs.drive.base import Drive
from ecfs.errors import CorruptError, DriveError
from ecfs.geometry import epoch_of
from ecfs.heal.cleanup import is_named
from ecfs.heal.part import Job
from ecfs.heal.report import NOTED, Finding
from ecfs.meta import Outcome
from ecfs.pool.members import Member
from ecfs.shard import parse_key

SHARE = 100
"""More than one in so many shards of a drive is no leftover but a sign of something worse: reported, not deleted."""
ALWAYS = 16
REMEMBERED = 10_000
SHARD_S = 120e-6
"""What listing one shard takes; measured, for the time left."""
BREATH = 1000
"""Entries of a listing after which others get their turn."""


class OrphanCheck:
    """All drives of W."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.outcome = Outcome(orphan_shards={})

    def takes(self) -> float:
        """About how many seconds."""
        pool = self._job.ctx.pool
        return pool.db.ledger.count() * len(pool.members.writable()) * SHARD_S

    async def run(self) -> None:
        for member, drive in self._job.ctx.pool.members.drives():
            try:
                await self._check(member, drive)
            except DriveError as error:
                self._job.ctx.pool.members.drive_failed(member.slot, error)

    async def _check(self, member: Member, drive: Drive) -> None:
        job, slot = self._job, member.slot
        orphans, total = await self._orphans(drive)
        before = set(job.ctx.pool.db.drives.orphan_shards(slot))
        doomed = [key for key in orphans if key in before]
        given_up = bool(job.ctx.pool.db.drives.setting("quarantine"))
        if len(orphans) > max(total // SHARE, ALWAYS) or job.dry_run or given_up:
            doomed = []
        removed = [key for key in doomed if self._is_orphan(key) and await self._delete(member, key)]
        left = [key for key in orphans if key not in set(removed)]
        if removed:
            job.found("orphan-shard", f"{len(removed)} shards that belong to nothing", repaired=True, slot=slot)
        if left:
            job.add(Finding("orphan-shard", NOTED, f"{len(left)} shards belong to nothing (so far)", slot))
        if self.outcome.orphan_shards is not None and (left or before):
            self.outcome.orphan_shards[slot] = left[:REMEMBERED]

    async def _orphans(self, drive: Drive) -> tuple[list[str], int]:
        orphans, total = [], 0
        for prefix in ("s/", "c/"):
            async with aclosing(drive.list(prefix)) as entries:
                async for entry in entries:
                    total += 1
                    if self._is_orphan(entry.key):
                        orphans.append(entry.key)
                    if total % BREATH == 0:
                        self._job.meter.tick()
                        await trio.lowlevel.checkpoint()
        return orphans, total

    def _is_orphan(self, key: str) -> bool:
        """Nothing names it, and nothing that is on its way ever will."""
        try:
            space, number = parse_key(key)
        except CorruptError:
            return False
        if is_named(self._job.ctx, space, number):
            return False
        engine, pool = self._job.ctx.engine, self._job.ctx.pool
        if epoch_of(number) != pool.writer.epoch:
            return epoch_of(number) < pool.writer.epoch
        if space == "c":
            return not engine.checkpointer.lock.locked()
        newest = pool.db.ledger.facts(number, 1)
        in_flight = min((stripe.id for stripe in engine.sealed), default=number + 1)
        return bool(newest) and number < in_flight

    async def _delete(self, member: Member, key: str) -> bool:
        async def delete(drive: Drive) -> None:
            await drive.delete(key)

        return await self._job.change(member, delete)
