"""Opening, steps 5 and 6: the tail, the chain back to a checkpoint, the checkpoint loaded, the chain replayed."""

from __future__ import annotations

from collections.abc import Iterable

from ecfs.errors import (
    CorruptError,
    DriveError,
    HistoryGapError,
    NotEnoughDrivesError,
    StripeLostError,
)
from ecfs.journal.chain import Base, choose_tail, newest_whole, openings, walk
from ecfs.journal.opened import OpenedPool
from ecfs.journal.record import RecordHead
from ecfs.journal.segments import SegmentWriter, fetch
from ecfs.journal.state import Opening
from ecfs.journal.superblock import Checkpoint, retained_with
from ecfs.journal.table import quarantined
from ecfs.meta import Database, outcome_from_json, schema_hash
from ecfs.pool.members import Member, Members
from ecfs.stripes.cache import StripeCache
from ecfs.stripes.pins import Pins
from ecfs.stripes.reader import StripeReader


def _checkpoints(opening: Opening) -> list[Checkpoint]:
    """Every checkpoint that any drive names, newest first."""
    named = {(c.epoch, c.seq): c for superblock in opening.witnesses for c in superblock.checkpoints}
    return [named[position] for position in sorted(_of_history(opening, named), reverse=True)]


def _of_history(opening: Opening, positions: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of the commits (epoch, seq) that superblocks tell of which count: not of an epoch that was never opened
    here, nor where a later one went on from before that commit, when the user accepted its loss. A drive that was away
    then still names it."""
    later = openings(opening.collected.heads)
    return [
        (epoch, seq)
        for epoch, seq in positions
        if epoch not in opening.void_epochs and not any(head.epoch > epoch and head.seq <= seq for head in later)
    ]


async def load_newest(opening: Opening) -> OpenedPool:
    """Load the newest checkpoint that can be decoded, replay the chain from it (R8: fall back to the older one)."""
    checkpoints = _checkpoints(opening)
    if not checkpoints:
        raise HistoryGapError("no drive that is here has a readable superblock; bring back the other drives")
    failures: list[str] = []
    for checkpoint in checkpoints:
        try:
            return await _load(opening, checkpoint, retained_with(checkpoint, opening.witnesses))
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
    written = _of_history(opening, [superblock.written for superblock in opening.witnesses])
    proven = max((seq for _, seq in written), default=0)
    if proven > pool.seq and not opening.accept_loss:
        raise HistoryGapError(
            f"a superblock proves commit {proven}, the newest record that is here is {pool.seq}; {_bring_back(opening)}"
        )
    if proven > pool.seq and opening.quarantine is None:
        _note_given_up(opening, pool.seq, max(written)[0], proven)


def _give_up(opening: Opening, base: Base, tail: Base) -> list[RecordHead]:
    """The user accepted the loss: the newest state that is whole. What lies beyond stays on the drives."""
    chain = newest_whole(opening.collected.heads, base)
    _note_given_up(opening, chain[-1].seq if chain else base.seq, tail.epoch, tail.seq)
    return chain


def _note_given_up(opening: Opening, after: int, epoch: int, tail: int) -> None:
    opening.quarantine = {"after": after, "epoch": epoch, "tail": tail}
    opening.notes.append(f"went back to commit {after}; commits up to {tail} were given up and are kept unused")


def _bring_back(opening: Opening) -> str:
    absent = [slot for slot in range(opening.geometry.n) if slot not in opening.chosen]
    if absent:
        drives = " or ".join(map(str, absent))
        return f"bring back drive {drives} (if that is impossible: ecfs mount --accept-loss)"
    return "every drive is here: the copies on all of them are damaged; to go back: ecfs mount --accept-loss"


def _assemble(opening: Opening, checkpoint: Checkpoint, kept: list[Checkpoint]) -> OpenedPool:
    geometry, settings = opening.geometry, opening.settings
    members = [Member(slot, "") for slot in range(geometry.n)]
    for slot, sight in opening.chosen.items():
        sight.drive.slot = slot
        identity = sight.identity
        members[slot].drive, members[slot].url, members[slot].up = sight.drive, sight.drive.url, True
        members[slot].drive_id = identity.drive_id if identity is not None else ""
    need = max(geometry.k, settings.min_write_drives)
    table = Members(opening.clock, members, need=need, m=geometry.m)
    pool = OpenedPool(
        opening.pool_id, opening.clock, geometry, settings, opening.scratch, table,
        db=None, reader=None, pins=Pins(), writer=opening.writer,  # type: ignore[arg-type]
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
        pool.db.apply_outcome(outcome, head.seq)
        opening.outcomes[head.seq] = outcome
        pool.seq, pool.hash = head.seq, head.hash
        pool.journal_bytes += head.framed_length
