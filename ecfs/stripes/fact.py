"""What the metadata knows of a stripe, and whether a shard's header fits to it."""

from __future__ import annotations

from dataclasses import dataclass

from ecfs.errors import CorruptError
from ecfs.geometry import Geometry, counter_of
from ecfs.shard import ShardHeader, shard_key


@dataclass(frozen=True)
class StripeFact:
    """A stripe as its row says it is; every shard is judged by this and never the other way round.

    length: payload bytes, at least 1. content_hash: 32 bytes; no other generation of the id can have it (R3).
    """

    id: int
    space: str
    geometry: Geometry
    length: int
    content_hash: bytes

    def slot_of(self, index: int) -> int:
        """The slot that holds shard `index`."""
        return self.geometry.slot_of(counter_of(self.id), index)

    def index_of(self, slot: int) -> int:
        """The shard index that `slot` holds; inverse of `slot_of`."""
        return self.geometry.index_of(counter_of(self.id), slot)

    @property
    def key(self) -> str:
        """The key of every shard of this stripe, on whatever drive."""
        return shard_key(self.space, self.id)

    @property
    def fragment_length(self) -> int:
        """Data bytes of each shard."""
        return self.geometry.fragment_length(self.length)

    def check_header(self, header: ShardHeader, pool_id: bytes, index: int) -> None:
        """Check that a valid header is that of shard `index` of this very stripe in this pool.

        Raises CorruptError: a shard of another pool, stripe, generation, geometry or place is damage here,
        however sound it is in itself.
        """
        geometry = self.geometry
        named = {
            "pool": (header.pool_id, pool_id),
            "stripe": (header.stripe_id, self.id),
            "key space": (header.space, self.space),
            "content": (header.content_hash, self.content_hash),
            "index": (header.index, index),
            "geometry": ((header.geometry_id, header.k, header.m), (geometry.id, geometry.k, geometry.m)),
            "length": (header.payload_length, self.length),
        }
        for name, (found, expected) in named.items():
            if found != expected:
                raise CorruptError(f"a shard of another {name}: {_show(found)} instead of {_show(expected)}")


def _show(value: object) -> str:
    return value.hex()[:16] if isinstance(value, bytes) else f"{value}"
