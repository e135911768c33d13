"""Pins keep a stripe's shards from being deleted while somebody reads them (R13).

Pin in the same step, without an await between, in which the stripe's row was looked up; else the stripe can die
between the two. Reads, scrub, drill and compactor pin; deletion waits for its commit and for the last pin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Pins:
    """Counts who uses which stripe. As many entries as stripes are in use right now."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._waiting: dict[int, trio.Event] = {}

    @contextmanager
    def pin(self, stripe_id: int) -> Iterator[None]:
        """Keep the stripe until the block is left. May be nested and shared."""
        self._counts[stripe_id] += 1
        try:
            yield
        finally:
            self._unpin(stripe_id)

    def _unpin(self, stripe_id: int) -> None:
        self._counts[stripe_id] -= 1
        if not self._counts[stripe_id]:
            del self._counts[stripe_id]
            if stripe_id in self._waiting:
                self._waiting.pop(stripe_id).set()

    def is_pinned(self, stripe_id: int) -> bool:
        return stripe_id in self._counts

    async def wait_unpinned(self, stripe_id: int) -> None:
        """Return when nobody has the stripe pinned; that then holds until the caller's next await.

        No checkpoint when it is free already. A dead stripe can't be pinned anew, so the wait ends.
        """
        while self.is_pinned(stripe_id):
            await self._waiting.setdefault(stripe_id, trio.Event()).wait()
