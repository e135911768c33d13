"""A new drive for a slot. The old one stays in use, and readable, until the new one has everything it had.

How far it was filled is noted in the setting "replace_progress", so that the same command goes on from there after a
kill or an unmount: up to there it is verified, since nobody looks after the files of a drive that counts for nothing
yet, and only what is not there is put. Until it has joined, it counts for nothing.
"""

from __future__ import annotations

from contextlib import aclosing
from functools import partial

import msgspec
import trio

from ecfs.drive.base import Buffer, Drive
from ecfs.drive.registry import check_distinct
from ecfs.errors import (
    CorruptError,
    DriveError,
    FormatTooNewError,
    RefusedError,
    ShardCorruptError,
    ShardMissingError,
    StripeLostError,
)
from ecfs.heal.cleanup import is_named
from ecfs.heal.context import Impatient
from ecfs.heal.enter import Arrival
from ecfs.heal.join import Joiner
from ecfs.heal.part import Job, shard_size
from ecfs.meta import Outcome
from ecfs.meta import StripeFact as Row
from ecfs.meta.drives import Drives
from ecfs.pool.identity import JOINING, decode_identity
from ecfs.shard import parse_key
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.rebuild import check_shard, copied_shard, rebuild_shards

BATCH = 32
SAVE_S = 10.0
"""What an interruption costs at most."""
SETTING = "replace_progress"


class Replacement(msgspec.Struct):
    """A replacement that has not come to its end. filled: stripes up to this id were put durably, but those that
    can't be decoded."""

    slot: int
    url: str
    drive_id: str
    filled: int = 0


def stored_replacement(drives: Drives) -> Replacement | None:
    """As the metadata have it; one that was interrupted when the new drive had the slot is at its end."""
    stored = drives.setting(SETTING)
    if stored is None:
        return None
    left = msgspec.convert(stored, Replacement)
    row = drives.row(left.slot)
    over = (row is not None and row.drive_id == left.drive_id) or drives.is_retired(left.drive_id)
    return None if over else left


