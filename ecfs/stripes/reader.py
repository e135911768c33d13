"""The door for everybody who wants payload bytes of a stripe; `reading` is what happens behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import trio

from ecfs.geometry import BLOCK_SIZE, Piece
from ecfs.shard import Buffer
from ecfs.stripes.access import DriveAccess, OnBad, ignore_bad
from ecfs.stripes.bad import BadShards
from ecfs.stripes.cache import StripeCache
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.hedge import FLOOR_S, Hedge
from ecfs.stripes.prefetch import Prefetch, Wish
from ecfs.stripes.reading import ReadContext, Reading
from ecfs.stripes.straight import read_straight
from ecfs.stripes.whole import WholeStripes

Part = tuple[int, int, int]
"""A short piece of a stripe's payload: its offset there, its length, and where it belongs in what the reader puts
together. Bytes."""


class StripeReader:
    """Reads stripes of one pool. The caller pins the stripe (`Pins`) from looking up its row to the end of the read.

    How many reads run at once, and so how much memory they take, is the caller's to bound; one read holds the blocks
    it needs, k times as many while it decodes.
    """

    def __init__(
        self,
        access: DriveAccess,
        pool_id: bytes,
        cache: StripeCache | None = None,
        on_bad: OnBad = ignore_bad,
        hedge_floor_s: float = FLOOR_S,
    ) -> None:
        self.cache = StripeCache() if cache is None else cache
        self._bad = BadShards(on_bad)
        self._decoding: dict[int, trio.Lock] = {}
        self._context = ReadContext(access, pool_id, self.cache, Hedge(access, hedge_floor_s), self._bad)
        self._prefetch = Prefetch(self._context)
        self._whole = WholeStripes(self._context)

    async def read(self, fact: StripeFact, offset: int, length: int, avoid: Collection[int] = ()) -> bytes:
        """Payload bytes [offset, offset + length) of a stripe, every one of them verified.

        avoid: slots whose shard is recorded as missing; asked only if nothing else is left.
        Raises StripeLostError, ValueError for a range outside of the stripe.
        """
        buffers = await self.read_buffers(fact, offset, length, avoid)
        if len(buffers) == 1 and isinstance(buffers[0], bytes):
            return buffers[0]
        return b"".join(buffers)

    async def read_buffers(
        self, fact: StripeFact, offset: int, length: int, avoid: Collection[int] = ()
    ) -> list[Buffer]:
        """Like `read`, as consecutive pieces that are not copied."""
        pieces = list(fact.geometry.pieces(offset, length, fact.length))
        whole = await self._whole.read(fact, pieces, avoid)
        if whole is not None:
            return whole
        straight = await read_straight(self._context, fact, pieces, avoid)
        if straight is not None:
            return straight
        return (await self._read(fact, pieces, avoid)).answer(pieces)

    async def read_parts(
        self, fact: StripeFact, parts: Sequence[Part], into: bytearray, avoid: Collection[int] = ()
    ) -> None:
        """Like `read`, for many parts of one stripe; a block is fetched and verified once, however many lie in it."""
        cuts = [list(fact.geometry.pieces(offset, length, fact.length)) for offset, length, _ in parts]
        reading = await self._read(fact, [piece for cut in cuts for piece in cut], avoid)
        for (_, length, place), cut in zip(parts, cuts, strict=True):
            into[place : place + length] = _joined(reading.answer(cut))

    async def warm(self, wishes: Sequence[Wish]) -> None:
        """Have the blocks of many short parts in the cache of verified blocks, as far as it has room and drives answer.
        What they did not is left to whoever reads it. Never fails."""
        await self._prefetch.fetch(wishes)

    def at_hand(self, fact: StripeFact, offset: int, length: int) -> bytes | None:
        """Payload bytes that lie in one block, verified a moment ago; None if they do not or it is gone."""
        index, row, start = _place(fact, offset)
        block = self.cache.block(fact, index, row)
        if block is None or start + length > len(block):
            return None
        return block[start : start + length]

    def from_cache(self, fact: StripeFact, parts: Sequence[Part], into: bytearray | None = None) -> list[Part]:
        """Copy the parts that lie in one block each, verified a moment ago, to their places in `into`.

        Returns those that do not, or are not there any more. Waits for nothing.
        """
        left: list[Part] = []
        at, block = (-1, -1), None
        for part in parts:
            offset, length, place = part
            index, row, start = _place(fact, offset)
            if at != (index, row):
                at, block = (index, row), self.cache.block(fact, index, row)
            if block is None or start + length > len(block):  # where the fragment ends, so does its last block
                left.append(part)
            elif into is not None:
                into[place : place + length] = block[start : start + length]
        return left

    async def _read(self, fact: StripeFact, pieces: Sequence[Piece], avoid: Collection[int]) -> Reading:
        reading = Reading(self._context, fact, pieces, frozenset(avoid))
        async with self._turn(fact.id, reading):
            await reading.gather()
            await reading.decode()
        return reading

    @asynccontextmanager
    async def _turn(self, stripe_id: int, reading: Reading) -> AsyncIterator[None]:
        """Who must decode does it alone: the next one finds the other shards' blocks in the cache. All at once, each
        piece of a stripe in the kernel's read-ahead would fetch the same k shards."""
        if reading.is_direct():
            yield
            return
        lock = self._decoding.setdefault(stripe_id, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._decoding.pop(stripe_id, None)

    def forget(self, stripe_id: int) -> None:
        """The stripe is being deleted, or its shards were repaired: free the cache, report anew what is bad.

        Must be called after a repair; until then the repaired shard is asked last.
        """
        self.cache.forget(stripe_id)
        self._bad.forget(stripe_id)


def _place(fact: StripeFact, offset: int) -> tuple[int, int, int]:
    """Where a byte of the payload lies: shard, block, and offset in that block."""
    index, start = divmod(offset, fact.fragment_length)
    return index, *divmod(start, BLOCK_SIZE)


def _joined(buffers: list[Buffer]) -> Buffer:
    return buffers[0] if len(buffers) == 1 else b"".join(buffers)
