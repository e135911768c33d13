"""Copying history to a drive that lacks part of it: one that came back, or a new one (R7)."""

from __future__ import annotations

from ecfs.drive.base import Drive
from ecfs.errors import CorruptError, DriveError, HistoryGapError
from ecfs.journal.chain import Base, walk
from ecfs.journal.opened import OpenedPool
from ecfs.journal.record import RecordHead
from ecfs.journal.segments import Collected, DriveJournal, collect, fetch


async def copy_history(pool: OpenedPool, slot: int, drive: Drive) -> int:
    """Append to `drive` every retained record up to `pool.seq` that it does not hold; returns how many.

    Records come from any other drive that is up. Call it once without a lock for the bulk and once more inside
    `Engine.between_commits` for the rest. Raises DriveError about `drive`, HistoryGapError if no other drive can tell.
    """
    collected = Collected()
    await collect(collected, slot, drive, pool.pool_id)
    mine = collected.drives[slot]
    for member in pool.members.writable():
        if member.slot == slot or member.drive is None:
            continue
        try:
            await collect(collected, member.slot, member.drive, pool.pool_id)
        except DriveError as error:
            pool.members.drive_failed(member.slot, error)
            continue
        try:
            chain = retained_chain(pool, collected)
        except HistoryGapError:
            continue
        return await _append_missing(pool, slot, drive, collected, mine, chain)
    raise HistoryGapError("no other drive holds the whole journal right now")


async def _append_missing(
    pool: OpenedPool, slot: int, drive: Drive, collected: Collected, mine: DriveJournal, chain: list[RecordHead]
) -> int:
    drives = {m.slot: m.drive for m in pool.members.up() if m.drive is not None}
    pool.segments.adopt(slot, mine)
    copied = 0
    for head in chain:
        if head.hash not in mine.hashes:
            try:
                record = await fetch(collected, head, {**drives, slot: drive})
            except CorruptError as error:
                raise HistoryGapError(str(error)) from error
            await pool.segments.append(slot, drive, record)
            copied += 1
    return copied


def retained_chain(pool: OpenedPool, collected: Collected) -> list[RecordHead]:
    """The records from the older checkpoint to the newest acknowledged one. Raises HistoryGapError."""
    oldest = pool.checkpoints[-1]
    base = Base(oldest.epoch, oldest.seq, bytes.fromhex(oldest.record))
    return walk(collected.heads, Base(pool.writer.epoch, pool.seq, pool.hash), base)