class Replacer:
    """One replacement. Raises RefusedError before anything was changed, DriveError about the new place."""

    def __init__(self, job: Job, joiner: Joiner) -> None:
        self._job = job
        self._joiner = joiner
        self._noted = 0.0
        self._earlier = 0
        """How far an earlier run came."""
        self._claimed = 0
        """What the note says."""

    async def run(self, slot: int, url: str) -> None:
        ctx = self._job.ctx
        if not 0 <= slot < len(ctx.pool.members):
            raise RefusedError(f"there is no drive {slot}: the pool has slots 0 to {len(ctx.pool.members) - 1}")
        if ctx.engine.stalled or ctx.engine.fenced:
            raise RefusedError(f"nothing can be written now: {ctx.engine.stalled or ctx.engine.fenced}")
        member = ctx.pool.members[slot]
        drive = ctx.open_drive(url, slot)
        arrival = await self._begun(slot, drive)
        await self._refuse(slot, drive, vacant=arrival is None)
        if not member.up:
            ctx.entering.add(slot)  # nobody else takes in what comes back at its old place from here on
        old: Drive | None = None
        try:
            arrival = arrival or await self._joiner.create(slot, drive)
            await self._note(arrival, self._earlier)
            await self._fill(arrival, None if member.up else self._earlier)
            arrival.complete = partial(self._complete, arrival) if member.up else None
            old = member.drive
            await self._joiner.join(arrival)
        except BaseException:
            if member.drive is not drive:  # or it has the slot, and its handle is the pool's
                await drive.close()
            raise
        finally:
            ctx.entering.discard(slot)
            if member.drive is drive and old is not None and old is not drive:
                await old.close()
        self._job.found("drive", f"drive {slot} is now {drive.url}", repaired=True, slot=slot)
        await ctx.engine.record(Outcome(settings={SETTING: None}))
        await self._tidy(Impatient(drive))

    # ---- an earlier run that was interrupted --------------------------------------------------------------

    async def _begun(self, slot: int, drive: Drive) -> Arrival | None:
        """The new drive that an earlier run began to fill at this place; None if there is none."""
        pool = self._job.ctx.pool
        try:
            await Impatient(drive).attach(exclusive=True)
            identity = decode_identity(await Impatient(drive).read_blob("identity"))
        except (DriveError, CorruptError):
            return None
        ours = (identity.pool_id, identity.slot, identity.state) == (pool.pool_id.hex(), slot, JOINING)
        if not ours or pool.db.drives.is_retired(identity.drive_id):
            await drive.close()
            return None
        arrival = self._joiner.resume(slot, drive, identity)
        reached = stored_replacement(pool.db.drives)
        if reached is not None and reached.drive_id == identity.drive_id:
            self._earlier = reached.filled
        return arrival

    async def _note(self, arrival: Arrival, filled: int) -> None:
        """How far it is. Only after a sync: what a crash could take must be put again."""
        self._noted, self._claimed = trio.current_time(), filled
        reached = Replacement(arrival.slot, arrival.drive.url, arrival.drive_id, filled)
        await self._job.ctx.engine.record(Outcome(settings={SETTING: msgspec.to_builtins(reached)}))

    async def _refuse(self, slot: int, drive: Drive, *, vacant: bool) -> None:
        members = self._job.ctx.pool.members
        for other in members:
            if other.url == drive.url and (other.slot != slot or other.up):
                raise RefusedError(f"{drive.url} is the place of drive {other.slot}: give a new, empty one")
        check_distinct([drive.url, *(m.url for m in members if m.slot != slot and m.url)])
        if not vacant:
            return
        try:
            there = not await Impatient(drive).is_vacant()
        except DriveError as error:
            raise RefusedError(f"{drive.url} can't be used: {error.args[0]}") from error
        if there:
            await drive.close()
            raise RefusedError(f"{drive.url} is not empty: a new drive needs an empty or missing directory")

    # ---- filling it before it has the slot ----------------------------------------------------------------

    async def _fill(self, arrival: Arrival, last: int | None) -> None:
        """Every stripe's shard, before the old drive is given up: reading must at no moment get worse. Where the old
        one is gone already, only up to stripe `last`, what an earlier run has put: programs should not wait for a drive
        to commit to until all the rest was rebuilt."""
        job, pool = self._job, self._job.ctx.pool
        drive = Impatient(arrival.drive)
        await drive.fence(pool.writer)
        await drive.prepare(pool.live_epochs())
        job.meter.phase("filling")
        ledger = pool.db.ledger
        if last is None:
            job.meter.add_total(
                ledger.total_length() // pool.geometry.k + ledger.count() * shard_size(0), ledger.count()
            )
        while rows := [row for row in ledger.facts(arrival.filled, BATCH) if last is None or row.id <= last]:
            await self._fill_some(arrival, drive, rows)
            arrival.filled = rows[-1].id
            if trio.current_time() - self._noted >= SAVE_S:
                await self._note(arrival, max(arrival.filled, self._claimed))

    async def _complete(self, arrival: Arrival) -> None:
        """What was committed since it was filled. The last time no commit is on its way, nor can be: no note of it."""
        ledger, drive = self._job.ctx.pool.db.ledger, Impatient(arrival.drive)
        while rows := ledger.facts(arrival.filled, BATCH):
            await self._fill_some(arrival, drive, rows)
            arrival.filled = rows[-1].id

    async def _fill_some(self, arrival: Arrival, drive: Drive, rows: list[Row]) -> None:
        job, pool, slot = self._job, self._job.ctx.pool, arrival.slot
        await drive.prepare(sorted({row.id >> 32 for row in rows}))
        put = [row.id for row in rows if await self._put(arrival, drive, row.id)]
        await drive.sync()
        for stripe in put:
            with pool.pins.pin(stripe):
                fact = job.ctx.fact(stripe)
                if fact is None:
                    continue
                await check_shard(drive, fact, slot, pool.pool_id)
            if pool.db.ledger.is_missing(stripe, slot):
                arrival.present.append(stripe)
            await job.checked(slot, shard_size(fact.fragment_length))

    async def _put(self, arrival: Arrival, drive: Drive, stripe: int) -> bool:
        """False if the stripe is dead, or can't be decoded and the old drive does not have it either; then it is
        missing on the new one."""
        job, pool, slot = self._job, self._job.ctx.pool, arrival.slot
        with pool.pins.pin(stripe):
            fact = job.ctx.fact(stripe)
            if fact is None:
                return False
            if stripe <= self._earlier and await self._is_there(drive, fact, slot):
                return True
            avoid = pool.db.ledger.missing_slots(stripe)
            try:
                shards = await rebuild_shards(fact, [slot], pool.members, pool.pool_id, avoid=avoid)
                shard = shards[slot]
            except StripeLostError as error:
                copied = None if slot in avoid else await self._of_the_old_one(fact, slot)
                if copied is None:
                    arrival.holes.append(stripe)
                    return False
                shard = copied
                job.lost(stripe, error)  # of the holes the rebuilding tells
            if stripe <= self._claimed:
                await self._note(arrival, arrival.filled)  # or a crash would leave one of which it says "durable"
            await drive.put(fact.key, shard, replace=True)
            return True

    async def _of_the_old_one(self, fact: StripeFact, slot: int) -> list[Buffer] | None:
        """Its shard as it is. With drives that come back later it may be the one that was lacking."""
        pool = self._job.ctx.pool
        old = pool.members.readable(slot)
        try:
            return None if old is None else await copied_shard(old, fact, slot, pool.pool_id)
        except (DriveError, FormatTooNewError):
            return None

    async def _is_there(self, drive: Drive, fact: StripeFact, slot: int) -> bool:
        """Files of a drive that counts for nothing yet may have been deleted meanwhile, and nobody noted that."""
        try:
            await check_shard(drive, fact, slot, self._job.ctx.pool.pool_id)
        except (ShardMissingError, ShardCorruptError):
            return False
        return True

    async def _tidy(self, drive: Drive) -> None:
        """Shards of stripes that died while it was filled. It is our own new drive: nothing else can lie there."""
        async with aclosing(drive.list("s/")) as entries:
            dead = [entry.key async for entry in entries if self._is_dead(entry.key)]
        for key in dead:
            if self._is_dead(key):
                await drive.delete(key)

    def _is_dead(self, key: str) -> bool:
        try:
            space, number = parse_key(key)
        except CorruptError:
            return False
        return not is_named(self._job.ctx, space, number)
