"""What was read and verified a moment ago: blocks and headers, each bounded in bytes, least recently used out first.

Entries are named by the stripe's content hash besides its id, so that a row of another generation can't hit them.
Nothing here is ever stale: shards are immutable and ids are never reused (R3). `forget` only frees memory.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from ecfs.shard import Buffer, ShardHeader
from ecfs.stripes.fact import StripeFact

BLOCK_BYTES = 64 * 1024 * 1024
HEADER_BYTES = 8 * 1024 * 1024
STRIPE_BYTES = 17 * 1024 * 1024
"""Four stripes of 4 MiB, as many as a few readers in order are at; never more than there is room for blocks."""

_ENTRY_COST = 800
"""Bytes that an entry takes besides its data: key, dictionaries, the header's own fields. Without it, a cache full of
one-byte blocks would take hundreds of times its limit."""
_CRC_COST = 40
"""Bytes of one block checksum in a header: a place in a tuple and a Python int."""

Key = tuple[int, bytes, int, int]
"""(stripe id, content hash, shard index, block number)"""
V = TypeVar("V")


@dataclass(frozen=True)
class _Entry(Generic[V]):
    value: V
    cost: int


class StripeLru(Generic[V]):
    """A dictionary that forgets what was used longest ago when `limit` bytes are exceeded. Never waits."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._entries: OrderedDict[Key, _Entry[V]] = OrderedDict()
        self._of_stripe: dict[int, set[Key]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: Key, value: V, size: int) -> None:
        """Keep `value` of `size` bytes. What alone is larger than the limit is not kept."""
        cost = size + _ENTRY_COST
        self._drop(key)
        if cost > self.limit:
            return
        self._entries[key] = _Entry(value, cost)
        self._of_stripe.setdefault(key[0], set()).add(key)
        self.used += cost
        while self.used > self.limit:
            self._drop(next(iter(self._entries)))

    def forget(self, stripe_id: int) -> None:
        """Drop everything of one stripe."""
        for key in tuple(self._of_stripe.get(stripe_id, ())):
            self._drop(key)

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.used -= entry.cost
        keys = self._of_stripe[key[0]]
        keys.discard(key)
        if not keys:
            del self._of_stripe[key[0]]


class StripeCache:
    """Verified blocks and headers of stripes. Only what was checked against the stripe's row may be put in."""

    def __init__(self, block_bytes: int = BLOCK_BYTES, header_bytes: int = HEADER_BYTES) -> None:
        self.blocks: StripeLru[bytes] = StripeLru(block_bytes)
        self.headers: StripeLru[ShardHeader] = StripeLru(header_bytes)
        self.stripes: StripeLru[tuple[Buffer, ...]] = StripeLru(min(block_bytes, STRIPE_BYTES))

    @property
    def used(self) -> int:
        """Bytes of payload, and what keeping them costs."""
        return self.blocks.used + self.stripes.used

    @property
    def limit(self) -> int:
        return self.blocks.limit + self.stripes.limit

    def stripe(self, fact: StripeFact) -> tuple[Buffer, ...] | None:
        """The k data fragments of a stripe that had to be decoded, each with the erasure library's 80 bytes."""
        return self.stripes.get((fact.id, fact.content_hash, 0, 0))

    def put_stripe(self, fact: StripeFact, fragments: tuple[Buffer, ...]) -> None:
        """Keep the k data fragments, proven by the content hash."""
        self.stripes.put((fact.id, fact.content_hash, 0, 0), fragments, sum(map(len, fragments)))

    def block(self, fact: StripeFact, index: int, number: int) -> bytes | None:
        """Block `number` of shard `index`, if it is kept."""
        return self.blocks.get((fact.id, fact.content_hash, index, number))

    def put_block(self, fact: StripeFact, index: int, number: int, data: Buffer) -> None:
        """Keep a verified block. Copied, since a view would keep the whole run alive that it was read with."""
        self.blocks.put((fact.id, fact.content_hash, index, number), bytes(data), len(data))

    def header(self, fact: StripeFact, index: int) -> ShardHeader | None:
        """The header of shard `index`, if it is kept."""
        return self.headers.get((fact.id, fact.content_hash, index, 0))

    def put_header(self, fact: StripeFact, header: ShardHeader) -> None:
        """Keep a header that `StripeFact.check_header` accepted."""
        size = _CRC_COST * len(header.block_crcs)
        self.headers.put((fact.id, fact.content_hash, header.index, 0), header, size)

    def forget(self, stripe_id: int) -> None:
        """Free what is kept of a stripe that is being deleted."""
        self.blocks.forget(stripe_id)
        self.headers.forget(stripe_id)
        self.stripes.forget(stripe_id)
