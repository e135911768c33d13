"""Which shards reads have found bad: reported once, and no longer asked first."""

from __future__ import annotations

from ecfs.errors import DriveError
from ecfs.stripes.access import OnBad
from ecfs.stripes.cache import StripeLru

MEMORY_BYTES = 4 * 1024 * 1024
"""Some 5,000 shards; then the oldest are forgotten and may be reported again."""


class BadShards:
    """Remembers (stripe, slot) pairs, a bounded number of them."""

    def __init__(self, on_bad: OnBad, limit: int = MEMORY_BYTES) -> None:
        self._on_bad = on_bad
        self._known: StripeLru[bool] = StripeLru(limit)

    def is_known(self, stripe_id: int, slot: int) -> bool:
        """True if this shard was found bad: better ask the others first."""
        return self._known.get((stripe_id, b"", slot, 0)) is not None

    def report(self, stripe_id: int, slot: int, error: DriveError) -> None:
        """Pass on that a shard is missing or corrupt, unless that is known already."""
        if not self.is_known(stripe_id, slot):
            self._known.put((stripe_id, b"", slot, 0), True, 0)
            self._on_bad(stripe_id, slot, error)

    def forget(self, stripe_id: int) -> None:
        """Its shards were repaired, or the stripe is gone."""
        self._known.forget(stripe_id)
