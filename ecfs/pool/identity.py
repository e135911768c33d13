"""Who a drive is. The identity decides a drive's slot, not its name or order: d0 and d5 swapped must work."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ecfs.errors import CorruptError, UsageError
from ecfs.geometry import Geometry
from ecfs.pool.sealed import seal, unseal

JOINING = "joining"
MEMBER = "member"


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a drive says of itself. Ids and nonce are hex.

    state: "joining" until superblock, checkpoints and journal are on it (R7), then "member".
    epoch, nonce: the newest opening that included this drive; a pair that the pool's history never
    contained means that this copy lived on elsewhere (R11).
    """

    pool_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    drive_id: str
    slot: int
    state: str
    k: int
    m: int
    epoch: int
    nonce: str


def encode_identity(identity: Identity) -> bytes:
    return seal("identity", identity)


def decode_identity(data: bytes) -> Identity:
    """Raises CorruptError, FormatTooNewError."""
    identity = unseal("identity", data, Identity)
    try:
        Geometry(1, identity.k, identity.m)
    except UsageError as error:
        raise CorruptError(f"identity: {error}") from error
    return identity
