"""How long something took, counted in powers of two of a microsecond: cheap enough for every request.

One addition costs an index into a list of whole numbers: no lock, no label, no allocation. What is made of it,
samples for monitoring or a percentile, is worked out when somebody asks.
"""

from __future__ import annotations

from collections.abc import Sequence

BUCKETS = 28
"""The last one takes whatever is longer than 2**26 µs (67 s), which is beyond every deadline."""


class Histogram:
    """buckets[i] counts durations of at least 2**(i-1) and less than 2**i microseconds; seconds is their sum."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration, not negative."""
        self.buckets[min(int(seconds * 1e6).bit_length(), BUCKETS - 1)] += 1
        self.seconds += seconds

    @property
    def count(self) -> int:
        return sum(self.buckets)


def bound(bucket: int) -> float:
    """Seconds that nothing in the bucket reaches."""
    return float((1 << bucket) / 1e6)


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Seconds that `share` (0 to 1) of the durations did not exceed, interpolated in its bucket; None without any.

    buckets: of a Histogram, or the difference of two of its moments.
    """
    wanted, seen = share * sum(buckets), 0
    for bucket, count in enumerate(buckets):
        if count and seen + count >= wanted:
            below = bound(bucket - 1) if bucket else 0.0
            return below + (bound(bucket) - below) * (wanted - seen) / count
        seen += count
    return None
