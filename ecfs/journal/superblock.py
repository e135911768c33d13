"""The superblock: where the newest two checkpoints are, and which drive was where. Bytes: docs/FORMAT.md."""

from __future__ import annotations

import msgspec

from ecfs.geometry import Geometry
from ecfs.pool.sealed import seal, unseal
from ecfs.stripes.fact import StripeFact


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A database image cut into stripes.

    epoch, seq, record (hash, hex): the last record whose outcome is contained; replay starts after it. The image
    may contain the patchset of the next record already: its own table `progress` says so.
    length: bytes of the image. stripes: (id, payload bytes, content hash hex, slots that hold it).
    """

    epoch: int
    seq: int
    record: str
    length: int
    stripes: list[tuple[int, int, str, list[int]]]

    def facts(self, geometry: Geometry) -> list[StripeFact]:
        return [StripeFact(id_, "c", geometry, length, bytes.fromhex(hash_)) for id_, length, hash_, _ in self.stripes]


class DriveEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slot: int
    url: str
    drive_id: str


class Superblock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one drive says about the pool. checkpoints: newest first, at most two."""

    pool_id: str
    drive_id: str
    slot: int
    k: int
    m: int
    code: str
    written: tuple[int, int]
    drives: list[DriveEntry]
    checkpoints: list[Checkpoint]


def encode_superblock(superblock: Superblock) -> bytes:
    return seal("superblock", superblock)


def decode_superblock(data: bytes) -> Superblock:
    """Raises CorruptError, FormatTooNewError."""
    return unseal("superblock", data, Superblock)
