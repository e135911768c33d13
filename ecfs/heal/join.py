"""Making a drive for a slot that has none: recreated in place by scrub, or new by replace (R7, R10, R22).

It is *joining* until superblock, checkpoints and the whole retained journal are on it and a committed record names its
fresh id; saying *member* is the last write. Until then it counts for nothing.
"""

from __future__ import annotations

from msgspec import structs

from ecfs.drive.base import Drive
from ecfs.errors import DriveError, RefusedError, StripeLostError
from ecfs.heal.context import HealContext, Impatient
from ecfs.heal.enter import Arrival, Entrance
from ecfs.journal.rescue_copy import BLOB as RESCUE
from ecfs.journal.rescue_copy import rescue_program
from ecfs.journal.superblock import Checkpoint
from ecfs.pool.identity import JOINING, Identity, encode_identity
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.rebuild import check_shard, rebuild_shards

NEWCOMER = 1000
"""Added to a slot for the journal of a drive that does not have the slot yet."""


class Joiner:
    """Turns a vacant place into the drive of a slot."""

    def __init__(self, ctx: HealContext, entrance: Entrance) -> None:
        self._ctx = ctx
        self.entrance = entrance

    def identity(self, slot: int, drive_id: str = "") -> Identity:
        """Of a drive that is joining; a fresh id unless one is given."""
        pool = self._ctx.pool
        ours = pool.identity_for(pool.members[slot], JOINING)
        return structs.replace(ours, drive_id=drive_id or pool.clock.token(16).hex())

    async def create(self, slot: int, drive: Drive, *, filesystem: str = "") -> Arrival:
        """A fresh joining drive on a vacant place, where given only on that file system.

        Raises DriveError with nothing changed.
        """
        identity = self.identity(slot)
        drive.slot = slot
        blobs = {"identity": encode_identity(identity), RESCUE: rescue_program()}
        await drive.create(blobs, filesystem=filesystem)
        return Arrival(slot, drive, identity.drive_id, tape=slot + NEWCOMER, fresh=True)

    def resume(self, slot: int, drive: Drive, identity: Identity) -> Arrival:
        """Go on with a joining drive that a crash left behind, or that was emptied. It is attached."""
        drive.slot = slot
        return Arrival(slot, drive, identity.drive_id, tape=slot + NEWCOMER, fresh=True)

    async def write_identity(self, drive: Drive, identity: Identity) -> None:
        """Where nothing says any more who a drive is."""
        await Impatient(drive).write_blob("identity", encode_identity(identity))

    async def join(self, arrival: Arrival) -> None:
        """Checkpoints, journal, W, member. Raises DriveError, HistoryGapError, StalledError, FencedError."""
        drive = Impatient(arrival.drive)
        try:
            await drive.fence(self._ctx.pool.writer)
            await drive.prepare(self._ctx.pool.live_epochs())
            await self._put_checkpoints(arrival)
            await self.entrance.enter(arrival)
        except BaseException:
            if self._ctx.pool.members[arrival.slot].drive is not arrival.drive:
                await arrival.drive.close()
            raise

    async def _put_checkpoints(self, arrival: Arrival) -> None:
        """The retained checkpoints that can be read. The one that is written when the drive is in comes on top."""
        pool, drive = self._ctx.pool, Impatient(arrival.drive)
        put: list[StripeFact] = []
        lost: list[StripeLostError] = []
        async with self._ctx.engine.checkpointer.lock:
            for checkpoint in pool.checkpoints:
                try:
                    put += await self._put_checkpoint(checkpoint, arrival.slot, drive)
                except StripeLostError as error:
                    lost.append(error)  # without a new drive it would only get worse, if another one is whole
            if len(lost) == len(pool.checkpoints):
                raise RefusedError(f"the checkpoint can't be read: {lost[0]}")
            await drive.sync()
            for fact in put:
                await check_shard(drive, fact, arrival.slot, pool.pool_id)

    async def _put_checkpoint(self, checkpoint: Checkpoint, slot: int, drive: Drive) -> list[StripeFact]:
        """Its stripes. Raises StripeLostError."""
        pool, facts = self._ctx.pool, checkpoint.facts(self._ctx.pool.geometry)
        for fact in facts:
            shards = await rebuild_shards(fact, [slot], pool.members, pool.pool_id)
            await drive.put(fact.key, shards[slot], replace=True)
        return facts

    # ---- R10: may a drive be made here? -----------------------------------------------------------------

    def filesystem(self, slot: int) -> str:
        """Where the drive of a slot lay when it was last in the pool; "" if that has no meaning."""
        return str(self._ctx.pool.members[slot].location.get("filesystem", ""))

    async def why_not(self, slot: int, drive: Drive, *, leftovers: bool = False) -> str:
        """Why the deleted drive of a slot may not be recreated at its place, with what to do; "" if it may.

        leftovers: the place need not be vacant.
        """
        pool, member = self._ctx.pool, self._ctx.pool.members[slot]
        if len(pool.members.writable()) < pool.members.need:
            return "too few drives are here: bring back others first"
        ledger, out = pool.db.ledger, pool.members.out_slots()
        if ledger.counts(out).lost > ledger.counts(frozenset()).lost:
            return "some stripes can't be decoded without what is away: bring it back, or give it up with: ecfs replace"
        try:
            here = await Impatient(drive).location()
            vacant = await Impatient(drive).is_vacant()
        except DriveError as error:
            return f"its place can't be looked at: {error.args[0]}"
        recorded = self.filesystem(slot)
        if recorded and (here is None or here.filesystem != recorded):
            where = member.location.get("mount_point", "")
            now = "nothing" if here is None else f"{here.filesystem} mounted at {here.mount_point}"
            return (
                f"it lay on {recorded} mounted at {where}, and {drive.url} now lies on {now}: mount its disk, or, if "
                f"the disk is dead, give the slot a new place with: ecfs replace POOL {slot} URL"
            )
        if not vacant and not leftovers:
            return f"{drive.url} is not empty and not a drive of this pool: move away what lies there"
        return ""
