"""Bringing back drives that were deleted or damaged as a whole, where the rules allow it (R7, R10, R22)."""

from __future__ import annotations

from contextlib import aclosing

from ecfs.drive.base import Drive
from ecfs.errors import (
    CorruptError,
    DriveError,
    DriveLockedError,
    DriveUnreachableError,
    EcfsError,
    FencedError,
    ShardCorruptError,
    ShardMissingError,
)
from ecfs.geometry import counter_of
from ecfs.heal.context import Impatient
from ecfs.heal.enter import Arrival
from ecfs.heal.join import Joiner
from ecfs.heal.part import Job
from ecfs.journal.segments import Collected, collect
from ecfs.journal.superblock import decode_superblock
from ecfs.pool.identity import JOINING, Identity, decode_identity
from ecfs.pool.judge import PARTLY_DELETED
from ecfs.shard import parse_key


class Restorer:
    """One pass over the slots that have no drive."""

    def __init__(self, job: Job, joiner: Joiner) -> None:
        self._job = job
        self._joiner = joiner

    async def run(self) -> None:
        for member in self._job.ctx.pool.members:
            if member.up or member.slot in self._job.ctx.entering:
                continue
            drive = self._job.ctx.open_drive(member.url, member.slot)
            try:
                done = await self._restore(member.slot, drive)
            except FencedError:
                raise
            except EcfsError as error:
                done = f"could not be brought back: {error}"
            if done is not None:
                self._job.found("drive", done or f"{member.url} was recreated", repaired=not done, slot=member.slot)
            if not member.up:
                await drive.close()

    async def _restore(self, slot: int, drive: Drive) -> str | None:
        """ "" when the drive is back; why it is not; None when there is nothing to say."""
        try:
            await Impatient(drive).attach(exclusive=True)
        except DriveLockedError as error:
            return str(error.args[0])
        except DriveError:
            return await self._recreate(slot, drive)
        try:
            identity = decode_identity(await Impatient(drive).read_blob("identity"))
        except ShardMissingError:
            if await drive.is_vacant():
                return await self._recreate(slot, drive)
            return await self._refill(slot, drive)
        except (CorruptError, ShardCorruptError) as error:
            return await self._rewrite_identity(slot, drive, str(error))
        return await self._resume(slot, drive, identity)

    async def _recreate(self, slot: int, drive: Drive) -> str:
        await drive.close()
        if why := await self._joiner.why_not(slot, drive):
            return f"{drive.url} is gone and was not recreated: {why}"
        # Nobody asked for this drive, so it is made nowhere but where the lost one lay: a look may be old at once.
        arrival = await self._joiner.create(slot, drive, filesystem=self._joiner.filesystem(slot))
        await self._joiner.join(arrival)
        return ""

    async def _resume(self, slot: int, drive: Drive, identity: Identity) -> str | None:
        """A joining drive that a crash left behind, or one of ours whose directories were deleted.

        Any other was judged by the watch already.
        """
        pool, member = self._job.ctx.pool, self._job.ctx.pool.members[slot]
        row = pool.db.drives.row(slot)
        if member.reason.startswith(PARTLY_DELETED) and row is not None and row.drive_id == identity.drive_id:
            await self._joiner.entrance.enter(Arrival(slot, drive, row.drive_id, tape=slot, emptied=True))
            return ""
        ours = identity.pool_id == pool.pool_id.hex() and identity.slot == slot and identity.state == JOINING
        if not ours or pool.db.drives.is_retired(identity.drive_id):
            return None
        await self._joiner.join(self._joiner.resume(slot, drive, identity))
        return ""

    # ---- an identity that rotted ------------------------------------------------------------------------

    async def _rewrite_identity(self, slot: int, drive: Drive, why: str) -> str:
        """Superblock and journal prove whose drive this is: then only one small file was damaged."""
        pool, patient = self._job.ctx.pool, Impatient(drive)
        row = pool.db.drives.row(slot)
        try:
            superblock = decode_superblock(await patient.read_blob("superblock"))
        except (CorruptError, ShardCorruptError, ShardMissingError) as error:
            return f"identity damaged ({why}), and nothing else proves whose drive this is ({error})"
        collected = Collected()
        await collect(collected, slot, patient, pool.pool_id)
        known = {nonce for _, nonce, _ in pool.db.drives.epochs()}
        foreign = [head for head in collected.heads.values() if head.nonce.hex() not in known]
        names = (superblock.pool_id, superblock.drive_id, superblock.slot)
        if row is None or names != (pool.pool_id.hex(), row.drive_id, slot) or foreign:
            return f"identity damaged ({why}), and superblock or journal are not those of drive {slot}"
        arrival = Arrival(slot, drive, row.drive_id, tape=slot)
        await self._joiner.entrance.enter(arrival)
        self._job.found("identity", why, repaired=True, slot=slot)
        return ""

    # ---- a drive that was partly deleted ----------------------------------------------------------------

    async def _refill(self, slot: int, drive: Drive) -> str:
        """R22: only if all that lies there is ours; then its shards are used again, each one checked."""
        if why := await self._joiner.why_not(slot, drive, leftovers=True):
            return f"{drive.url} was partly deleted and was not recreated: {why}"
        if why := await self._foreign(slot, drive):
            return f"{drive.url} was partly deleted and was not recreated: {why}; move away what lies there"
        identity = self._joiner.identity(slot)
        await drive.fence(self._job.ctx.pool.writer)
        await self._joiner.write_identity(drive, identity)
        await self._joiner.join(self._joiner.resume(slot, drive, identity))
        return ""

    async def _foreign(self, slot: int, drive: Drive) -> str:
        """What lies there that is not a valid shard of this pool and slot; "" if nothing."""
        patient = Impatient(drive)
        if strays := await patient.strays(1):
            return f"{strays[0]} is not ours"
        for prefix in ("s/", "c/"):
            try:
                async with aclosing(patient.list(prefix)) as entries:
                    async for entry in entries:
                        if why := await self._foreign_shard(slot, patient, entry.key):
                            return why
            except DriveUnreachableError:
                continue  # that directory is gone, and with it all that was in it
        return ""

    async def _foreign_shard(self, slot: int, drive: Drive, key: str) -> str:
        pool = self._job.ctx.pool
        try:
            header = await drive.verify(key)
            index = pool.geometry.index_of(counter_of(parse_key(key)[1]), slot)
        except (CorruptError, ShardCorruptError, ShardMissingError):
            return f"{key} is not a valid shard"
        if header.pool_id != pool.pool_id or header.index != index:
            return f"{key} is a shard of another pool or slot"
        return ""
