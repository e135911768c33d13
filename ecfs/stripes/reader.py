"""The door for everybody who wants payload bytes of a stripe; `reading` is what happens behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import trio

from ecfs.shard import Buffer
from ecfs.stripes.access import DriveAccess, OnBad, ignore_bad
from ecfs.stripes.bad import BadShards
from ecfs.stripes.cache import StripeCache
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.hedge import FLOOR_S, Hedge
from ecfs.stripes.reading import ReadContext, Reading


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
        reading = Reading(self._context, fact, pieces, frozenset(avoid))
        async with self._turn(fact.id, reading):
            await reading.gather()
            await reading.decode()
        return reading.answer()

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
