"""Ranges of stripe ids that a slot lacks (R18): pure arithmetic, so that a million missing shards cost one row."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from ecfs.meta.types import Gap

Gaps = Mapping[int, list[Gap]]
"""Per slot its ranges, ascending, not overlapping."""

MAX_ID = 1 << 63


class Masks(NamedTuple):
    """Slots as bits: those that certainly lack a shard, and those of which it is not known."""

    missing: int = 0
    unknown: int = 0

    def with_missing(self, mask: int) -> Masks:
        """The same with more slots known to be missing; what is known is not unknown."""
        return Masks(self.missing | mask, self.unknown & ~(self.missing | mask))


class Segment(NamedTuple):
    """Stripe ids [lo, hi) over which the same slots have gaps."""

    lo: int
    hi: int
    masks: Masks


def kind_at(ranges: list[Gap], stripe: int) -> str | None:
    """The kind of the range that covers a stripe id."""
    at = bisect_right(ranges, stripe, key=lambda gap: gap[0]) - 1
    return ranges[at][2] if at >= 0 and stripe < ranges[at][1] else None


def masks_at(gaps: Gaps, stripe: int) -> Masks:
    """Which slots have a gap at a stripe id."""
    missing = unknown = 0
    for slot, ranges in gaps.items():
        kind = kind_at(ranges, stripe)
        missing |= (kind == "missing") << slot
        unknown |= (kind == "unknown") << slot
    return Masks(missing, unknown)


def segments(gaps: Gaps, lo: int = 0, hi: int = MAX_ID) -> Iterator[Segment]:
    """Cuts [lo, hi) where any slot's gaps begin or end; in order, covering all of it."""
    cuts = {lo, hi}
    for ranges in gaps.values():
        cuts.update(edge for gap in ranges for edge in gap[:2] if lo < edge < hi)
    edges = sorted(cuts)
    for start, end in pairwise(edges):
        yield Segment(start, end, masks_at(gaps, start))


def difference(before: list[Gap], after: list[Gap]) -> tuple[int, int]:
    """The smallest [lo, hi) outside which two lists of one slot say the same; (0, 0) if they do everywhere.

    Small while a rebuild moves the lower end of a range, so that counters follow without a scan.
    """
    edges = sorted({edge for gap in before + after for edge in gap[:2]})
    pairs = pairwise(edges)
    changed = [(lo, hi) for lo, hi in pairs if kind_at(before, lo) != kind_at(after, lo)]
    return (changed[0][0], changed[-1][1]) if changed else (0, 0)
