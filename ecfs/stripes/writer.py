"""From a payload to the bytes of its n shards, and onto drives. Who must have them is the commit engine's business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecfs.codec import Codec, Fragment
from ecfs.drive.base import Drive
from ecfs.geometry import FRAGMENT_HEADER, Geometry
from ecfs.shard import (
    Buffer,
    ShardHeader,
    block_crcs,
    build_header,
    content_hash,
    crc32,
)
from ecfs.stripes.fact import StripeFact


@dataclass(frozen=True)
class EncodedStripe:
    """A stripe ready to be stored. Immutable; the payload, of which most fragments are views, and m / k of it."""

    fact: StripeFact
    headers: tuple[bytes, ...]
    """Per index, 4016 bytes."""
    fragments: tuple[Fragment, ...]
    """Per index."""

    def buffers(self, index: int) -> list[Buffer]:
        """What `Drive.put` is given for shard `index`; not copied."""
        return [self.headers[index], *self.fragments[index]]


def encode_stripe(pool_id: bytes, stripe_id: int, space: str, geometry: Geometry, payload: bytes) -> EncodedStripe:
    """Encode a payload of 1 byte to 966 * 64 KiB * k. 4 MiB take 0.3 ms of the calling thread, more if malloc gives
    freed memory back to the kernel each time (page faults).

    Raises ValueError for an impossible stripe (a bug of the caller), EcfsError if the erasure library fails.
    """
    fragments = tuple(Codec(geometry.k, geometry.m).cut(payload))
    crcs = [block_crcs(data) for _, data in fragments]
    content = content_hash(len(payload), geometry.k, crcs[: geometry.k])
    fact = StripeFact(stripe_id, space, geometry, len(payload), content)
    headers = [shard_header(pool_id, fact, index, fragments[index].header, crcs[index]) for index in range(geometry.n)]
    return EncodedStripe(fact, tuple(headers), fragments)


def shard_header(pool_id: bytes, fact: StripeFact, index: int, fragment: Buffer, crcs: Sequence[int]) -> bytes:
    """The header of one shard. fragment: the library's 80 bytes, whatever follows. crcs: of its blocks."""
    return build_header(
        ShardHeader(
            pool_id=pool_id,
            space=fact.space,
            index=index,
            k=fact.geometry.k,
            m=fact.geometry.m,
            geometry_id=fact.geometry.id,
            stripe_id=fact.id,
            payload_length=fact.length,
            fragment_length=fact.fragment_length,
            content_hash=fact.content_hash,
            fragment_header_crc=crc32(memoryview(fragment)[:FRAGMENT_HEADER]),
            block_crcs=tuple(crcs),
        )
    )


async def put_shard(drive: Drive, encoded: EncodedStripe, slot: int, *, replace: bool = False) -> None:
    """Store the shard that belongs on `slot`. Durable at the drive's next `sync`. Raises what `Drive.put` raises.

    replace: heal only, see `Drive.put`.
    """
    fact = encoded.fact
    await drive.put(fact.key, encoded.buffers(fact.index_of(slot)), replace=replace)
