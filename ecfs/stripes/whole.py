"""A stripe that lacks data shards, read in order: fetched and decoded once, as a whole.

Block by block, as the kernel asks for them, each of k times 16 blocks gets a verdict, an entry in the cache and a copy
before it is decoded. Here k shards are read as they are, and the stripe is proven by its content hash. Whatever does
not go smoothly is left to the reading of blocks, which knows about late drives and about shards that are bad in
different places.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio

from ecfs.errors import DriveError, StripeLostError
from ecfs.geometry import FRAGMENT_HEADER, Piece
from ecfs.shard import Buffer
from ecfs.stripes.blocks import STREAM
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.reading import ReadContext
from ecfs.stripes.rebuild import data_fragments

AT_ONCE = 4
"""Stripes that are fetched at a time: 8 MiB each."""
LATE = 10
"""Times the patience with a drive, which is made for blocks; then the blocks are asked for."""

SPARE = 64 << 10
"""Bytes that a stripe takes in the cache besides its data, at most."""

Fragments = tuple[Buffer, ...]


class WholeStripes:
    """What all readers of a pool share. The caller pins the stripe."""

    def __init__(self, context: ReadContext) -> None:
        self._context = context
        self._on_their_way: dict[int, trio.Event] = {}
        self._few = trio.Semaphore(AT_ONCE)

    async def read(self, fact: StripeFact, pieces: Sequence[Piece], avoid: Collection[int]) -> list[Buffer] | None:
        """The bytes of each piece, verified; None if they are better read in blocks. Never fails."""
        found = self._context.cache.stripe(fact)
        if found is None and self._is_worth_it(fact, pieces, avoid):
            found = await self._fetch_once(fact, avoid)
        if found is None:
            return None
        starts = [(piece.index, FRAGMENT_HEADER + piece.offset, piece.length) for piece in pieces]
        return [memoryview(found[index])[start : start + length] for index, start, length in starts]

    def _is_worth_it(self, fact: StripeFact, pieces: Sequence[Piece], avoid: Collection[int]) -> bool:
        """A long read of what must be decoded, or one that begins where a reader in order begins."""
        room = self._context.cache.stripes.limit - SPARE
        if sum(piece.length for piece in pieces) < STREAM or fact.geometry.k * fact.fragment_length > room:
            return False
        if fact.id in self._on_their_way:
            return True
        first = pieces[0]
        from_start = first.index == first.offset == 0
        wanted = range(fact.geometry.k) if from_start else {piece.index for piece in pieces}
        away = any(self._is_away(fact, fact.slot_of(index), avoid) for index in wanted)
        return away and not any(map(self._context.hedge.is_shunned, range(fact.geometry.n)))

    def _is_away(self, fact: StripeFact, slot: int, avoid: Collection[int]) -> bool:
        context = self._context
        return slot in avoid or context.access.readable(slot) is None or context.bad.is_known(fact.id, slot)

    async def _fetch_once(self, fact: StripeFact, avoid: Collection[int]) -> Fragments | None:
        other = self._on_their_way.get(fact.id)
        if other is not None:
            await other.wait()
            return self._context.cache.stripe(fact)
        done = self._on_their_way[fact.id] = trio.Event()
        try:
            return await self._fetch(fact, avoid)
        finally:
            del self._on_their_way[fact.id]
            done.set()

    async def _fetch(self, fact: StripeFact, avoid: Collection[int]) -> Fragments | None:
        context = self._context

        def on_bad(stripe: int, slot: int, error: DriveError) -> None:
            if slot not in avoid:
                context.bad.report(stripe, slot, error)

        async with self._few:
            with trio.move_on_after(LATE * max(map(context.hedge.patience, range(fact.geometry.n)))):
                try:
                    found = await data_fragments(fact, context.access, context.pool_id, avoid=avoid, on_bad=on_bad)
                except StripeLostError:
                    return None
                context.cache.put_stripe(fact, found)
                return found
        return None
