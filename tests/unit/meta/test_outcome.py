"""Outcome sections: strict bytes, applied once however often (R4)."""

from __future__ import annotations

import json

import pytest

from ecfs.errors import CorruptError
from ecfs.geometry import Geometry, stripe_id
from ecfs.meta import DriveRow, Outcome, outcome_from_json, outcome_to_json
from tests.unit.meta.helpers import GEOMETRY, HASH, database, dump, row, stripe

DRIVE = DriveRow(
    3, "aa" * 16, "/drives/d3", "online", True, {"mount": "/", "depth": 1}, 4, 55, "", 1_700_000_000_000_000_000
)
FULL = Outcome(
    stripes=[row(1, 5), row(2)],
    removed=[stripe(9)],
    missing=[(stripe(2), 4)],
    present=[(stripe(1), 0)],
    gaps={2: [(1, stripe(5), "missing"), (stripe(5), stripe(6), "unknown")]},
    drives=[DRIVE],
    retired=[("bb" * 16, 3)],
    epoch=(4, "cc" * 16, 50),
    geometries=[(2, 8, 3, "isa_l_rs_cauchy")],
    settings={"stripe": 4 << 20, "deadlines": {"node": 2.0}, "old": None},
    orphan_shards={2: ["s/00000001/00000007"]},
)


def test_json_is_plain_and_comes_back():
    data = outcome_to_json(FULL)
    assert outcome_from_json(data) == FULL
    plain = json.loads(data)
    assert plain["stripes"][0] == [stripe(1), 1, 1000, HASH, 5]
    assert plain["gaps"]["2"][0] == [1, stripe(5), "missing"]
    assert outcome_to_json(Outcome()) == b"{}"


def test_applying_twice_is_applying_once():
    with database() as db:
        db.apply_outcome(outcome_from_json(outcome_to_json(FULL)), 7)
        once, counts = dump(db), db.ledger.counts(frozenset())
        db.apply_outcome(FULL, 7)
        assert dump(db) == once
        assert db.ledger.counts(frozenset()) == counts
        assert (db.outcome_seq, db.patch_seq, db.is_dirty()) == (7, 0, False)


def test_outcomes_never_go_back():
    with database() as db:
        db.apply_outcome(FULL, 7)
        with pytest.raises(CorruptError, match="after outcome 7"):
            db.apply_outcome(FULL, 6)


def test_everything_arrives():
    with database() as db:
        db.apply_outcome(Outcome(settings={"old": 1}), 1)
        db.apply_outcome(FULL, 2)
        assert db.drives.rows() == [DRIVE]
        assert db.drives.row(3) == DRIVE
        assert db.drives.row(4) is None
        assert db.drives.is_retired("bb" * 16)
        assert not db.drives.is_retired(DRIVE.drive_id)
        assert (db.drives.epoch_nonce(4), db.drives.epoch_nonce(3)) == ("cc" * 16, None)
        assert db.drives.epochs() == [(4, "cc" * 16, 50)]
        assert db.drives.settings() == {"stripe": 4 << 20, "deadlines": {"node": 2.0}}
        assert (db.drives.setting("stripe"), db.drives.setting("old")) == (4 << 20, None)
        assert db.drives.orphan_shards(2) == ["s/00000001/00000007"]


def test_geometries_are_kept_and_the_newest_is_for_new_stripes():
    with database() as db:
        assert (db.drives.geometry(), db.drives.code(1)) == (GEOMETRY, "isa_l_rs_cauchy")
        db.apply_outcome(FULL, 1)
        assert db.drives.geometry() == Geometry(2, 8, 3)
        assert db.drives.geometries() == {1: GEOMETRY, 2: Geometry(2, 8, 3)}


def test_lists_replace_what_the_slot_had():
    with database() as db:
        db.apply_outcome(FULL, 1)
        db.apply_outcome(Outcome(orphan_shards={2: []}, gaps={2: []}, drives=[DriveRow(3, "dd", "u", "joining")]), 2)
        assert not db.drives.orphan_shards(2)
        assert not db.ledger.gaps(2)
        assert [drive.drive_id for drive in db.drives.rows()] == ["dd"]


def test_epochs_with_stripes_are_found_without_a_scan():
    with database() as db:
        assert db.drives.epochs_with_stripes() == []
        rows = [(stripe_id(epoch, counter), 1, 5, HASH, 0) for epoch in (2, 7, 70_000) for counter in (0, 9)]
        db.apply_outcome(Outcome(stripes=rows), 1)
        assert db.drives.epochs_with_stripes() == [2, 7, 70_000]


BAD = [
    b"",
    b"[]",
    b"{",
    b"\xff",
    b'{"stripes": 1}',
    b'{"unheard": 1}',
    b'{"stripes": [[1, 1, 5, "ab", 0]]}',
    b'{"stripes": [[1, 1, 5, "%s", 4294967296]]}' % HASH.encode(),
    b'{"stripes": [[1, 1, 5, "%s", 0, 0]]}' % HASH.encode(),
    b'{"stripes": [[1, 1, 5, "%s", 0]]}' % HASH.upper().encode(),
    b'{"stripes": [[0, 1, 5, "%s", 0]]}' % HASH.encode(),
    b'{"stripes": [["1", 1, 5, "%s", 0]]}' % HASH.encode(),
    b'{"removed": [-1]}',
    b'{"removed": [9223372036854775808]}',
    b'{"removed": [1.5]}',
    b'{"missing": [[1, 32]]}',
    b'{"missing": [[1]]}',
    b'{"gaps": {"x": []}}',
    b'{"gaps": {"32": []}}',
    b'{"gaps": {"1": [[5, 5, "missing"]]}}',
    b'{"gaps": {"1": [[1, 5, "lost"]]}}',
    b'{"gaps": {"1": [[1, 5, "missing"], [4, 9, "unknown"]]}}',
    b'{"geometries": [[1, 2, 2, "x"]]}',
    b'{"drives": [{"slot": 1}]}',
    b'{"epoch": [1, "a"]}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_anything_else_is_refused(data):
    with pytest.raises(CorruptError, match="outcome"):
        outcome_from_json(data)


def test_impossible_outcome_never_becomes_bytes():
    with pytest.raises(CorruptError):
        outcome_to_json(Outcome(gaps={1: [(9, 1, "missing")]}))
    with database() as db, pytest.raises(CorruptError):
        db.apply_outcome(Outcome(gaps={1: [(9, 1, "missing")]}), 1)


def test_a_stripe_of_a_geometry_that_nobody_defined_is_refused():
    with database() as db:
        with pytest.raises(CorruptError, match="nobody defined"):
            db.apply_outcome(Outcome(stripes=[row(1, geometry=9)]), 1)
        assert db.ledger.counts(frozenset()).total == 0
