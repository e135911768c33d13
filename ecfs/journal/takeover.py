"""Opening, steps 7 and 8: every member gets what it lacks and the open record, which makes this opening history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from ecfs.drive.base import Drive
from ecfs.errors import (
    DriveError,
    DriveTimeoutError,
    FencedError,
    HistoryGapError,
)
from ecfs.journal.chain import Base, walk
from ecfs.journal.opened import OpenedPool
from ecfs.journal.record import OPEN, Record, RecordHead, compose, frame
from ecfs.journal.rescue_copy import keep_rescue_copy
from ecfs.journal.segments import fetch
from ecfs.journal.state import Opening, lose, need_k
from ecfs.journal.table import judged_row, judged_table, open_outcome
from ecfs.meta import outcome_to_json, schema_hash


async def catch_up_journals(opening: Opening, pool: OpenedPool, sources: dict[int, Drive]) -> None:
    """Append to each drive, in a segment of the new epoch, the retained records that it lacks or holds damaged.

    And the tail, if no checkpoint was made of it: a process that was killed with it on its way leaves it visible on the
    drives and durable on none. The commits of this opening would build upon a record that the next power cut takes away
    from every drive. Whatever came before the tail was acknowledged, so it is durable. On disks the fence has seen to
    it; a file system in user space (ntfs-3g, bindfs) is told of an append's fsync, not of a syncfs.

    sources: the drives that were read. One that can't be written, or was turned away, may be the only one that has it.
    """
    retained = _retained(opening, pool)
    # Read once: one drive may have it alone, and answer wrongly the next time.
    repeated = {head.hash: await fetch(opening.collected, head, sources) for head in opening.chain[-1:]}
    for slot, drive in list(opening.drives.items()):
        journal = opening.collected.drives[slot]
        pool.segments.adopt(slot, journal)
        try:
            for head in retained:
                if head.hash in repeated or head.hash not in journal.hashes:
                    record = repeated.get(head.hash) or await fetch(opening.collected, head, sources)
                    await _in_time(slot, drive, partial(pool.segments.append, slot, drive, record))
        except DriveError as error:
            _lose_member(opening, pool, slot, error)
    need_k(opening, "could be written")


def _retained(opening: Opening, pool: OpenedPool) -> list[RecordHead]:
    """The chain back to the older checkpoint, as far as it is still there."""
    oldest = pool.checkpoints[-1]
    base = Base(oldest.epoch, oldest.seq, bytes.fromhex(oldest.record))
    try:
        return walk(opening.collected.heads, Base(0, pool.seq, pool.hash), base)
    except HistoryGapError:
        return opening.chain


def _lose_member(opening: Opening, pool: OpenedPool, slot: int, error: DriveError) -> None:
    lose(opening, slot, error)
    pool.members.take_down(slot, "absent", str(error.args[0]))


async def append_open_record(opening: Opening, pool: OpenedPool) -> None:
    """R1: the open record settles for ever what the tail was. It is a commit and needs k copies."""
    while True:
        outcome = open_outcome(opening, pool)
        record = compose(
            OPEN, pool.pool_id, pool.writer.epoch, pool.seq + 1, bytes.fromhex(pool.writer.nonce), pool.hash,
            pool.seq, schema_hash()[:16], b"", outcome_to_json(outcome),
        )  # fmt: skip
        failed = await _append_everywhere(opening, pool, record)
        pool.seq, pool.hash = record.head.seq, record.head.hash
        pool.db.apply_outcome(outcome, pool.seq)
        pool.journal_bytes += record.head.framed_length
        if not failed:
            return
        # A drive failed between: the record says that it is in W. Another record takes it out before anything
        # is acknowledged, so that W is never larger than the set that really has everything.


async def _append_everywhere(opening: Opening, pool: OpenedPool, record: Record) -> bool:
    failed, framed = False, frame(record)
    for slot, drive in list(opening.drives.items()):
        try:
            await _in_time(slot, drive, partial(pool.segments.append, slot, drive, record, framed))
        except DriveError as error:
            _lose_member(opening, pool, slot, error)
            failed = True
    need_k(opening, "could be written")
    return failed


async def _in_time(slot: int, drive: Drive, call: Callable[[], Awaitable[None]]) -> None:
    """Nobody waits for an opening to find out why a drive is late: one deadline, then it is absent."""
    with trio.move_on_after(drive.capabilities.deadline_s):
        return await call()
    raise DriveTimeoutError("no answer while the pool was being opened", slot=slot)


def adopt_table(opening: Opening, pool: OpenedPool) -> None:
    """Members as the committed table and the look at the places say."""
    for row in judged_table(opening, pool):
        member = pool.members[row.slot]
        shown = row if row.slot in opening.chosen else judged_row(opening, pool, row)
        if row.slot not in opening.chosen:
            member.url = shown.url  # not what superblocks say: one that missed a replacement names the old place
        member.drive_id = row.drive_id
        member.in_w = row.in_w
        member.state, member.reason, member.since_ns = shown.state, shown.reason, shown.since_ns
        member.location = row.location
        member.confirmed = (row.confirmed_epoch, row.confirmed_seq)


async def settle_in(opening: Opening, pool: OpenedPool) -> None:
    """Identities, superblocks, this epoch's directories, the rescue program. A drive that fails is down, not the
    opening."""
    adopt_table(opening, pool)
    epochs = pool.live_epochs()
    for slot, drive in list(opening.drives.items()):
        member = pool.members[slot]
        try:
            await pool.write_identity(member, drive)
            if opening.superblocks.get(slot) is None or _outdated(opening, pool, slot):
                await pool.write_superblock(member.slot, drive)
            await drive.prepare(epochs)
            await keep_rescue_copy(drive)
        except DriveError as error:
            _lose_member(opening, pool, slot, error)
    if len(pool.members.writable()) < pool.geometry.k:
        raise FencedError("the drives went away while the pool was being opened")


def _outdated(opening: Opening, pool: OpenedPool, slot: int) -> bool:
    ours = pool.superblock_for(pool.members[slot])
    theirs = opening.superblocks[slot]
    return (ours.checkpoints, ours.drives, ours.drive_id) != (theirs.checkpoints, theirs.drives, theirs.drive_id)
