"""The superblock: where the newest two checkpoints are, and which drive was where. Bytes: docs/FORMAT.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from ecfs.drive.base import Drive
from ecfs.errors import CorruptError
from ecfs.geometry import COUNTER_BITS, Geometry
from ecfs.pool.sealed import seal, unseal
from ecfs.stripes.fact import StripeFact

PoolId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
StripeId = Annotated[int, msgspec.Meta(ge=1 << COUNTER_BITS, le=(1 << 63) - 1)]
Length = Annotated[int, msgspec.Meta(ge=1, le=1 << 28)]
"""Far above any stripe; a bound against hostile lengths."""


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A database image cut into stripes.

    epoch, seq, record (hash, hex): the last record whose outcome is contained; replay starts after it. The image
    may contain the patchset of the next record already: its own table `progress` says so.
    length: bytes of the image. stripes: (id, payload bytes, content hash hex, slots that hold it).
    """

    epoch: int
    seq: int
    record: Hash
    length: int
    stripes: list[tuple[StripeId, Length, Hash, list[int]]]

    def facts(self, geometry: Geometry) -> list[StripeFact]:
        return [StripeFact(id_, "c", geometry, length, bytes.fromhex(hash_)) for id_, length, hash_, _ in self.stripes]


class DriveEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slot: int
    url: str
    drive_id: str


class Superblock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one drive says about the pool. checkpoints: newest first, at most two."""

    pool_id: PoolId
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


async def read_superblock(drive: Drive, pool_id: bytes) -> Superblock:
    """What the drive says about this pool. Raises DriveError, CorruptError (also: it is of another pool),
    FormatTooNewError."""
    superblock = decode_superblock(await drive.read_blob("superblock"))
    if superblock.pool_id != pool_id.hex():
        raise CorruptError(f"superblock of another pool ({superblock.pool_id[:8]})")
    return superblock


def retained_with(checkpoint: Checkpoint, superblocks: Iterable[Superblock]) -> list[Checkpoint]:
    """The checkpoint, which one of these superblocks names, and the older one that is kept with it, as the newest that
    names it says.

    Not simply the next older one that any drive names: a drive that was away names checkpoints that the others have
    given up since, and taking one of those for kept would forget the one that really is whole.
    """
    naming = [
        (superblock.written, superblock.checkpoints[at : at + 2])
        for superblock in superblocks
        for at, named in enumerate(superblock.checkpoints)
        if (named.epoch, named.seq) == (checkpoint.epoch, checkpoint.seq)
    ]
    return max(naming, key=lambda each: each[0])[1]
