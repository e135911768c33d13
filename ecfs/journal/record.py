"""One journal record: a patchset and an outcome section, in frames. Bytes: docs/FORMAT.md, "Journal record".

A record is identified by its hash and names the hash of the one before: history is a chain, not a list of
files, so void records (R1) and second copies need no special case. Pure: no I/O.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ecfs.errors import CorruptError, FormatTooNewError
from ecfs.shard import Buffer, crc32

MAGIC = b"ECFSRECD"
FORMAT = 1
HEADER_LENGTH = 256
MAX_PART = 1 << 20
MAX_RECORD = 256 << 20
"""Bytes of patchset + outcome; far above what a commit may hold (R17), a bound against hostile lengths."""
OPEN, COMMIT = 1, 2
GENESIS = bytes(32)
"""Stands as the hash of the record before the first."""

_FIELDS = struct.Struct("<8sHHI16sQQ16s32s32sQIIIIQQ16s")
_HASHED = 224


@dataclass(frozen=True)
class RecordHead:
    """All of a record but its payload. Hashes are 32 bytes, ids and nonce 16, lengths in bytes."""

    kind: int
    pool_id: bytes
    epoch: int
    seq: int
    nonce: bytes
    prev: bytes
    hash: bytes
    committed_seq: int
    patchset_length: int
    outcome_length: int
    schema: bytes

    @property
    def position(self) -> tuple[int, int]:
        """What the tail is the greatest of (R1)."""
        return (self.epoch, self.seq)

    @property
    def payload_length(self) -> int:
        return self.patchset_length + self.outcome_length

    @property
    def parts(self) -> int:
        return max(1, -(-self.payload_length // MAX_PART))

    @property
    def framed_length(self) -> int:
        """Bytes of the whole record in a segment."""
        return self.parts * HEADER_LENGTH + self.payload_length


@dataclass(frozen=True)
class Record:
    """A whole record, verified."""

    head: RecordHead
    patchset: bytes
    outcome: bytes


@dataclass(frozen=True)
class Part:
    """One verified frame header. `length` bytes of payload follow it."""

    head: RecordHead
    number: int
    length: int
    crc: int


def _record_hash(head: RecordHead, payload: bytes) -> bytes:
    digest = hashlib.blake2b(b"ecfs record 1", digest_size=32)
    fields = _pack(head, 0, 0, 0)
    digest.update(fields[8:96] + fields[128:136] + fields[152:184])
    digest.update(payload)
    return digest.digest()


def _pack(head: RecordHead, number: int, length: int, crc: int) -> bytes:
    return _FIELDS.pack(
        MAGIC, FORMAT, head.kind, HEADER_LENGTH, head.pool_id, head.epoch, head.seq, head.nonce, head.prev, head.hash,
        head.committed_seq, number, head.parts, length, crc, head.patchset_length, head.outcome_length, head.schema,
    )  # fmt: skip


def compose(
    kind: int,
    pool_id: bytes,
    epoch: int,
    seq: int,
    nonce: bytes,
    prev: bytes,
    committed_seq: int,
    schema: bytes,
    patchset: bytes,
    outcome: bytes,
) -> Record:
    """A record with its hash."""
    lengths = len(patchset), len(outcome)
    bare = RecordHead(kind, pool_id, epoch, seq, nonce, prev, GENESIS, committed_seq, *lengths, schema)
    payload = patchset + outcome
    if len(payload) > MAX_RECORD:
        raise ValueError(f"a record of {len(payload)} bytes")  # R17 closes commits far below this
    head = RecordHead(**{**bare.__dict__, "hash": _record_hash(bare, payload)})
    return Record(head, patchset, outcome)


def frame(record: Record) -> bytes:
    """The record's bytes in a segment: its parts, each with a header."""
    payload = record.patchset + record.outcome
    frames = bytearray()
    for number in range(record.head.parts):
        body = payload[number * MAX_PART : (number + 1) * MAX_PART]
        fields = _pack(record.head, number, len(body), crc32(body)).ljust(_HASHED, b"\0")
        frames += fields + hashlib.blake2b(fields, digest_size=32).digest() + body
    return bytes(frames)


