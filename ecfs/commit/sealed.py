"""Stripes between sealing and being settled: the payload stays in memory, readable, until every shard is settled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from ecfs.stripes.fact import StripeFact
from ecfs.stripes.writer import EncodedStripe


@dataclass(eq=False)
class SealedStripe:
    """One stripe on its way.

    placed: slot → incarnation in which its shard was put. synced: the same once a sync covered it.
    full: slots that had no room; their shard is missing, the drive stays.
    """

    id: int
    payload: bytes
    encoded: EncodedStripe | None = None
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
    """All sealed stripes that are not committed yet."""

    def __init__(self) -> None:
        self.bytes = 0
        self._stripes: dict[int, SealedStripe] = {}

    def __len__(self) -> int:
        return len(self._stripes)

    def __iter__(self) -> Iterator[SealedStripe]:
        return iter(self._stripes.values())

    def add(self, stripe: SealedStripe) -> None:
        self._stripes[stripe.id] = stripe
        self.bytes += len(stripe.payload)

    def remove(self, stripe: SealedStripe) -> None:
        if self._stripes.pop(stripe.id, None) is not None:
            self.bytes -= len(stripe.payload)

    def payload(self, stripe_id: int) -> bytes | None:
        stripe = self._stripes.get(stripe_id)
        return None if stripe is None else stripe.payload
