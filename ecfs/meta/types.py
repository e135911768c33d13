"""What the metadata database takes and gives: inodes, extents, stripe facts, drives, outcomes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from ecfs.errors import CorruptError, UsageError
from ecfs.geometry import MAX_DRIVES, Geometry

ROOT_INO = 1

GapKind = Literal["missing", "unknown"]
Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""What SQLite can store; JSON could say more."""
Slot = Annotated[int, msgspec.Meta(ge=0, lt=MAX_DRIVES)]
Mask = Annotated[int, msgspec.Meta(ge=0, lt=1 << MAX_DRIVES)]
Gap = tuple[Number, Number, GapKind]
"""Stripe ids lo (inclusive) to hi (exclusive) that a slot lacks for certain or may lack (R18)."""


class Inode(NamedTuple):
    """One file, directory or other node. Times in ns since 1970, size in bytes; parent only for directories, else 0."""

    ino: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    rdev: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    parent: int = 0
    flags: int = 0


class Extent(NamedTuple):
    """`length` bytes of a file from `offset`: at `source_offset` of stripe `source`, or of inline blob -source."""

    ino: int
    offset: int
    length: int
    source: int
    source_offset: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class Liveness(NamedTuple):
    """A committed stripe and how much of its payload is still referred to, in bytes."""

    stripe: int
    live: int
    length: int


class StripeFact(NamedTuple):
    """What is known for ever of a committed stripe. length: payload bytes; hash: its content hash, 32 bytes."""

    id: int
    geometry: int
    length: int
    hash: bytes


class StripeCounts(NamedTuple):
    """Stripes by the worst that is known of them; each is counted once, `total` is the sum of the others.

    missing: 1 … m slots lack their shard. unknown: none known missing, some unverified. lost: more than m lack it.
    """

    total: int
    full: int
    missing: int
    unknown: int
    lost: int


class DriveRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A member drive. in_w: commits must reach it (R5); location: where it was mounted (R10); since_ns: wall clock."""

    slot: Slot
    drive_id: str
    url: str
    state: str
    in_w: bool = True
    location: dict[str, Any] = {}
    confirmed_epoch: Number = 0
    confirmed_seq: Number = 0
    reason: str = ""
    since_ns: Number = 0


class Outcome(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What a record says besides its patchset: how the shards settled, and what changed about the drives (R4).

    stripes: (id, geometry, payload length, content hash in hex, mask of missing slots). removed: stripe ids.
    missing, present: (stripe, slot). gaps, orphan_shards: the full new list of each slot named. drives: full rows.
    retired: (drive id, slot). epoch: (epoch, nonce, first sequence).
    geometries: (id, k, m, code). settings: None removes one.
    """

    stripes: list[tuple[Number, Number, Number, str, Mask]] = []
    removed: list[Number] = []
    missing: list[tuple[Number, Slot]] = []
    present: list[tuple[Number, Slot]] = []
    gaps: dict[Slot, list[Gap]] = {}
    drives: list[DriveRow] = []
    retired: list[tuple[str, Slot]] = []
    epoch: tuple[Number, str, Number] | None = None
    geometries: list[tuple[Number, Number, Number, str]] = []
    settings: dict[str, Any] = {}
    orphan_shards: dict[Slot, list[str]] | None = None


_DECODER = msgspec.json.Decoder(Outcome, strict=True)


def outcome_to_json(outcome: Outcome) -> bytes:
    """UTF-8 JSON; members that say nothing are left out, so that the smallest outcome is ``{}``.

    Raises CorruptError for what `outcome_from_json` would refuse, before it becomes part of history.
    """
    data = msgspec.json.encode(outcome)
    outcome_from_json(data)
    return data


def outcome_from_json(data: bytes) -> Outcome:
    """Inverse of `outcome_to_json`. Raises CorruptError for anything that it can't have written."""
    try:
        outcome = _DECODER.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CorruptError(f"outcome section: {error}") from error
    check_outcome(outcome)
    return outcome


def check_outcome(outcome: Outcome) -> None:
    """Raises CorruptError for members that contradict themselves."""
    for number, _, length, digest, _ in outcome.stripes:
        if not number or not length or len(digest) != 64 or digest.strip("0123456789abcdef"):
            raise CorruptError(f"outcome section: impossible stripe {number:#x}")
    for slot, gaps in outcome.gaps.items():
        end = 0
        for lo, hi, _ in sorted(gaps):
            if not end <= lo < hi:
                raise CorruptError(f"outcome section: ranges of slot {slot} overlap or are empty")
            end = hi
    for number, k, m, _ in outcome.geometries:
        try:
            Geometry(number, k, m)
        except UsageError as error:
            raise CorruptError(f"outcome section: {error}") from error
