"""Stripes between sealing and being settled: the payload stays in memory, readable, until every shard is settled.

A commit may finish without drives that were late. What they lack stays here afterwards, as far as there is room: until
they have got it, one more drive that fails may leave too few shards on drives (R5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from ecfs.stripes.fact import StripeFact


@dataclass(eq=False)
class SealedStripe:
    """One stripe on its way.

    placed: slot → incarnation in which its shard was put. synced: the same once a sync covered it.
    full: slots that had no room; their shard is missing, the drive stays.
    """

    id: int
    payload: bytes
    fact: StripeFact | None = None
    placed: dict[int, int] = field(default_factory=dict)
    synced: dict[int, int] = field(default_factory=dict)
    full: set[int] = field(default_factory=set)
    tried: set[int] = field(default_factory=set)
    lock: trio.Lock = field(default_factory=trio.Lock)

    def holds(self, slot: int, incarnation: int) -> bool:
        """Is the shard durable on the drive as it is there now?"""
        return self.synced.get(slot) == incarnation


class SealedStripes:
    """All sealed stripes that are not committed yet, and the payloads of the newest ones that were committed short.

    limit: of both, in bytes; what is not committed yet always has its place. bytes: of that. kept: of the others.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self.kept = 0
        self._stripes: dict[int, SealedStripe] = {}
        self._short: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._stripes)

    def __iter__(self) -> Iterator[SealedStripe]:
        return iter(self._stripes.values())

    def add(self, stripe: SealedStripe) -> None:
        self._stripes[stripe.id] = stripe
        self.bytes += len(stripe.payload)
        self._make_room()

    def __contains__(self, stripe_id: int) -> bool:
        """Whether it is not committed yet."""
        return stripe_id in self._stripes

    def committed(self, stripe: SealedStripe, *, short: bool) -> None:
        """Its commit is acknowledged. short: a drive lacks its shard."""
        del self._stripes[stripe.id]
        self.bytes -= len(stripe.payload)
        if short:
            self._short[stripe.id] = stripe.payload
            self.kept += len(stripe.payload)
            self._make_room()

    def _make_room(self) -> None:
        while self._short and self.bytes + self.kept > self.limit:
            self.let_go(next(iter(self._short)))

    def is_kept(self, stripe_id: int) -> bool:
        return stripe_id in self._short

    def let_go(self, stripe_id: int) -> None:
        """All drives have it, or nobody needs it any more."""
        self.kept -= len(self._short.pop(stripe_id, b""))

    def payload(self, stripe_id: int) -> bytes | None:
        stripe = self._stripes.get(stripe_id)
        return self._short.get(stripe_id) if stripe is None else stripe.payload
