"""Which stripes there are and which slots lack them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecfs.geometry import stripe_id
from ecfs.meta import Outcome, StripeCounts
from ecfs.meta.types import Gap
from tests.unit.meta.helpers import HASH, database, row, stripe
from tests.unit.meta.test_ranges import gap_lists, plain

NONE: frozenset[int] = frozenset()
Gaps = dict[int, list[Gap]]


@pytest.fixture
def db():
    with database() as db:
        yield db


def test_facts_are_as_the_outcome_said(db):
    db.apply_outcome(Outcome(stripes=[row(1), row(2, length=77), row(3)]), 1)
    fact = db.ledger.fact(stripe(2))
    assert fact == (stripe(2), 1, 77, bytes.fromhex(HASH))
    assert db.ledger.fact(stripe(9)) is None
    assert [each.id for each in db.ledger.facts(stripe(1), 1)] == [stripe(2)]
    assert (db.ledger.count(), db.ledger.total_length()) == (3, 2077)


def test_missing_slots_are_explicit_ones_and_ranges(db):
    gaps: Gaps = {4: [(stripe(1), stripe(3), "unknown")], 5: [(stripe(2), stripe(9), "missing")]}
    db.apply_outcome(Outcome(stripes=[row(1, mask=0b11), row(2, mask=0b10000), row(3)], gaps=gaps), 1)
    assert [db.ledger.missing_slots(stripe(number)) for number in (1, 2, 3)] == [{0, 1, 4}, {4, 5}, {5}]
    # Slot 4 certainly lacks stripe 2: said explicitly, it is no longer unknown.
    assert [db.ledger.unknown_slots(stripe(number)) for number in (1, 2, 3)] == [{4}, NONE, NONE]
    assert db.ledger.is_missing(stripe(3), 5)
    assert not db.ledger.is_missing(stripe(3), 4)
    assert db.ledger.gaps(4) == gaps[4]
    assert db.ledger.gaps(0) == []


def test_repaired_and_removed_stripes_leave_the_ledger(db):
    db.apply_outcome(Outcome(stripes=[row(1, mask=0b11), row(2, mask=1)]), 1)
    db.apply_outcome(Outcome(present=[(stripe(1), 0)], removed=[stripe(2)]), 2)
    assert db.ledger.missing_slots(stripe(1)) == {1}
    assert db.ledger.todo(9) == [(stripe(1), {1})]
    assert db.store.all("SELECT * FROM missing") == [(stripe(1), 1)]


def test_late_news_of_a_removed_stripe_are_ignored(db):
    db.apply_outcome(Outcome(stripes=[row(1)]), 1)
    db.apply_outcome(Outcome(removed=[stripe(1)]), 2)
    db.apply_outcome(Outcome(missing=[(stripe(1), 3)]), 3)
    assert db.ledger.todo(9) == []
    assert db.store.all("SELECT * FROM missing") == []


def test_next_missing_walks_explicit_and_range_in_one_order(db):
    gaps: Gaps = {2: [(stripe(3), stripe(5), "unknown"), (stripe(6), stripe(7), "missing")]}
    db.apply_outcome(Outcome(stripes=[row(n, mask=0b100 if n in (1, 4, 8) else 0) for n in range(1, 9)], gaps=gaps), 1)
    assert db.ledger.next_missing(2, 0, 99) == [stripe(n) for n in (1, 3, 4, 6, 8)]
    assert db.ledger.next_missing(2, stripe(3), 2) == [stripe(n) for n in (4, 6)]
    assert db.ledger.next_missing(0, 0, 99) == []


def test_most_endangered_stripes_come_first(db):
    gaps: Gaps = {5: [(stripe(3), stripe(9), "missing")]}
    db.apply_outcome(Outcome(stripes=[row(1, 1), row(2, 3), row(3), row(4, 1), row(5, 7), row(9)], gaps=gaps), 1)
    assert [number & 0xFF for number, _ in db.ledger.todo(99)] == [5, 2, 4, 1, 3]
    assert db.ledger.todo(1) == [(stripe(5), {0, 1, 2, 5})]


def test_counts_name_the_worst_of_each_stripe(db):
    gaps: Gaps = {5: [(stripe(4), stripe(5), "unknown")]}
    db.apply_outcome(Outcome(stripes=[row(1), row(2, 1), row(3, 7), row(4)], gaps=gaps), 1)
    assert db.ledger.counts(NONE) == StripeCounts(total=4, full=1, missing=1, unknown=1, lost=1)
    # Drives that are out count as missing: 2 has lost three with them, 4 is no longer merely unknown.
    assert db.ledger.counts(frozenset({1, 2})) == StripeCounts(total=4, full=0, missing=2, unknown=0, lost=2)
    assert db.ledger.counts(frozenset({0, 1, 5})).lost == 4


def test_counts_respect_each_geometry(db):
    db.apply_outcome(Outcome(geometries=[(2, 8, 3, "isa_l_rs_cauchy")]), 1)
    db.apply_outcome(Outcome(stripes=[row(1, 0b111), row(2, 0b111, geometry=2)]), 2)
    assert db.ledger.counts(NONE) == StripeCounts(total=2, full=0, missing=1, unknown=0, lost=1)
    # Slot 9 exists in the second geometry only.
    assert db.ledger.counts(frozenset({9})) == StripeCounts(total=2, full=0, missing=0, unknown=0, lost=2)


def test_stripes_nobody_refers_to_are_garbage(db):
    db.files.put_extent(2, 0, 10, stripe(2), 0)
    db.freeze(1)
    db.apply_outcome(Outcome(stripes=[row(1), row(2), row(3)]), 1)
    assert db.ledger.garbage() == [stripe(1), stripe(3)]
    assert db.ledger.garbage(stripe(1), 1) == [stripe(3)]


def test_rolled_back_outcome_leaves_counts_alone(db):
    db.apply_outcome(Outcome(stripes=[row(1)]), 1)
    before = db.ledger.counts(NONE)
    with pytest.raises(OverflowError):
        db.apply_outcome(Outcome(stripes=[row(2)], gaps={1: [(1, 9, "missing")]}, epoch=(1 << 70, "", 1)), 2)
    assert db.ledger.counts(NONE) == before
    assert (db.ledger.gaps(1), db.outcome_seq) == ([], 1)


# ---- against a plain model

COUNTERS = st.integers(1, 30)
PAIRS = st.lists(st.tuples(COUNTERS, st.integers(0, 5)), max_size=4)


@st.composite
def outcomes(draw):
    lists = draw(st.dictionaries(st.integers(0, 5), gap_lists(), max_size=2))
    masks = draw(st.dictionaries(COUNTERS, st.integers(0, 63), max_size=6))
    return Outcome(
        stripes=[row(number, mask, length=number) for number, mask in masks.items()],
        removed=[stripe(number) for number in draw(st.lists(COUNTERS, max_size=2))],
        missing=[(stripe(number), slot) for number, slot in draw(PAIRS)],
        present=[(stripe(number), slot) for number, slot in draw(PAIRS)],
        gaps={slot: [(stripe(lo), stripe(hi), kind) for lo, hi, kind in gaps] for slot, gaps in lists.items()},
    )


class Model:
    def __init__(self) -> None:
        self.masks: dict[int, set[int]] = {}
        self.gaps: dict[int, list[tuple[int, int, str]]] = {}

    def apply(self, outcome):
        self.masks |= {number: {s for s in range(6) if mask >> s & 1} for number, _, _, _, mask in outcome.stripes}
        for number, slot in outcome.missing:
            self.masks.get(number, set()).add(slot)
        for number, slot in outcome.present:
            self.masks.get(number, set()).discard(slot)
        for number in outcome.removed:
            self.masks.pop(number, None)
        self.gaps |= outcome.gaps

    def lacking(self, number):
        kinds = {slot: plain(ranges, number) for slot, ranges in self.gaps.items()}
        missing = self.masks[number] | {slot for slot, kind in kinds.items() if kind == "missing"}
        return missing, {slot for slot, kind in kinds.items() if kind == "unknown"} - missing

    def counts(self, out):
        found = []
        for number in self.masks:
            missing, unknown = self.lacking(number)
            bad = len(missing | out)
            kind = "lost" if bad > 2 else "missing" if bad else "unknown" if unknown else "full"
            found.append(kind)
        return StripeCounts(len(found), *(found.count(kind) for kind in ("full", "missing", "unknown", "lost")))

    def todo(self):
        lacking = [(number, frozenset(set.union(*self.lacking(number)))) for number in self.masks]
        return sorted([item for item in lacking if item[1]], key=lambda item: (-len(item[1]), item[0]))


@settings(deadline=None)
@given(st.lists(outcomes(), max_size=6), st.integers(0, 8), st.sets(st.integers(0, 5), max_size=3), st.booleans())
def test_any_outcomes_leave_the_ledger_as_a_plain_model_has_it(history, limit, out, counted_early):
    model = Model()
    with database() as db:
        for seq, outcome in enumerate(history, 1):
            if counted_early:
                db.ledger.counts(NONE)
            db.apply_outcome(outcome, seq)
            model.apply(outcome)
        assert db.ledger.counts(frozenset(out)) == model.counts(out)
        assert db.ledger.todo(limit) == model.todo()[:limit]
        assert db.ledger.total_length() == sum(number & 0xFF for number in model.masks)
        for number in model.masks:
            assert db.ledger.unknown_slots(number) == model.lacking(number)[1]
        for slot in range(6):
            lacking = sorted(number for number in model.masks if slot in set.union(*model.lacking(number)))
            assert db.ledger.next_missing(slot, stripe(3), limit) == [n for n in lacking if n > stripe(3)][:limit]


def test_ids_of_late_epochs_are_counted(db):
    last = stripe_id((1 << 31) - 1, (1 << 32) - 1)
    db.apply_outcome(Outcome(stripes=[(last, 1, 5, HASH, 1)], gaps={3: [(1, last, "missing")]}), 1)
    assert db.ledger.todo(9) == [(last, {0})]
    assert db.ledger.counts(NONE).missing == 1


def stripes_of(gaps: list[Gap]) -> list[Gap]:
    return [(stripe(lo), stripe(hi), kind) for lo, hi, kind in gaps]


@settings(max_examples=60)
@given(gap_lists(), gap_lists(), st.dictionaries(st.integers(1, 12), st.integers(1, 63)), st.integers(1, 4))
def test_endangered_is_every_stripe_that_lacks_so_many(one, other, masks, limit):
    with database() as db:
        rows = [row(number, mask=masks.get(number, 0)) for number in range(1, 13)]
        db.apply_outcome(Outcome(stripes=rows, gaps={1: stripes_of(one), 4: stripes_of(other)}), 1)
        lacking = {stripe(number): db.ledger.missing_slots(stripe(number)) for number in range(1, 13)}
        assert db.ledger.levels() == sorted({len(slots) for slots in lacking.values()} - {0}, reverse=True)
        for asked in (frozenset({1}), frozenset({0, 4}), frozenset({2, 3, 5}), frozenset(range(6))):
            for level in db.ledger.levels():
                expected = [number for number, slots in lacking.items() if len(slots) == level and slots & asked]
                found, after = [], 0
                while page := db.ledger.endangered(level, asked, after, limit):
                    assert len(page) <= limit
                    found += page
                    after = page[-1]
                assert found == expected
