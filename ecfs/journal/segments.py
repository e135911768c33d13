"""Journal segments on the drives: collecting what is there, appending what is new.

A segment belongs to one epoch and one drive and is only ever appended to at its end. After an append that failed or
timed out the segment is never touched again, since the abandoned call may still write there (R20).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ecfs.drive.base import Drive
from ecfs.drive.begun import Begun, Gathering
from ecfs.errors import CorruptError, DriveError, ShardCorruptError, ShardMissingError
from ecfs.journal.record import Flaw, Found, Record, RecordHead, frame, parse_record, scan

SEGMENT_LIMIT = 16 << 20
"""Bytes after which a new segment is begun; recovery holds one segment in memory at a time."""


def segment_key(epoch: int, number: int) -> str:
    return f"j/{epoch:08x}.{number:06x}"


def segment_position(key: str) -> tuple[int, int]:
    """(epoch, number) of a segment key. Raises CorruptError for a foreign name."""
    epoch, _, number = key.removeprefix("j/").partition(".")
    try:
        return int(epoch, 16), int(number, 16)
    except ValueError as error:
        raise CorruptError(f"{key} is not a journal segment") from error


@dataclass(frozen=True)
class Place:
    """Where a copy of a record lies. Offset in bytes."""

    slot: int
    segment: str
    offset: int


@dataclass
class DriveJournal:
    """What one drive's journal holds. flaws: (segment, offset, torn) of damaged stretches."""

    hashes: set[bytes] = field(default_factory=set)
    segments: dict[str, int] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    flaws: list[tuple[str, int, bool]] = field(default_factory=list)

    def ends(self) -> dict[str, int]:
        """Where each segment ended, in bytes: before a record that was being appended just then."""
        torn = {key: offset for key, offset, is_torn in self.flaws if is_torn}
        return {key: torn.get(key, size) for key, size in self.segments.items()}


@dataclass
class Collected:
    """The union over all drives (R9). Payloads stay on the drives."""

    heads: dict[bytes, RecordHead] = field(default_factory=dict)
    places: dict[bytes, list[Place]] = field(default_factory=dict)
    drives: dict[int, DriveJournal] = field(default_factory=dict)

    def own(self, slot: int, settled: int) -> list[RecordHead]:
        """The records that a drive shows by itself, of history. settled: the epoch that its identity names.

        What lies in segments of later epochs was copied there by an opening that ended, or lost the drive, before what
        the drive lacks was committed; counting it would hide a rollback for ever (R11).
        """
        return [
            self.heads[hash_]
            for hash_, places in self.places.items()
            if hash_ in self.heads
            and any(place.slot == slot and segment_position(place.segment)[0] <= settled for place in places)
        ]


async def collect(
    collected: Collected, slot: int, drive: Drive, pool_id: bytes, since: Mapping[str, int] | None = None
) -> None:
    """Read one drive's journal into the union: all of it, or what lies behind the ends that `since` gives (bytes, by
    segment). Raises DriveError if the drive itself fails."""
    journal = DriveJournal()
    sizes = {entry.key: entry.size async for entry in drive.list("j/")}
    for key in sorted(sizes):
        start = since.get(key, 0) if since else 0
        if start and sizes[key] <= start:
            continue
        try:
            epoch, _ = segment_position(key)
            data = await drive.get(key, start)
        except ShardMissingError:
            continue
        except (CorruptError, ShardCorruptError):
            journal.flaws.append((key, 0, False))
            continue
        journal.segments[key] = start + len(data)
        for found in scan(data, pool_id, epoch):
            _enter(collected, journal, slot, key, replace(found, offset=start + found.offset))
    collected.drives[slot] = journal


def _enter(collected: Collected, journal: DriveJournal, slot: int, key: str, found: Found | Flaw) -> None:
    if isinstance(found, Flaw):
        journal.flaws.append((key, found.offset, found.torn))
        return
    head = found.head
    journal.hashes.add(head.hash)
    journal.newest[key] = max(journal.newest.get(key, 0), head.seq)
    collected.heads[head.hash] = head
    collected.places.setdefault(head.hash, []).append(Place(slot, key, found.offset))


async def fetch(collected: Collected, head: RecordHead, drives: dict[int, Drive]) -> Record:
    """A record's payload from any drive that has it, verified again. Raises CorruptError if none can give it."""
    for place in collected.places[head.hash]:
        drive = drives.get(place.slot)
        if drive is None:
            continue
        try:
            return parse_record(await drive.get(place.segment, place.offset, head.framed_length), head)
        except (DriveError, CorruptError):
            continue
    raise CorruptError(f"commit {head.seq} could be read a moment ago and now on no drive")


async def fetch_some(collected: Collected, heads: Sequence[RecordHead], drives: dict[int, Drive]) -> list[Record]:
    """`fetch` for one or more in order: one read for those that lie side by side on a drive, as nearly all do."""
    found = await _read_run(collected, heads, drives)
    return [found.get(head.hash) or await fetch(collected, head, drives) for head in heads]


