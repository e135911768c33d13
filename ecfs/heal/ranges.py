"""Moving the ends of ranges of missing shards past what was settled (R18). Pure, over the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ecfs.meta import Gap
from ecfs.meta.ledger import Ledger


def moved(ledger: Ledger, slot: int, settled: Iterable[int]) -> list[Gap] | None:
    """The slot's ranges without the stripes `settled`; None if that changes nothing.

    Ids between two of them that no committed stripe has need no range, so that settling stripes in order moves the
    lower end and splits nothing.
    """
    before = ledger.gaps(slot)
    numbers = sorted(settled)
    after = [part for gap in before for part in _without(ledger, slot, gap, numbers)]
    return None if after == before else after


def _without(ledger: Ledger, slot: int, gap: Gap, settled: list[int]) -> Iterator[Gap]:
    lo, hi, kind = gap
    inside = [stripe for stripe in settled if lo <= stripe < hi]
    if not inside:
        yield gap
        return
    for stripe in inside:
        first = _first(ledger, slot, lo)
        if first is not None and first < stripe:
            yield (first, stripe, kind)
        lo = stripe + 1
    first = _first(ledger, slot, lo)
    if first is not None and first < hi:
        yield (lo, hi, kind)


def _first(ledger: Ledger, slot: int, lo: int) -> int | None:
    """The first committed stripe from `lo` on that the slot lacks."""
    return next(iter(ledger.next_missing(slot, lo - 1, 1)), None)
