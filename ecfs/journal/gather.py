"""Opening, steps 1 to 5: who is there, the fence, and what the fenced drives hold.

What an older writer acknowledges until it is fenced is history, so the journals are read after the fence.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ecfs.drive.base import Drive, Writer
from ecfs.errors import (
    CorruptError,
    DriveError,
    EcfsError,
    NotAPoolError,
    NotEnoughDrivesError,
)
from ecfs.geometry import Geometry
from ecfs.journal.segments import Collected, collect
from ecfs.journal.state import Opening, lose, need_k
from ecfs.journal.superblock import decode_superblock, read_superblock
from ecfs.journal.support import dead_epochs, known, unsupported
from ecfs.pool.judge import Sight, by_slot, judge, look, pool_of, rivals


async def look_around(opening: Opening, candidates: Sequence[Drive], pool_id: str) -> None:
    sights = [await look(drive, exclusive=not opening.read_only) for drive in candidates]
    name = pool_id or pool_of(sights)
    if name is None:
        raise _nothing_there(sights)
    identities = [s.identity for s in sights if s.identity is not None and s.identity.pool_id == name]
    if identities:
        opening.geometry = Geometry(1, identities[0].k, identities[0].m)
    opening.pool_id = bytes.fromhex(name)
    opening.sights = judge(sights, name, opening.geometry.n)
    opening.chosen = by_slot(opening.sights, await _written(rivals(opening.sights)))
    need_k(opening, "are here")


async def _written(sights: Sequence[Sight]) -> dict[str, tuple[int, int]]:
    """(epoch, seq) of the superblocks that can be read, by URL."""
    written = {}
    for sight in sights:
        with suppress(CorruptError, DriveError):
            written[sight.drive.url] = decode_superblock(await sight.drive.read_blob("superblock")).written
    return written


def _nothing_there(sights: list[Sight]) -> EcfsError:
    states = "; ".join(f"{sight.drive.url}: {sight.reason or sight.state}" for sight in sights)
    if all(sight.state == "absent" for sight in sights):
        return NotEnoughDrivesError(f"no drive of the pool is here ({states})")
    return NotAPoolError(f"no drive here belongs to a pool ({states})")


async def _read_superblocks(opening: Opening) -> None:
    for slot, drive in list(opening.drives.items()):
        try:
            opening.superblocks[slot] = await read_superblock(drive, opening.pool_id)
        except CorruptError as error:
            opening.notes.append(f"drive {slot}: {error}")
        except DriveError as error:
            opening.notes.append(str(error))


async def _collect(opening: Opening, slot: int) -> None:
    try:
        await collect(opening.collected, slot, opening.chosen[slot].drive, opening.pool_id)
    except DriveError as error:
        lose(opening, slot, error)


async def fence_and_read(opening: Opening) -> None:
    """What an older writer acknowledges until it is fenced is history: only then may history be read."""
    newest = 0
    while True:
        if not opening.read_only:
            await _fence(opening, newest)
        opening.superblocks, opening.collected = {}, Collected()
        await _read_superblocks(opening)
        for slot in list(opening.chosen):
            await _collect(opening, slot)
        need_k(opening, "can be read")
        _judge_epochs(opening)
        newest = max((head.epoch for head in opening.collected.heads.values()), default=0)
        if opening.read_only or newest < opening.writer.epoch:
            return
        # An epoch is promised before anything is written in it: the promises of many drives are damaged. Once more.


def _judge_epochs(opening: Opening) -> None:
    """Leave out the epochs that this pool as a whole never opened (R11)."""
    heads, traces = opening.collected.heads, {}
    settled = {slot: (identity.epoch, identity.nonce) for slot, identity in opening.identities.items()}
    for slot in opening.chosen:
        traces[slot] = {(heads[h].epoch, heads[h].nonce.hex()) for h in opening.collected.drives[slot].hashes}
        traces[slot].add(settled[slot])
        if slot in opening.fences:
            traces[slot].add((opening.fences[slot].epoch, opening.fences[slot].nonce))
    rejected = unsupported(traces, opening.geometry.k, opening.geometry.n)
    opening.void_epochs = dead_epochs(rejected, traces)
    shared = known(traces, opening.geometry.k, opening.geometry.n)
    opening.strangers = {slot for slot, trace in settled.items() if trace not in shared}
    opening.collected.heads = {h: head for h, head in heads.items() if (head.epoch, head.nonce.hex()) not in rejected}


async def _fence(opening: Opening, newest: int = 0) -> None:
    """R2: a new epoch, durable on at least k drives before the tail is chosen. newest: an epoch known to exist."""
    seen = [newest]
    seen += [identity.epoch for identity in opening.identities.values()]
    seen += [superblock.written[0] for superblock in opening.superblocks.values()]
    for slot, drive in list(opening.drives.items()):
        try:
            opening.fences.setdefault(slot, await drive.read_fence())
            seen.append(opening.fences[slot].epoch)
        except DriveError as error:
            lose(opening, slot, error)
    opening.writer = Writer(max(seen, default=0) + 1, opening.clock.token(16).hex())
    for slot, drive in list(opening.drives.items()):
        try:
            await drive.fence(opening.writer)
        except DriveError as error:
            lose(opening, slot, error)
    need_k(opening, "could be fenced")
