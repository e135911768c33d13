"""Checkpoints, journals, superblocks, identities and fences of every drive: what an opening will need."""

from __future__ import annotations

from contextlib import aclosing

import trio

from ecfs.drive.base import Drive
from ecfs.errors import (
    CorruptError,
    DriveError,
    DriveUnreachableError,
    EcfsError,
    FormatTooNewError,
    HistoryGapError,
    ShardCorruptError,
    ShardMissingError,
    StripeLostError,
)
from ecfs.heal.context import Impatient
from ecfs.heal.doubts import Doubts, Pair
from ecfs.heal.part import Job, shard_size
from ecfs.heal.report import LOST, Finding
from ecfs.journal.chain import Base, walk
from ecfs.journal.history import copy_history
from ecfs.journal.record import RecordHead
from ecfs.journal.segments import Collected, collect
from ecfs.journal.superblock import Superblock, decode_superblock
from ecfs.pool.identity import decode_identity
from ecfs.pool.members import Member
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.rebuild import check_shard, rebuild_shards

BYTE_S = 26e-9
"""What a byte of a journal takes besides being read; measured, for the time left."""


class CheckpointCheck:
    """The shards of both retained checkpoints."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._doubts = Doubts(job)
        self._put_right: set[Pair] = set()

    def total(self) -> tuple[int, int]:
        """Bytes, and in how many shards."""
        pool = self._job.ctx.pool
        facts = [fact for checkpoint in pool.checkpoints for fact in checkpoint.facts(pool.geometry)]
        drives = len(pool.members.writable())
        return sum(shard_size(fact.fragment_length) for fact in facts) * drives, len(facts) * drives

    async def run(self) -> None:
        pool = self._job.ctx.pool
        async with self._job.ctx.engine.checkpointer.lock:  # a new checkpoint would prune one under our feet
            for checkpoint in pool.checkpoints:
                for fact, row in zip(checkpoint.facts(pool.geometry), checkpoint.stripes, strict=True):
                    await self._check(fact, frozenset(row[3]))
            await self._doubts.settle(self._put_right)

    async def _check(self, fact: StripeFact, holders: frozenset[int]) -> None:
        """holders: slots that had it when it was written; a drive that was away then gets it now, which is no
        finding: every opening knew."""
        pool = self._job.ctx.pool
        bad: dict[int, DriveError] = {}
        for member, drive in self._job.here():
            try:
                if doubt := self._doubts.about(fact, member.slot):
                    raise doubt
                await check_shard(drive, fact, member.slot, pool.pool_id)
            except (ShardMissingError, ShardCorruptError) as error:
                bad[member.slot] = error
            except (DriveError, FormatTooNewError) as error:
                self._job.unread(member.slot, error)
                if isinstance(error, DriveError):
                    pool.members.drive_failed(member.slot, error)
                continue
            await self._job.checked(member.slot, shard_size(fact.fragment_length))
        if bad:
            await self._repair(fact, bad, holders)

    async def _repair(self, fact: StripeFact, bad: dict[int, DriveError], holders: frozenset[int]) -> None:
        job, pool = self._job, self._job.ctx.pool
        try:
            shards = await rebuild_shards(fact, set(bad), pool.members, pool.pool_id)
        except StripeLostError as error:
            job.add(Finding("checkpoint", LOST, f"{error}; the other checkpoint and the journal still hold it all"))
            return
        done = await self._doubts.put_right(fact, shards)
        self._put_right |= {(fact.id, slot) for slot in done}
        for slot, why in bad.items():
            if slot in holders or slot not in done:
                job.found("checkpoint", str(why), repaired=slot in done, slot=slot)


class JournalCheck:
    """Every record of the retained chain on every drive of W."""

    def __init__(self, job: Job) -> None:
        self._job = job

    async def takes(self) -> tuple[float, int]:
        """About how many seconds, and how many bytes all drives together could read in the time that is needed besides.

        Unpruned segments count, and finding where each ends may take longer than reading it, so a drive is asked. The
        drives are read one after the other, so together they could read more.
        """
        drives, began = list(self._job.ctx.pool.members.drives()), trio.current_time()
        size = await self._size(*drives[0]) if drives else 0
        listing = trio.current_time() - began
        return (listing + size * BYTE_S) * len(drives), size * len(drives) ** 2

    async def _size(self, member: Member, drive: Drive) -> int:
        try:
            async with aclosing(drive.list("j/")) as entries:
                return sum([entry.size async for entry in entries])
        except DriveError as error:
            self._job.ctx.pool.members.drive_failed(member.slot, error)
            return 0

    async def run(self) -> None:
        pool = self._job.ctx.pool
        async with self._job.ctx.engine.checkpointer.lock:
            tail = Base(pool.writer.epoch, pool.seq, pool.hash)
            oldest = pool.checkpoints[-1]
            collected = Collected()
            for member, drive in self._job.here():
                await self._collect(collected, member.slot, drive)
                self._job.meter.tick()
            try:
                base = Base(oldest.epoch, oldest.seq, bytes.fromhex(oldest.record))
                chain = walk(collected.heads, tail, base)
            except HistoryGapError as error:
                self._job.add(Finding("journal", LOST, f"{error}; unmount cleanly to write a checkpoint"))
                return
            for member, drive in pool.members.drives():
                await self._check(member, drive, collected, chain)

    async def _collect(self, collected: Collected, slot: int, drive: Drive) -> None:
        try:
            await collect(collected, slot, drive, self._job.ctx.pool.pool_id)
        except DriveError as error:
            self._job.unread(slot, error)
            self._job.ctx.pool.members.drive_failed(slot, error)

    async def _check(self, member: Member, drive: Drive, collected: Collected, chain: list[RecordHead]) -> None:
        job, journal = self._job, collected.drives.get(member.slot)
        if journal is None:
            return  # it was away, or failed, when it was read
        lacking = [head for head in chain if head.hash not in journal.hashes]
        # The end of a segment may be torn: an append was cut short, and what it held came again elsewhere.
        damaged = {key for key, _, torn in journal.flaws if not torn or lacking}
        if not lacking and not damaged:
            return
        text = f"{len(lacking)} records missing, {len(damaged)} damaged segments"
        job.found(
            "journal",
            text,
            repaired=await self._repair(member, drive, damaged, journal.newest),
            slot=member.slot,
        )

    async def _repair(self, member: Member, drive: Drive, damaged: set[str], journal_newest: dict[str, int]) -> bool:
        job, engine = self._job, self._job.ctx.engine
        if job.dry_run or engine.stalled or engine.fenced:
            return False
        try:
            async with engine.between_commits():
                if not (member.up and member.in_w and member.drive is drive):
                    return False
                patient = Impatient(drive)  # programs wait, and nobody else ends an append for them
                await copy_history(job.ctx.pool, member.slot, patient, distrust=damaged)
                for key in sorted(damaged):
                    if job.ctx.pool.segments.is_kept(key, journal_newest.get(key, 0)):
                        continue  # given-up history lies in it, perhaps its only copy (R9)
                    await patient.delete(key)
                    job.ctx.pool.segments.dropped(member.slot, key)
        except DriveUnreachableError as error:
            job.ctx.pool.members.drive_failed(member.slot, error)
            return False
        except EcfsError:
            return False
        return True


class BlobCheck:
    """Superblock, identity and fence, read again and written anew when wrong."""

    def __init__(self, job: Job) -> None:
        self._job = job

    async def run(self) -> None:
        async with self._job.ctx.engine.checkpointer.lock:
            for member, drive in self._job.here():
                if member.slot not in self._job.ctx.entering:
                    try:
                        await self._check(member, drive)
                    except DriveError as error:
                        self._job.unread(member.slot, error)
                        self._job.ctx.pool.members.drive_failed(member.slot, error)

    async def _check(self, member: Member, drive: Drive) -> None:
        job, pool = self._job, self._job.ctx.pool
        if (why := await self._superblock_flaw(member, drive)) is not None:
            done = await job.change(member, lambda drive: pool.write_superblock(member.slot, drive))
            if why:
                job.found("superblock", why, repaired=done, slot=member.slot)
        if why := await self._identity_flaw(member, drive):
            done = await job.change(member, lambda drive: pool.write_identity(member, drive))
            job.found("identity", why, repaired=done, slot=member.slot)
        if (found := await drive.read_fence()) != pool.writer:
            done = await job.change(member, lambda drive: drive.fence(pool.writer))
            job.found("identity", f"the fence names epoch {found.epoch}", repaired=done, slot=member.slot)

    async def _superblock_flaw(self, member: Member, drive: Drive) -> str | None:
        """What is wrong with it; "" if it is merely not up to date about the other drives, None if all is well."""
        ours = self._job.ctx.pool.superblock_for(member)
        try:
            found = decode_superblock(await drive.read_blob("superblock"))
        except (CorruptError, ShardCorruptError, ShardMissingError) as error:
            return str(error)
        if _essence(found) != _essence(ours):
            return "does not name the newest checkpoints"
        return None if found.drives == ours.drives else ""

    async def _identity_flaw(self, member: Member, drive: Drive) -> str:
        try:
            found = decode_identity(await drive.read_blob("identity"))
        except (CorruptError, ShardCorruptError, ShardMissingError) as error:
            return str(error)
        return "" if found == self._job.ctx.pool.identity_for(member) else "is not the one of this opening"


def _essence(superblock: Superblock) -> tuple[object, ...]:
    return superblock.pool_id, superblock.drive_id, superblock.slot, superblock.checkpoints
