"""Ranges of missing stripes against plain sets of ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ecfs.meta.ranges import Masks, difference, kind_at, masks_at, segments

IDS = range(1, 31)


@st.composite
def gap_lists(draw):
    edges = sorted(draw(st.sets(st.integers(1, 30), max_size=8)))
    kinds = st.sampled_from(["missing", "unknown"])
    return [(lo, hi, draw(kinds)) for lo, hi in zip(edges[::2], edges[1::2], strict=False)]


GAPS = st.dictionaries(st.integers(0, 5), gap_lists(), max_size=4)


def plain(ranges, stripe):
    return next((kind for lo, hi, kind in ranges if lo <= stripe < hi), None)


@given(gap_lists())
def test_kind_at_every_id(ranges):
    assert [kind_at(ranges, stripe) for stripe in IDS] == [plain(ranges, stripe) for stripe in IDS]


@given(GAPS, st.integers(1, 15), st.integers(16, 31))
def test_segments_cover_all_and_agree_with_every_id(gaps, lo, hi):
    parts = list(segments(gaps, lo, hi))
    assert [stripe for part in parts for stripe in range(part.lo, part.hi)] == list(range(lo, hi))
    for part in parts:
        assert {masks_at(gaps, stripe) for stripe in range(part.lo, part.hi)} == {part.masks}


@given(gap_lists(), gap_lists())
def test_outside_the_difference_nothing_changed(before, after):
    lo, hi = difference(before, after)
    changed = [stripe for stripe in IDS if plain(before, stripe) != plain(after, stripe)]
    assert (lo, hi) == ((changed[0], changed[-1] + 1) if changed else (0, 0))


def test_known_missing_is_no_longer_unknown():
    assert Masks(0b001, 0b110).with_missing(0b010) == Masks(0b011, 0b100)