async def _read_run(collected: Collected, heads: Sequence[RecordHead], drives: dict[int, Drive]) -> dict[bytes, Record]:
    """Those of the records that one drive gives at once, verified; by hash. Never more bytes than they have."""
    first = next((place for place in collected.places[heads[0].hash] if place.slot in drives), None)
    if first is None:
        return {}
    places, end = {heads[0].hash: first}, first.offset + heads[0].framed_length
    for head in heads[1:]:
        place = Place(first.slot, first.segment, end)
        if place not in collected.places[head.hash]:
            break
        places[head.hash], end = place, end + head.framed_length
    try:
        run = await drives[first.slot].get(first.segment, first.offset, end - first.offset)
    except DriveError:
        return {}
    found: dict[bytes, Record] = {}
    for head in heads[: len(places)]:
        start = places[head.hash].offset - first.offset
        with suppress(CorruptError):
            found[head.hash] = parse_record(run[start : start + head.framed_length], head)
    return found


@dataclass
class _Tape:
    """Where the next record goes on one drive. newest: of those that were begun here, however that ended."""

    key: str
    offset: int = 0
    newest: int = 0


@dataclass
class _Shelf:
    """The segments of one drive. next: the number of the next one of this epoch, never used twice. old: those that are
    closed, with the seq of their newest record."""

    tape: _Tape | None = None
    next: int = 0
    old: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Appending:
    """A record on its way to one drive (`Begun`). On any error the segment is given up for ever."""

    writer: SegmentWriter
    slot: int
    begun: Begun

    @property
    def seconds(self) -> float | None:
        return self.begun.seconds

    def result(self) -> None:
        try:
            self.begun.result()
        except BaseException:
            self.writer.give_up(self.slot)
            raise

    def give_up(self) -> None:
        self.begun.give_up()
        self.writer.give_up(self.slot)


class SegmentWriter:
    """Appends records on every drive, each to segments of its own."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self.kept_for_rescue: list[dict[str, int]] = []
        """Given-up history (R9): segments with records of it are never pruned."""
        self._shelves: defaultdict[int, _Shelf] = defaultdict(_Shelf)

    def adopt(self, slot: int, journal: DriveJournal) -> None:
        """Segments of earlier epochs that lie on the drive, to be pruned when a checkpoint covers them."""
        mine = [segment_position(key)[1] for key in journal.segments if segment_position(key)[0] == self._epoch]
        self._shelves[slot] = _Shelf(
            next=max([self._shelves[slot].next, *(number + 1 for number in mine)]),
            old={key: journal.newest.get(key, 0) for key in journal.segments},
        )

    async def append(self, slot: int, drive: Drive, record: Record, framed: bytes | None = None) -> None:
        """Append, durable on return. On any error, cancellation included, the segment is given up for ever."""
        data = framed if framed is not None else frame(record)
        tape = self._tape(slot, len(data), record.head.seq)
        offset = tape.offset
        tape.offset += len(data)
        try:
            await drive.append(tape.key, offset, data)
        except BaseException:
            self.give_up(slot)
            raise

    def begin(self, slot: int, drive: Drive, record: Record, framed: bytes, gathering: Gathering) -> Appending | None:
        """`append`, begun: see `Drive.begin_append`. None where only `append` will do."""
        tape = self._tape(slot, len(framed), record.head.seq)
        try:
            begun = drive.begin_append(tape.key, tape.offset, framed, gathering)
        except BaseException:
            self.give_up(slot)
            raise
        if begun is None:
            return None
        tape.offset += len(framed)
        return Appending(self, slot, begun)

    def _tape(self, slot: int, length: int, seq: int) -> _Tape:
        """Where a record goes. From now on it counts as being there: a checkpoint that is finished while it is on its
        way must not prune its segment, and one whose append fails may have landed in part."""
        shelf = self._shelves[slot]
        if shelf.tape is not None and shelf.tape.offset and shelf.tape.offset + length > SEGMENT_LIMIT:
            self.give_up(slot)
        if shelf.tape is None:
            shelf.tape = _Tape(segment_key(self._epoch, shelf.next))
            shelf.next += 1
        shelf.tape.newest = max(shelf.tape.newest, seq)
        return shelf.tape

    def give_up(self, slot: int) -> None:
        """Begin a new segment with the next record on this drive."""
        shelf = self._shelves[slot]
        if shelf.tape is not None:
            shelf.old[shelf.tape.key] = shelf.tape.newest
            shelf.tape = None

    def prunable(self, slot: int, before_seq: int) -> list[str]:
        """Closed segments whose records are all at or below `before_seq`; forgets them."""
        old = self._shelves[slot].old
        keys = [key for key, newest in old.items() if newest <= before_seq and not self.is_kept(key, newest)]
        for key in keys:
            del old[key]
        return keys

    def hand_over(self, tape: int, slot: int) -> None:
        """The drive that was written as `tape` is from now on that of `slot`."""
        self._shelves[slot] = self._shelves.pop(tape, _Shelf())

    def dropped(self, slot: int, key: str) -> None:
        """A damaged segment was deleted."""
        self._shelves[slot].old.pop(key, None)

    def is_kept(self, key: str, newest: int) -> bool:
        """Does a segment hold given-up history? newest: seq of its newest record."""
        epoch, _ = segment_position(key)
        return any(epoch <= each["epoch"] and newest > each["after"] for each in self.kept_for_rescue)

    def forget(self, slot: int) -> None:
        """The drive was exchanged: nothing that was known of its segments holds."""
        self._shelves[slot] = _Shelf(next=self._shelves[slot].next)
