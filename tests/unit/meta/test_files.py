"""Extents, inline blobs and live bytes."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecfs.errors import CorruptError
from ecfs.meta import Extent, Outcome, cross_check
from ecfs.meta.files import MAX_OFFSET, spread
from ecfs.meta.store import Store
from tests.unit.meta.helpers import add_file, add_root, database, row, stripe

A, B, C = stripe(1), stripe(2), stripe(3)


@pytest.fixture
def db():
    with database() as db:
        yield db


def test_new_extent_in_the_middle_splits_the_old_one(db):
    db.files.put_extent(2, 0, 100, A, 1000)
    db.files.put_extent(2, 40, 20, B, 7)
    assert db.files.extents(2, 0, 1000) == [
        Extent(2, 0, 40, A, 1000),
        Extent(2, 40, 20, B, 7),
        Extent(2, 60, 40, A, 1060),
    ]
    assert (db.files.live(A), db.files.live(B), db.files.mapped_bytes(2)) == (80, 20, 100)


def test_new_extent_over_several_trims_both_ends_and_removes_the_middle(db):
    for number, source in enumerate((A, B, C)):
        db.files.put_extent(2, number * 10, 10, source, 0)
    db.files.put_extent(2, 5, 20, stripe(4), 0)
    found = [(each.offset, each.length, each.source_offset) for each in db.files.extents(2, 0, 99)]
    assert found == [(0, 5, 0), (5, 20, 0), (25, 5, 5)]
    assert [db.files.live(source) for source in (A, B, C)] == [5, 0, 5]


def test_same_extent_again_changes_its_source_only(db):
    db.files.put_extent(2, 0, 10, A, 0)
    db.files.put_extent(2, 0, 10, B, 5)
    assert db.files.extents(2, 0, 10) == [Extent(2, 0, 10, B, 5)]
    assert (db.files.live(A), db.files.live(B)) == (0, 10)


def test_extents_are_trimmed_to_what_is_asked(db):
    db.files.put_extent(2, 10, 10, A, 100)
    assert db.files.extents(2, 12, 15) == [Extent(2, 12, 3, A, 102)]
    assert db.files.extents(2, 0, 10) == db.files.extents(2, 20, 30) == db.files.extents(3, 0, 99) == []
    assert db.files.extents(2, 15, 15) == []


@pytest.mark.parametrize("step", [1, 4096, 1 << 17, 4 << 20, 1 << 32])
def test_keys_of_aligned_offsets_fill_the_buckets_of_a_session(step):
    # 4,000 rows of one commit in 8,192 buckets: chance would use 3,164 of them; offsets alone use one or two.
    assert len({spread(number * step) % 8192 for number in range(4000)}) > 3000


@pytest.mark.parametrize("bad", [(-1, 5, A, 0), (0, 0, A, 0), (0, 5, 0, 0), (0, 5, A, -1), (MAX_OFFSET, 5, A, 0)])
def test_impossible_extents_are_refused(db, bad):
    with pytest.raises(ValueError, match="impossible extent"):
        db.files.put_extent(2, *bad)


def test_punch_and_remove(db):
    db.files.put_extent(2, 0, 100, A, 0)
    db.files.punch(2, 10, 20)
    assert [(e.offset, e.length) for e in db.files.extents(2, 0, 100)] == [(0, 10), (20, 80)]
    db.files.punch(2, 50, None)
    assert db.files.mapped_bytes(2) == 40
    db.files.remove_file(2)
    assert (db.files.mapped_bytes(2), db.files.live(A)) == (0, 0)


@pytest.mark.parametrize("lo", [0, 1000, 1003])
def test_the_end_of_a_file_goes_at_once_however_many_pieces_it_has(db, monkeypatch, lo):
    for piece in range(1000):
        db.files.put_extent(2, piece * 10, 5, (A, B)[piece % 2], piece * 5)
    with monkeypatch.context() as patched:
        run = Mock(side_effect=Store.run, autospec=True)
        patched.setattr(Store, "run", lambda *given: run(*given))
        db.files.punch(2, lo)
    assert 0 < run.call_count < 10
    assert db.files.mapped_bytes(2) == db.files.live(A) + db.files.live(B) == lo // 20 * 10 + lo % 10
    assert all(each.end <= lo for each in db.files.extents(2, 0, 10_000))


def test_inline_blob_goes_with_its_last_extent(db):
    number = db.files.add_inline(b"0123456789")
    db.files.put_extent(2, 0, 10, -number, 0)
    db.files.punch(2, 4, 6)
    assert db.files.inline_data(number) == b"0123456789"
    assert db.files.extents_of(-number) == [Extent(2, 0, 4, -number, 0), Extent(2, 6, 4, -number, 6)]
    db.files.punch(2, 0, 4)
    assert db.files.inline_total == 10
    db.files.put_extent(2, 6, 4, A, 0)
    assert db.files.inline_total == 0
    with pytest.raises(CorruptError, match="not in"):
        db.files.inline_data(number)


def test_inline_ids_are_fresh_and_damaged_bytes_refused(db):
    first, second = db.files.add_inline(b"a"), db.files.add_inline(b"b")
    assert first != second
    db.store.run("UPDATE inline SET data = ? WHERE id = ?", b"x", first)
    with pytest.raises(CorruptError, match="checksum"):
        db.files.inline_data(first)
    assert db.files.inline_data(second) == b"b"


def test_inline_extents_come_oldest_first(db):
    numbers = [db.files.add_inline(b"12345") for _ in range(3)]
    for place, number in enumerate(reversed(numbers)):
        db.files.put_extent(2, place * 10, 5, -number, 0)
    assert [-extent.source for extent in db.files.inline_extents(2)] == numbers[:2]


def test_live_bytes_are_right_before_and_after_a_freeze(db):
    db.files.put_extent(2, 0, 100, A, 0)
    assert (db.files.live(A), db.files.live_total()) == (100, 100)
    db.freeze(1)
    db.files.punch(2, 0, 30)
    assert (db.files.live(A), db.files.live_total()) == (70, 70)
    db.freeze(2)
    assert (db.files.live(A), db.files.live_total()) == (70, 70)
    assert not db.is_dirty()


def test_the_bytes_of_a_file_in_many_pieces_are_right_after_every_change(db):
    for piece in range(300):
        db.files.put_extent(2, piece * 10, 5, A, piece * 5)
    assert db.files.mapped_bytes(2) == db.files.mapped_bytes(2) == 1500
    db.files.put_extent(2, 5, 5, A, 1500)
    assert db.files.mapped_bytes(2) == 1505
    db.files.punch(2, 0, 100)
    assert db.files.mapped_bytes(2) == 1450
    with suppress(RuntimeError), db.atomic():
        db.files.punch(2, 0, 200)
        assert db.files.mapped_bytes(2) == 1400
        raise RuntimeError
    assert db.files.mapped_bytes(2) == 1450
    db.files.remove_file(2)
    assert db.files.mapped_bytes(2) == 0


def test_dead_stripes_are_named_once(db):
    db.files.put_extent(2, 0, 100, A, 0)
    assert db.files.take_dead() == []
    db.freeze(1)
    db.files.put_extent(2, 0, 100, B, 0)
    db.freeze(2)
    assert db.files.take_dead() == [A]
    assert db.files.take_dead() == []
    assert db.store.all("SELECT stripe FROM live") == [(B,)]


def test_stripe_that_dies_before_its_commit_is_named_too(db):
    db.files.put_extent(2, 0, 100, A, 0)
    db.files.remove_file(2)
    assert db.files.take_dead() == [A]
    db.freeze(1)
    assert db.store.all("SELECT * FROM live") == []


def test_stripe_that_is_used_again_before_it_was_taken_is_not_dead(db):
    db.files.put_extent(2, 0, 10, A, 0)
    db.freeze(1)
    db.files.punch(2, 0, None)
    db.freeze(2)
    db.files.put_extent(2, 0, 10, A, 0)
    assert db.files.take_dead() == []


def test_live_bytes_below_zero_are_never_committed(db):
    db.files._shift(A, -1)
    with pytest.raises(CorruptError, match="live bytes"):
        db.freeze(1)


def test_swap_moves_the_extent_and_its_live_bytes(db):
    db.files.put_extent(2, 0, 100, A, 0)
    (before,) = db.files.extents_of(A)
    assert db.files.replace_source(before, B, 40)
    assert db.files.extents(2, 0, 100) == [Extent(2, 0, 100, B, 40)]
    assert (db.files.live(A), db.files.live(B)) == (0, 100)


def test_swap_is_refused_if_the_user_wrote_meanwhile(db):
    db.files.put_extent(2, 0, 100, A, 0)
    (before,) = db.files.extents_of(A)
    db.files.put_extent(2, 90, 10, C, 0)
    assert not db.files.replace_source(before, B, 0)
    assert (db.files.live(A), db.files.live(B)) == (90, 0)


def test_swap_out_of_an_inline_blob_deletes_it(db):
    number = db.files.add_inline(b"12345")
    db.files.put_extent(2, 0, 5, -number, 0)
    (before,) = db.files.inline_extents(9)
    assert db.files.replace_source(before, A, 0)
    assert (db.files.inline_total, db.files.live(A)) == (0, 5)


def test_emptiest_stripes_come_first(db):
    for counter, live in ((1, 900), (2, 10), (3, 500)):
        db.files.put_extent(2, counter * 1000, live, stripe(counter), 0)
    db.files.put_extent(2, 9000, 1, stripe(4), 0)  # sealed, but not committed: nothing to compact yet
    db.freeze(1)
    db.apply_outcome(Outcome(stripes=[row(1), row(2, length=20), row(3)]), 1)
    assert [(each.stripe, each.live, each.length) for each in db.files.stripes_by_liveness(9)] == [
        (B, 10, 20),
        (C, 500, 1000),
        (A, 900, 1000),
    ]
    assert [each.stripe for each in db.files.stripes_by_liveness(1, after=A, window=1)] == [B]


# ---- against a model that maps every byte by itself

Place = tuple[int, int]
FILES = st.integers(2, 3)
OFFSETS = st.integers(0, 24)
PUT = st.tuples(st.just("put"), FILES, OFFSETS, st.integers(1, 12), st.integers(1, 4), st.integers(0, 9))
INLINE = st.tuples(st.just("inline"), FILES, OFFSETS, st.integers(1, 12))
PUNCH = st.tuples(st.just("punch"), FILES, OFFSETS, st.none() | st.integers(1, 12))
FREEZE = st.tuples(st.just("freeze"))


class Model:
    """Every byte of every file by itself."""

    def __init__(self) -> None:
        self.bytes: dict[int, dict[int, Place]] = {2: {}, 3: {}}

    def put(self, ino: int, offset: int, length: int, source: int, source_offset: int) -> None:
        self.bytes[ino].update({offset + i: (source, source_offset + i) for i in range(length)})

    def punch(self, ino: int, lo: int, hi: int) -> None:
        self.bytes[ino] = {at: place for at, place in self.bytes[ino].items() if not lo <= at < hi}

    def live(self) -> Counter[int]:
        return Counter(source for places in self.bytes.values() for source, _ in places.values())


def run_step(db, model, step):
    match step:
        case ("put", ino, offset, length, counter, source_offset):
            db.files.put_extent(ino, offset, length, stripe(counter), source_offset)
            model.put(ino, offset, length, stripe(counter), source_offset)
        case ("inline", ino, offset, length):
            source = -db.files.add_inline(bytes(length))
            db.files.put_extent(ino, offset, length, source, 0)
            model.put(ino, offset, length, source, 0)
        case ("punch", ino, lo, length):
            db.files.punch(ino, lo, None if length is None else lo + length)
            model.punch(ino, lo, 1000 if length is None else lo + length)
        case _:
            db.freeze(1)


def mapped(db, ino, lo, hi):
    found = db.files.extents(ino, lo, hi)
    return {each.offset + i: (each.source, each.source_offset + i) for each in found for i in range(each.length)}


@given(st.lists(PUT | INLINE | PUNCH | FREEZE, max_size=25), OFFSETS, OFFSETS)
def test_any_history_maps_every_byte_as_a_plain_map_does(steps, lo, hi):
    model = Model()
    with database() as db:
        add_root(db)
        add_file(db, b"2")
        add_file(db, b"3")
        for step in steps:
            run_step(db, model, step)
        for ino, places in model.bytes.items():
            assert mapped(db, ino, lo, hi) == {at: place for at, place in places.items() if lo <= at < hi}
            assert db.files.mapped_bytes(ino) == len(places)
        live = model.live()
        assert all(db.files.live(stripe(counter)) == live[stripe(counter)] for counter in range(1, 5))
        assert {-number for (number,) in db.store.all("SELECT id FROM inline")} == {each for each in live if each < 0}
        assert not [finding for finding in cross_check(db) if "not in the database" not in finding]
