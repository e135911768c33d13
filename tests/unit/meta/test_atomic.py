"""One operation: all of it or nothing, in the tables, in memory and in the patchset."""

from __future__ import annotations

import apsw
import pytest

from ecfs.errors import CorruptError, EcfsError, PoolFullError
from ecfs.meta import Database
from tests.unit.meta.helpers import add_file, add_root, database, dump, inode, stripe


class Oops(Exception):
    pass


@pytest.fixture
def db():
    with database() as db:
        with db.atomic():
            add_root(db)
            ino = add_file(db, b"kept")
            db.files.put_extent(ino, 0, 100, stripe(1), 0)
            db.files.put_extent(ino, 100, 5, -db.files.add_inline(b"hello"), 0)
        db.freeze(1)
        yield db


def change_everything(db, then=None):
    db.names.update_inode(2, size=77)
    assert db.names.unlink(1, b"kept") == 2
    db.files.put_extent(2, 50, 100, stripe(2), 0)  # frees the inline blob too
    db.files.add_inline(b"more")
    db.names.set_xattr(2, b"user.a", b"b")
    db.names.add_inode(inode(db.names.new_ino(), size=5))
    db.names.remove_inode(2)
    if then:
        raise then


def test_rolled_back_operation_leaves_no_trace(db):
    before = dump(db)
    memory = (db.files.live(stripe(1)), db.files.live(stripe(2)), db.files.inline_total, db.names.counts())
    with pytest.raises(Oops), db.atomic():
        change_everything(db, Oops)
    assert dump(db) == before
    assert memory == (db.files.live(stripe(1)), db.files.live(stripe(2)), db.files.inline_total, db.names.counts())
    assert db.names.inode(2) == inode(2)
    assert db.files.take_dead() == []


def test_session_records_nothing_of_a_rolled_back_operation(db):
    ids = db.counters["next_ino"], db.counters["next_blob"]
    with pytest.raises(Oops), db.atomic():
        change_everything(db, Oops)
    with db.atomic():
        db.names.update_inode(1, mtime_ns=99)
    changes = [(each.name, each.op) for each in apsw.Changeset.iter(db.freeze(2))]
    # Ids are not given out twice even so: someone may have seen them.
    assert (db.counters["next_ino"], db.counters["next_blob"]) > ids
    assert changes == [("inode", "UPDATE")] + [("counter", "UPDATE")] * 3


def write_and_fail(db):
    db.files.put_extent(2, 505, 10, stripe(4), 0)
    db.names.update_inode(2, size=1)
    raise Oops


def test_nested_rollback_keeps_what_the_outer_operation_did(db):
    with db.atomic():
        db.files.put_extent(2, 500, 10, stripe(3), 0)
        with pytest.raises(Oops), db.atomic():
            write_and_fail(db)
        db.names.update_inode(2, mtime_ns=5)
    assert (db.files.live(stripe(3)), db.files.live(stripe(4))) == (10, 0)
    found = db.names.inode(2)
    assert found is not None
    assert (found.size, found.mtime_ns) == (0, 5)


def change_inside(db):
    with db.atomic():
        change_everything(db)
    raise Oops


def test_outer_rollback_undoes_a_finished_inner_operation(db):
    before = dump(db)
    with pytest.raises(Oops), db.atomic():
        change_inside(db)
    assert dump(db) == before
    assert db.files.live(stripe(1)) == 100
    assert not db.files.has_pending


def link_a_taken_name(db):
    db.names.update_inode(2, size=9)
    db.names.link(1, b"kept", 2)


def test_sqlite_error_becomes_ours_and_rolls_back(db):
    with pytest.raises(EcfsError, match="UNIQUE"), db.atomic():
        link_a_taken_name(db)
    assert db.names.inode(2) == inode(2)


def test_full_scratch_loses_the_transaction_and_everything_is_refused_from_then_on(db):
    db.names.update_inode(2, size=5)  # answered, not frozen: SQLite gives it up with the rest
    db.store.run(f"PRAGMA max_page_count = {db.store.value('PRAGMA page_count')}")
    with pytest.raises(PoolFullError, match="scratch"), db.atomic():
        db.files.add_inline(bytes(1 << 20))
    for refused in (lambda: db.freeze(2), lambda: db.names.lookup(1, b"kept"), lambda: db.atomic().__enter__()):
        with pytest.raises(CorruptError, match="remount"):
            refused()


@pytest.mark.parametrize("call", [Database.freeze, lambda db, _: db.files.take_dead(), lambda db, _: db.replay(b"", 2)])
def test_no_freeze_inside_an_operation(db, call):
    with pytest.raises(RuntimeError), db.atomic():
        call(db, 2)


def test_freeze_that_cannot_commit_says_so_and_nothing_is_served_any_more(db):
    db.names.update_inode(2, size=5)
    db.store.connection.execute("ROLLBACK")
    with pytest.raises(EcfsError):
        db.freeze(2)
    with pytest.raises(CorruptError, match="remount"):
        db.names.lookup(1, b"kept")


def test_size_of_the_running_commit_is_known_before_the_freeze(db):
    assert (db.changes, db.patchset_estimate()) == (0, 0)
    for number in range(50):
        db.names.set_xattr(2, b"user.%d" % number, bytes(1000))
    assert db.changes == 50
    assert 50_000 < len(db.freeze(2)) <= 55_000
    assert (db.changes, db.patchset_estimate()) == (0, 0)


def test_estimate_is_an_upper_limit(db):
    db.names.set_xattr(2, b"user.a", bytes(5000))
    db.names.set_xattr(2, b"user.a", bytes(10))
    estimate = db.patchset_estimate()
    assert len(db.freeze(2)) <= estimate + 100  # the counters are written by the freeze itself


def count_and_fail(db):
    db.counters.set("stripe_counter", 7)
    write_and_fail(db)


def test_counter_that_was_set_is_committed_even_if_the_operation_failed(db):
    with pytest.raises(Oops), db.atomic():
        count_and_fail(db)
    db.freeze(2)
    db.counters.reload()
    assert db.counters["stripe_counter"] == 7
    with pytest.raises(KeyError):
        db.counters.set("unheard", 1)