def parse_part(header: Buffer) -> Part:
    """Verify a frame header (256 bytes). Raises CorruptError, FormatTooNewError."""
    if len(header) != HEADER_LENGTH or header[:8] != MAGIC:
        raise CorruptError("no record here")
    if hashlib.blake2b(header[:_HASHED], digest_size=32).digest() != header[_HASHED:]:
        raise CorruptError("record header damaged")
    (_, format_, kind, header_length, pool_id, epoch, seq, nonce, prev, hash_, committed, number, parts, length, crc,
     patchset_length, outcome_length, schema) = _FIELDS.unpack_from(header)  # fmt: skip
    if format_ > FORMAT:
        raise FormatTooNewError(f"journal record of format {format_}, this ecfs knows {FORMAT}: use a newer ecfs")
    head = RecordHead(kind, pool_id, epoch, seq, nonce, prev, hash_, committed, patchset_length, outcome_length, schema)
    expected = min(MAX_PART, head.payload_length - number * MAX_PART)
    if (
        kind not in (OPEN, COMMIT)
        or format_ != FORMAT
        or header_length != HEADER_LENGTH
        or any(header[_FIELDS.size : _HASHED])
        or head.payload_length > MAX_RECORD
        or parts != head.parts
        or number >= parts
        or length != expected
    ):
        raise CorruptError("record header inconsistent")
    return Part(head, number, length, crc)


@dataclass(frozen=True)
class Found:
    """A valid record in a segment at `offset` (bytes)."""

    head: RecordHead
    offset: int


def parse_record(data: Buffer, head: RecordHead) -> Record:
    """The record with this head, if its frames are exactly `data`. Raises CorruptError."""
    bodies: list[Buffer] = []
    offset = 0
    while offset < len(data):
        part = parse_part(data[offset : offset + HEADER_LENGTH])
        body = data[offset + HEADER_LENGTH : offset + HEADER_LENGTH + part.length]
        if part.head != head or part.number != len(bodies) or crc32(body) != part.crc:
            raise CorruptError("record part damaged")
        bodies.append(body)
        offset += HEADER_LENGTH + part.length
    payload = b"".join(bodies)
    if len(payload) != head.payload_length or _record_hash(head, payload) != head.hash:
        raise CorruptError(f"record {head.seq} of epoch {head.epoch} does not match its hash")
    return Record(head, payload[: head.patchset_length], payload[head.patchset_length :])


@dataclass(frozen=True)
class Flaw:
    """A stretch of a segment that is no valid record: [offset, end). torn: it reaches the segment's end."""

    offset: int
    end: int
    torn: bool


def scan(segment: bytes, pool_id: bytes, newest_epoch: int) -> Iterator[Found | Flaw]:
    """Every valid record of a segment, and every stretch between them that is damage.

    A bad header is skipped to the next magic, a bad body by its length: one rotten record never hides those
    after it (R9), and what users store inside a record's body is not taken for records.
    newest_epoch: that of the segment's name; records of another pool or a later epoch count as damage.
    """
    offset, bad_from = 0, None
    while offset < len(segment):
        length, head = _record_at(segment, offset)
        if head is not None and head.pool_id == pool_id and head.epoch <= newest_epoch:
            if bad_from is not None:
                yield Flaw(bad_from, offset, False)
                bad_from = None
            yield Found(head, offset)
        elif bad_from is None:
            bad_from = offset
        offset += length
    if bad_from is not None:
        yield Flaw(bad_from, len(segment), True)


def _record_at(segment: bytes, offset: int) -> tuple[int, RecordHead | None]:
    """How far to go on from here, and the record's head if a whole valid record starts here."""
    try:
        part = parse_part(segment[offset : offset + HEADER_LENGTH])
    except CorruptError:
        following = segment.find(MAGIC, offset + 1)
        return (len(segment) if following < 0 else following) - offset, None
    try:
        # Not copied: a later part, which is no record by itself, ends this at once, and a segment may be full of them.
        parse_record(memoryview(segment)[offset : offset + part.head.framed_length], part.head)
    except CorruptError:
        # Only this part is skipped: what follows it may be less than the head says, and another record.
        return HEADER_LENGTH + part.length, None
    return part.head.framed_length, part.head
