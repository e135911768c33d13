"""What becomes unknown of a drive leaves alone what is known to be missing."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ecfs.journal.shown import with_unknown
from ecfs.meta import Gap

OLD: list[Gap] = [(5, 8, "missing"), (10, 12, "unknown"), (12, 20, "missing"), (20, 22, "missing"), (30, 40, "unknown")]


def kind(gaps: list[Gap], stripe: int) -> str | None:
    return next((kind for lo, hi, kind in gaps if lo <= stripe < hi), None)


@pytest.mark.parametrize("old", [[], OLD[:1], OLD])
def test_each_stripe_is_unknown_unless_it_is_known_to_be_missing(old: list[Gap]) -> None:
    for low in range(50):
        for high in range(50):
            new = with_unknown(old, low, high)
            for stripe in range(50):
                inside = low <= stripe < high and kind(old, stripe) != "missing"
                assert kind(new, stripe) == ("unknown" if inside else kind(old, stripe)), (low, high, stripe)
            assert all(before[1] <= after[0] for before, after in pairwise(new))
            assert all(lo < hi for lo, hi, _ in new)
