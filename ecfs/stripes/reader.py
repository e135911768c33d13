"""The door for everybody who wants payload bytes of a stripe; `reading` is what happens behind it."""

from __future__ import annotations

from collections.abc import Collection

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
        self._context = ReadContext(access, pool_id, self.cache, Hedge(access, hedge_floor_s), self._bad)

    async def read(self, fact: StripeFact, offset: int, length: int, avoid: Collection[int] = ()) -> bytes:
        """Payload bytes [offset, offset + length) of a stripe, every one of them verified.

        avoid: slots whose shard is recorded as missing; asked only if nothing else is left.
        Raises StripeLostError, ValueError for a range outside of the stripe.
        """
        return b"".join(await self.read_buffers(fact, offset, length, avoid))

    async def read_buffers(
        self, fact: StripeFact, offset: int, length: int, avoid: Collection[int] = ()
    ) -> list[Buffer]:
        """Like `read`, as consecutive pieces that are not copied."""
        pieces = list(fact.geometry.pieces(offset, length, fact.length))
        reading = Reading(self._context, fact, pieces, frozenset(avoid))
        await reading.gather()
        await reading.decode()
        return [buffer for piece in pieces for buffer in reading.cut(piece)]

    def forget(self, stripe_id: int) -> None:
        """The stripe is being deleted, or its shards were repaired: free the cache, report anew what is bad.

        Must be called after a repair; until then the repaired shard is asked last.
        """
        self.cache.forget(stripe_id)
        self._bad.forget(stripe_id)
