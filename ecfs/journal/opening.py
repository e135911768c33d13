"""Opening a pool: from places on drives to one agreed state. The order of steps: docs/INVARIANTS.md, "Opening".

Nothing is served, answered or deleted before the open record is committed. A read-only opening does the
same without fencing, locking or appending, and therefore promises nothing about tomorrow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from ecfs.clock import Clock
from ecfs.codec import Codec
from ecfs.drive.base import Drive, Writer
from ecfs.errors import (
    CorruptError,
    DriveError,
    DriveTimeoutError,
    EcfsError,
    FencedError,
    HistoryGapError,
    NotAPoolError,
    NotEnoughDrivesError,
    StripeLostError,
)
from ecfs.geometry import Geometry
from ecfs.journal.chain import Base, choose_tail, newest_whole, walk
from ecfs.journal.opened import OpenedPool
from ecfs.journal.record import OPEN, Record, RecordHead, compose, frame
from ecfs.journal.rescue_copy import keep_rescue_copy
from ecfs.journal.segments import Collected, SegmentWriter, collect, fetch
from ecfs.journal.state import Opening, lose, need_k
from ecfs.journal.superblock import Checkpoint, decode_superblock, retained_with
from ecfs.journal.support import dead_epochs, unsupported
from ecfs.journal.table import judged_row, judged_table, open_outcome, quarantined
from ecfs.meta import Database, outcome_from_json, outcome_to_json, schema_hash
from ecfs.pool.judge import Sight, by_slot, judge, look, pool_of
from ecfs.pool.members import Member, Members
from ecfs.pool.settings import Settings
from ecfs.stripes.cache import StripeCache
from ecfs.stripes.pins import Pins
from ecfs.stripes.reader import StripeReader


async def open_pool(
    candidates: Sequence[Drive],
    *,
    pool_id: str,
    clock: Clock,
    scratch: Path,
    settings: Settings | None = None,
    read_only: bool = False,
    accept_loss: bool = False,
) -> OpenedPool:
    """Open the pool that lies on these places.

    pool_id: hex, from the pool file; "" to take the one that most drives name.
    accept_loss: where history has a gap, go back to the newest state that is whole; nothing is deleted for it (R9).
    Raises RefusedError and its kin, NotEnoughDrivesError; on any error every drive is let go again.
    """
    opening = Opening(clock, settings or Settings(), scratch, read_only, accept_loss=accept_loss)
    try:
        pool = await _open(opening, candidates, pool_id)
        used = [member.drive for member in pool.members if member.up]
        for drive in candidates:
            if drive not in used:
                await drive.close()  # its lock would keep heal from looking at the place again
        return pool
    except BaseException:
        for drive in candidates:
            await drive.close()
        raise


async def _open(opening: Opening, candidates: Sequence[Drive], pool_id: str) -> OpenedPool:
    await _look(opening, candidates, pool_id)
    await _fence_and_read(opening)
    pool = await _load_newest(opening)
    if opening.read_only:
        _adopt_table(opening, pool)
        return pool
    await _catch_up_journals(opening, pool)
    await _append_open_record(opening, pool)
    await _settle_in(opening, pool)
    return pool


# ---- 1 to 3: who is there ---------------------------------------------------------------------------------


async def _look(opening: Opening, candidates: Sequence[Drive], pool_id: str) -> None:
    sights = [await look(drive, exclusive=not opening.read_only) for drive in candidates]
    name = pool_id or pool_of(sights)
    if name is None:
        raise _nothing_there(sights)
    identities = [s.identity for s in sights if s.identity is not None and s.identity.pool_id == name]
    if identities:
        opening.geometry = Geometry(1, identities[0].k, identities[0].m)
    opening.pool_id = bytes.fromhex(name)
    opening.sights = judge(sights, name, opening.geometry.n)
    opening.chosen = by_slot(opening.sights)
    need_k(opening, "are here")


def _nothing_there(sights: list[Sight]) -> EcfsError:
    states = "; ".join(f"{sight.drive.url}: {sight.reason or sight.state}" for sight in sights)
    if all(sight.state == "absent" for sight in sights):
        return NotEnoughDrivesError(f"no drive of the pool is here ({states})")
    return NotAPoolError(f"no drive here belongs to a pool ({states})")


async def _read_superblocks(opening: Opening) -> None:
    for slot, drive in list(opening.drives.items()):
        try:
            superblock = decode_superblock(await drive.read_blob("superblock"))
            if superblock.pool_id == opening.pool_id.hex():
                opening.superblocks[slot] = superblock
        except CorruptError as error:
            opening.notes.append(f"drive {slot}: {error}")
        except DriveError as error:
            opening.notes.append(str(error))


async def _collect(opening: Opening, slot: int) -> None:
    try:
        await collect(opening.collected, slot, opening.chosen[slot].drive, opening.pool_id)
    except DriveError as error:
        lose(opening, slot, error)


# ---- 4: fence ---------------------------------------------------------------------------------------------


async def _fence_and_read(opening: Opening) -> None:
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
    for slot, sight in opening.chosen.items():
        traces[slot] = {(heads[h].epoch, heads[h].nonce.hex()) for h in opening.collected.drives[slot].hashes}
        if sight.identity is not None:
            traces[slot].add((sight.identity.epoch, sight.identity.nonce))
        if slot in opening.fences:
            traces[slot].add((opening.fences[slot].epoch, opening.fences[slot].nonce))
    rejected = unsupported(traces, opening.geometry.k, opening.geometry.n)
    opening.void_epochs = dead_epochs(rejected, traces)
    opening.collected.heads = {h: head for h, head in heads.items() if (head.epoch, head.nonce.hex()) not in rejected}


async def _fence(opening: Opening, newest: int = 0) -> None:
    """R2: a new epoch, durable on at least k drives before the tail is chosen. newest: an epoch known to exist."""
    seen = [newest]
    seen += [s.identity.epoch for s in opening.chosen.values() if s.identity is not None]
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


# ---- 5 and 6: the newest state ----------------------------------------------------------------------------


def _checkpoints(opening: Opening) -> list[Checkpoint]:
    """Every checkpoint that any drive names, newest first."""
    named = [c for superblock in opening.superblocks.values() for c in superblock.checkpoints]
    known = {(c.epoch, c.seq): c for c in named if c.epoch not in opening.void_epochs}
    return [known[position] for position in sorted(known, reverse=True)]


async def _load_newest(opening: Opening) -> OpenedPool:
    """Load the newest checkpoint that can be decoded, replay the chain from it (R8: fall back to the older one)."""
    checkpoints = _checkpoints(opening)
    if not checkpoints:
        raise HistoryGapError("no drive that is here has a readable superblock; bring back the other drives")
    failures: list[str] = []
    for checkpoint in checkpoints:
        try:
            return await _load(opening, checkpoint, retained_with(checkpoint, opening.superblocks.values()))
        except (StripeLostError, CorruptError) as error:
            failures.append(f"checkpoint at commit {checkpoint.seq}: {error}")
            opening.notes.append(failures[-1])
    raise NotEnoughDrivesError("no checkpoint can be loaded: " + "; ".join(failures))


async def _load(opening: Opening, checkpoint: Checkpoint, kept: list[Checkpoint]) -> OpenedPool:
    base = Base(checkpoint.epoch, checkpoint.seq, bytes.fromhex(checkpoint.record))
    heads = opening.collected.heads
    tail = choose_tail(heads.values(), base)
    try:
        chain = walk(heads, tail, base)
    except HistoryGapError as error:
        if not opening.accept_loss:
            raise HistoryGapError(f"{error}; {_bring_back(opening)}") from error
        chain = _give_up(opening, base, tail)
    pool = _assemble(opening, checkpoint, kept)
    pool.db = await _load_image(opening, pool, checkpoint)
    opening.chain = chain
    await _replay(opening, pool, chain)
    _check_reached(opening, pool)
    pool.segments.kept_for_rescue = quarantined(opening, pool)
    return pool


def _check_reached(opening: Opening, pool: OpenedPool) -> None:
    """R9: proof of later commits besides the records themselves. Going on would reuse their numbers."""
    if pool.db.patch_seq > pool.seq:
        text = f"the checkpoint contains commit {pool.db.patch_seq}, whose record is on no drive that is here"
        raise CorruptError(text) if opening.accept_loss else HistoryGapError(f"{text}; {_bring_back(opening)}")
    written = [s.written for s in opening.superblocks.values() if s.written[0] not in opening.void_epochs]
    proven = max((seq for _, seq in written), default=0)
    if proven > pool.seq and not opening.accept_loss:
        raise HistoryGapError(
            f"a superblock proves commit {proven}, the newest record that is here is {pool.seq}; {_bring_back(opening)}"
        )


def _give_up(opening: Opening, base: Base, tail: Base) -> list[RecordHead]:
    """The user accepted the loss: the newest state that is whole. What lies beyond stays on the drives."""
    chain = newest_whole(opening.collected.heads, base)
    after = chain[-1].seq if chain else base.seq
    opening.quarantine = {"after": after, "epoch": tail.epoch, "tail": tail.seq}
    opening.notes.append(f"went back to commit {after}; commits up to {tail.seq} were given up and are kept unused")
    return chain


def _bring_back(opening: Opening) -> str:
    absent = [slot for slot in range(opening.geometry.n) if slot not in opening.chosen]
    if absent:
        drives = " or ".join(map(str, absent))
        return f"bring back drive {drives} (if that is impossible: ecfs mount --accept-loss)"
    return "every drive is here: the copies on all of them are damaged; to go back: ecfs mount --accept-loss"


def _assemble(opening: Opening, checkpoint: Checkpoint, kept: list[Checkpoint]) -> OpenedPool:
    geometry, settings = opening.geometry, opening.settings
    names = {s.slot: s for superblock in opening.superblocks.values() for s in superblock.drives}
    members = [Member(slot, names[slot].url if slot in names else "") for slot in range(geometry.n)]
    for slot, sight in opening.chosen.items():
        sight.drive.slot = slot
        identity = sight.identity
        members[slot].drive, members[slot].url, members[slot].up = sight.drive, sight.drive.url, True
        members[slot].drive_id = identity.drive_id if identity is not None else ""
    need = max(geometry.k, settings.min_write_drives)
    table = Members(opening.clock, members, need=need, m=geometry.m)
    pool = OpenedPool(
        opening.pool_id, opening.clock, geometry, settings, opening.scratch, table,
        db=None, reader=None, codec=Codec(geometry.k, geometry.m), pins=Pins(), writer=opening.writer,  # type: ignore[arg-type]
        segments=SegmentWriter(opening.writer.epoch), seq=checkpoint.seq, hash=bytes.fromhex(checkpoint.record),
        checkpoints=kept, read_only=opening.read_only, notes=opening.notes,
    )  # fmt: skip

    def on_bad(stripe: int, slot: int, error: DriveError) -> None:
        if pool.on_bad is not None:
            pool.on_bad(stripe, slot, error)

    pool.reader = StripeReader(table, opening.pool_id, StripeCache(settings.cache_bytes), on_bad)
    return pool


async def _load_image(opening: Opening, pool: OpenedPool, checkpoint: Checkpoint) -> Database:
    path = opening.scratch / f"image-{opening.clock.token(8).hex()}"
    try:
        with path.open("xb") as image:
            for fact in checkpoint.facts(opening.geometry):
                image.write(await pool.reader.read(fact, 0, fact.length))
                pool.reader.forget(fact.id)
            if image.tell() != checkpoint.length:
                raise CorruptError(f"the image has {image.tell()} bytes instead of {checkpoint.length}")
        return Database.load(opening.scratch, path)
    finally:
        path.unlink(missing_ok=True)


async def _replay(opening: Opening, pool: OpenedPool, chain: list[RecordHead]) -> None:
    schema = schema_hash()[:16]
    for head in chain:
        if head.schema != schema:
            raise CorruptError(f"commit {head.seq} was written with another schema of the metadata")
        record = await fetch(opening.collected, head, opening.drives)
        outcome = outcome_from_json(record.outcome)
        if record.patchset and head.seq > pool.db.patch_seq:
            pool.db.replay(record.patchset, head.seq)
        if head.seq > pool.db.outcome_seq:
            pool.db.apply_outcome(outcome, head.seq)
        opening.outcomes[head.seq] = outcome
        pool.seq, pool.hash = head.seq, head.hash
        pool.journal_bytes += head.framed_length


# ---- 7: catch up, and the open record ---------------------------------------------------------------------


async def _catch_up_journals(opening: Opening, pool: OpenedPool) -> None:
    """Append to each drive, in a segment of the new epoch, the retained records that it lacks or holds damaged."""
    retained = _retained(opening, pool)
    for slot, drive in list(opening.drives.items()):
        journal = opening.collected.drives[slot]
        pool.segments.adopt(slot, journal)
        try:
            for head in retained:
                if head.hash not in journal.hashes:
                    record = await fetch(opening.collected, head, opening.drives)
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


async def _append_open_record(opening: Opening, pool: OpenedPool) -> None:
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


# ---- 8: settling in ---------------------------------------------------------------------------------------


def _adopt_table(opening: Opening, pool: OpenedPool) -> None:
    """Members as the committed table and the look at the places say."""
    for row in judged_table(opening, pool):
        member = pool.members[row.slot]
        shown = row if row.slot in opening.chosen else judged_row(opening, pool, row)
        member.url, member.drive_id = member.url or row.url, row.drive_id
        member.in_w = row.in_w
        member.state, member.reason, member.since_ns = shown.state, shown.reason, shown.since_ns
        member.location = row.location
        member.confirmed = (row.confirmed_epoch, row.confirmed_seq)


async def _settle_in(opening: Opening, pool: OpenedPool) -> None:
    """Identities, superblocks, this epoch's directories, the rescue program. A drive that fails is down, not the
    opening."""
    _adopt_table(opening, pool)
    epochs = pool.live_epochs()
    for slot, drive in list(opening.drives.items()):
        member = pool.members[slot]
        try:
            await pool.write_identity(member, drive)
            if opening.superblocks.get(slot) is None or _outdated(opening, pool, slot):
                await pool.write_superblock(member, drive)
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
