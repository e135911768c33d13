"""What the metadata database takes and gives: inodes, extents, stripe facts, drives, outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from ecfs.errors import CorruptError
from ecfs.geometry import MAX_DRIVES

ROOT_INO = 1

GapKind = Literal["missing", "unknown"]
Gap = tuple[int, int, GapKind]
"""Stripe ids lo (inclusive) to hi (exclusive) that a slot lacks for certain or may lack (R18)."""


@dataclass(frozen=True, slots=True)
class Inode:
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

    slot: int
    drive_id: str
    url: str
    state: str
    in_w: bool = True
    location: dict[str, Any] = {}
    confirmed_epoch: int = 0
    confirmed_seq: int = 0
    reason: str = ""
    since_ns: int = 0


class Outcome(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What a record says besides its patchset: how the shards settled, and what changed about the drives (R4).

    stripes: (id, geometry, payload length, content hash in hex, mask of missing slots). removed: stripe ids.
    missing, present: (stripe, slot). gaps, orphan_shards: the full new list of each slot named. drives: full rows.
    retired: (drive id, slot). epoch: (epoch, nonce, first sequence).
    geometries: (id, k, m, code). settings: None removes one.
    """

    stripes: list[tuple[int, int, int, str, int]] = []
    removed: list[int] = []
    missing: list[tuple[int, int]] = []
    present: list[tuple[int, int]] = []
    gaps: dict[int, list[Gap]] = {}
    drives: list[DriveRow] = []
    retired: list[tuple[str, int]] = []
    epoch: tuple[int, str, int] | None = None
    geometries: list[tuple[int, int, int, str]] = []
    settings: dict[str, Any] = {}
    orphan_shards: dict[int, list[str]] | None = None


_DECODER = msgspec.json.Decoder(Outcome, strict=True)


def outcome_to_json(outcome: Outcome) -> bytes:
    """UTF-8 JSON; members that say nothing are left out, so that the smallest outcome is ``{}``."""
    check_outcome(outcome)
    return msgspec.json.encode(outcome)


def outcome_from_json(data: bytes) -> Outcome:
    """Inverse of `outcome_to_json`. Raises CorruptError for anything that it can't have written."""
    try:
        outcome = _DECODER.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CorruptError(f"outcome section: {error}") from error
    check_outcome(outcome)
    return outcome


def check_outcome(outcome: Outcome) -> None:
    """Raises CorruptError for values that no database may hold."""
    for number, _, length, digest, mask in outcome.stripes:
        if not (0 < number < 1 << 63 and 0 < length < 1 << 62 and 0 <= mask < 1 << MAX_DRIVES and _is_hash(digest)):
            raise CorruptError(f"outcome section: impossible stripe {number:#x}")
    for slot, gaps in outcome.gaps.items():
        end = 0
        for lo, hi, _ in sorted(gaps):
            if not end <= lo < hi:
                raise CorruptError(f"outcome section: ranges of slot {slot} overlap or are empty")
            end = hi
    slots = (
        {slot for _, slot in outcome.missing + outcome.present} | outcome.gaps.keys() | {d.slot for d in outcome.drives}
    )
    if any(not 0 <= slot < MAX_DRIVES for slot in slots):
        raise CorruptError("outcome section: impossible slot")


def _is_hash(digest: str) -> bool:
    return len(digest) == 64 and not digest.strip("0123456789abcdef")
