"""Copying history to a drive that lacks part of it: one that came back, or a new one (R7)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ecfs.drive.base import Drive
from ecfs.errors import CorruptError, DriveError, HistoryGapError, ShardCorruptError, ShardMissingError
from ecfs.journal.chain import Base, walk
from ecfs.journal.opened import OpenedPool
from ecfs.journal.record import RecordHead, frame
from ecfs.journal.segments import Collected, collect, fetch_some
from ecfs.journal.shown import shown_seq
from ecfs.journal.superblock import read_superblock
from ecfs.pool.identity import decode_identity

TOGETHER = 256 << 10
"""Bytes of records that are appended at once: each append waits for the disk."""


async def shown_by(pool: OpenedPool, drive: Drive) -> int:
    """seq of the newest part of history that a drive shows. Raises DriveError.

    Ask before `copy_history`, and let what follows be committed first: a copied journal hides a rollback (R11).
    """
    collected = Collected()
    await collect(collected, -1, drive, pool.pool_id)
    try:
        superblock = await read_superblock(drive, pool.pool_id)
    except (CorruptError, ShardMissingError, ShardCorruptError):
        superblock = None
    return shown_seq(pool.db.drives.epochs(), collected.own(-1, await _settled(drive)), superblock)


async def _settled(drive: Drive) -> int:
    try:
        return decode_identity(await drive.read_blob("identity")).epoch
    except (CorruptError, ShardMissingError, ShardCorruptError):
        return 0


@dataclass(frozen=True)
class Copied:
    """How far a copy of history came: up to this record. slot: a drive that gets what is committed from then on, None
    where nobody else was asked; ends: where its segments ended (bytes). found: also what it held beyond `upto`, on its
    way to the others."""

    upto: Base
    slot: int | None
    ends: dict[str, int]
    found: Collected


async def copy_history(pool: OpenedPool, tape: int, drive: Drive, *, distrust: Collection[str] = ()) -> Copied:
    """Append to `drive` every retained record up to `pool.seq` that it does not hold.

    Records come from the drive itself or any that can be written. Call it without a lock for the bulk, and
    `copy_rest` inside `Engine.between_commits`. tape: the drive's slot; another number while the slot has a
    drive that gets records, too. distrust: segments whose records count as not held.
    Raises DriveError about `drive`, HistoryGapError if nobody can tell the whole history.
    """
    collected = Collected()
    await collect(collected, tape, drive, pool.pool_id)
    mine = collected.drives[tape]
    held = {hash_ for hash_, at in collected.places.items() if any(place.segment not in distrust for place in at)}
    chain = await _whole_chain(pool, tape, collected)
    copied = _copied(pool, tape, collected)
    pool.segments.adopt(tape, mine)
    await _append(pool, tape, drive, collected, [head for head in chain if head.hash not in held])
    return copied


async def copy_rest(pool: OpenedPool, tape: int, drive: Drive, copied: Copied) -> Copied:
    """`copy_history` for what was committed since `copied`. Reads no more than that: programs wait for it."""
    found, ends = copied.found, copied.ends
    try:
        source = None if copied.slot is None else pool.members.readable(copied.slot)
        if source is not None and copied.slot is not None:
            await collect(found, copied.slot, source, pool.pool_id, ends)
            ends = ends | found.drives[copied.slot].ends()
        chain = walk(found.heads, _newest(pool), copied.upto)
    except (DriveError, HistoryGapError):
        return await copy_history(pool, tape, drive)
    further = Copied(_newest(pool), copied.slot, ends, found)
    await _append(pool, tape, drive, found, chain)
    return further


def _newest(pool: OpenedPool) -> Base:
    return Base(pool.writer.epoch, pool.seq, pool.hash)


def _copied(pool: OpenedPool, tape: int, collected: Collected) -> Copied:
    """In the same step as the look at the chain: `pool.seq` moves on."""
    asked = [slot for slot in collected.drives if slot != tape]
    ends = collected.drives[asked[-1]].ends() if asked else {}
    return Copied(_newest(pool), asked[-1] if asked else None, ends, collected)


async def _append(pool: OpenedPool, tape: int, drive: Drive, collected: Collected, lacking: list[RecordHead]) -> None:
    drives = {m.slot: m.drive for m in pool.members.up() if m.drive is not None} | {tape: drive}
    for heads in _in_handfuls(lacking):
        try:
            records = await fetch_some(collected, heads, drives)
        except CorruptError as error:
            raise HistoryGapError(str(error)) from error
        await pool.segments.append(tape, drive, records[-1], b"".join(map(frame, records)))


def _in_handfuls(heads: Sequence[RecordHead]) -> Iterator[list[RecordHead]]:
    """In order, each at most `TOGETHER` bytes or one record."""
    handful: list[RecordHead] = []
    size = 0
    for head in heads:
        if handful and size + head.framed_length > TOGETHER:
            yield handful
            handful, size = [], 0
        handful.append(head)
        size += head.framed_length
    if handful:
        yield handful


async def _whole_chain(pool: OpenedPool, tape: int, collected: Collected) -> list[RecordHead]:
    """The retained chain, out of as few drives' journals as will do."""
    others = {member.slot: each for member, each in pool.members.drives() if member.slot != tape}
    while True:
        try:
            return retained_chain(pool, collected)
        except HistoryGapError as error:
            if not others:
                raise HistoryGapError(f"no drive that is here holds the whole journal: {error}") from error
        slot = next(iter(others))
        try:
            await collect(collected, slot, others.pop(slot), pool.pool_id)
        except DriveError as error:
            pool.members.drive_failed(slot, error)


def retained_chain(pool: OpenedPool, collected: Collected) -> list[RecordHead]:
    """The records from the older checkpoint to the newest acknowledged one. Raises HistoryGapError."""
    oldest = pool.checkpoints[-1]
    base = Base(oldest.epoch, oldest.seq, bytes.fromhex(oldest.record))
    return walk(collected.heads, _newest(pool), base)
