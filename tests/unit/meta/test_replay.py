"""What was frozen can be replayed, to the same state or not at all (R15)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecfs.errors import CorruptError
from ecfs.geometry import Geometry
from ecfs.meta import Database, Outcome, outcome_from_json, outcome_to_json
from ecfs.meta.recorder import Recorder, apply_patchset, prove_applied
from ecfs.meta.schema import DDL, FIRST_VALUES, SESSION_TABLES
from tests.unit.meta.helpers import GEOMETRY, add_file, add_root, database, dump, row, stripe


def frozen(change):
    """The patchset of one change to an empty database."""
    with database() as db:
        change(db)
        return db.freeze(1)


def two_commits():
    with database() as db:
        add_root(db)
        first = db.freeze(1)
        ino = add_file(db, b"f")
        db.files.put_extent(ino, 0, 9, stripe(1), 0)
        return first, db.freeze(2)


def test_replay_gives_ids_counters_and_caches_too():
    first, second = two_commits()
    with database() as db:
        db.replay(first, 1)
        assert db.names.inode(2) is None
        db.replay(second, 2)
        assert db.names.inode(2) is not None
        assert (db.names.new_ino(), db.files.live(stripe(1)), db.patch_seq) == (3, 9, 2)
        assert db.names.counts() == (2, 0)


def test_replayed_changes_are_not_recorded_again():
    first, second = two_commits()
    with database() as db:
        db.replay(first, 1)
        db.replay(second, 2)
        assert not db.is_dirty()
        assert db.freeze(3) == b""


def test_empty_patchset_moves_the_sequence_only():
    with database() as db, database() as other:
        db.replay(b"", 5)
        assert (db.patch_seq, db.outcome_seq) == (5, 0)
        assert dump(db, SESSION_TABLES) == dump(other, SESSION_TABLES)


def test_replay_backwards_is_refused():
    first, second = two_commits()
    with database() as db:
        db.replay(first, 2)
        with pytest.raises(CorruptError, match="after patchset 2"):
            db.replay(second, 1)


def test_replay_over_changes_is_a_bug():
    first, _ = two_commits()
    with database() as db:
        db.names.add_orphan(1)
        with pytest.raises(RuntimeError):
            db.replay(first, 1)


@pytest.mark.parametrize("base", ["none", "itself", "other"])
def test_patchset_of_another_state_is_refused_and_changes_nothing(base):
    first, second = two_commits()
    with database() as db:
        # SQLite finds a conflict only in the second case: the chain of digests has to tell the others.
        db.replay({"none": b"", "itself": first, "other": frozen(lambda db: db.names.add_orphan(9))}[base], 1)
        before = dump(db)
        with pytest.raises(CorruptError, match="does not fit" if base == "itself" else "another state"):
            db.replay(first if base == "itself" else second, 2)
        assert dump(db) == before
        assert not db.is_dirty()
        db.names.add_orphan(10)
        assert db.freeze(2)


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_damaged_patchset_is_refused(cut):
    first, _ = two_commits()
    with database() as db:
        before = dump(db)
        with pytest.raises(CorruptError):
            db.replay(first[:-cut], 1)
        assert dump(db) == before


@pytest.mark.parametrize("statement", ["DROP TABLE xattr", "ALTER TABLE xattr DROP COLUMN value", None])
def test_missing_table_or_column_is_noticed_though_sqlite_keeps_silent(statement):
    patchset = frozen(lambda db: db.names.set_xattr(1, b"user.a", b"b"))
    connection = apsw.Connection(":memory:")
    for sql in DDL:
        connection.execute(sql)
    connection.executemany("INSERT INTO counter VALUES (?, ?)", list(FIRST_VALUES.items()))
    if statement:
        connection.execute(statement)
    recorder = Recorder(connection)
    apply_patchset(connection, patchset)  # no error, whatever is missing
    if statement:
        with pytest.raises(CorruptError, match="something else"):
            prove_applied(patchset, recorder.patchset())
    else:
        prove_applied(patchset, recorder.patchset())
    recorder.close()
    connection.close()


def test_outcome_table_in_a_patchset_is_refused():
    connection = apsw.Connection(":memory:")
    connection.execute(next(sql for sql in DDL if sql.startswith("CREATE TABLE setting")))
    session = apsw.Session(connection, "main")
    session.attach("setting")
    connection.execute("INSERT INTO setting VALUES ('a', '1')")
    patchset = session.patchset()
    session.close()
    connection.close()
    with database() as db:
        with pytest.raises(CorruptError, match="something else"):
            db.replay(patchset, 1)
        assert db.drives.setting("a") is None


# ---- any history: patchsets and outcomes rebuild it, from nothing or from any checkpoint

NAMES = st.sampled_from([b"a", b"b", b"c"])
STEPS = st.one_of(
    st.tuples(st.just("create"), NAMES),
    st.tuples(st.just("unlink"), NAMES),
    st.tuples(st.just("rename"), NAMES, NAMES),
    st.tuples(st.just("write"), NAMES, st.integers(0, 9), st.integers(1, 9)),
    st.tuples(st.just("inline"), NAMES, st.integers(0, 9), st.integers(1, 9)),
    st.tuples(st.just("truncate"), NAMES, st.integers(0, 9)),
    st.tuples(st.just("xattr"), NAMES, st.binary(max_size=3)),
    st.tuples(st.just("failed"), NAMES),
)
COMMITS = st.lists(st.lists(STEPS, max_size=6), min_size=1, max_size=6)


class Undone(Exception):
    pass


def do(db, step, counter):
    kind, name, *rest = step
    ino = db.names.lookup(1, name)
    match kind:
        case "create" if ino is None:
            add_file(db, name)
        case "unlink" if ino is not None:
            db.names.unlink(1, name)
            db.files.remove_file(ino)
            db.names.remove_inode(ino)
        case "rename" if ino is not None and db.names.lookup(1, rest[0]) is None:
            db.names.link(1, rest[0], db.names.unlink(1, name))
        case "write" if ino is not None:
            db.files.put_extent(ino, *rest, stripe(counter), 0)
        case "inline" if ino is not None:
            db.files.put_extent(ino, *rest, -db.files.add_inline(bytes(rest[1])), 0)
        case "truncate" if ino is not None:
            db.files.punch(ino, rest[0], None)
            db.names.update_inode(ino, size=rest[0])
        case "xattr" if ino is not None:
            db.names.set_xattr(ino, b"user.x", rest[0])
        case "failed":
            add_file(db, b"never")
            raise Undone


def run(db, commits, image_at, lag, path):
    """Runs a history; returns its records, and writes an image at one commit whose newest outcomes come later."""
    records = []
    with db.atomic():
        add_root(db)
    for seq, steps in enumerate(commits, 1):
        for step in steps:
            try:
                with db.atomic():
                    do(db, step, seq)
            except Undone:
                pass
        dead = db.files.take_dead()
        patchset = db.freeze(seq)
        if seq == image_at:
            snapshot = db.snapshot()
            snapshot.copy_to(path)
            snapshot.release()
        outcome = Outcome(
            stripes=[row(seq, mask=seq % 8)] if db.files.live(stripe(seq)) else [],
            removed=[each for each in dead if db.ledger.fact(each)],
            gaps={5: [(1, stripe(seq), "unknown")]},
            settings={"seq": seq},
        )
        records.append((seq, patchset, outcome_to_json(outcome)))
        if seq > lag:  # up to `lag` outcomes are still under way when the next commit is frozen
            apply_outcome(db, records[seq - lag - 1])
    for record in records[len(records) - lag :] if lag else []:
        apply_outcome(db, record)
    return records


def apply_outcome(db, record):
    seq, _, outcome = record
    if seq > db.outcome_seq:
        db.apply_outcome(outcome_from_json(outcome), seq)


def replay(db, records):
    for record in records:
        if record[0] > db.patch_seq:
            db.replay(record[1], record[0])
        apply_outcome(db, record)


@settings(deadline=None)
@given(COMMITS, st.integers(1, 6), st.integers(0, 2))
def test_any_history_is_rebuilt_from_nothing_and_from_any_checkpoint(commits, image_at, lag):
    image_at, lag = min(image_at, len(commits)), min(lag, len(commits))
    with tempfile.TemporaryDirectory() as scratch, database() as db, database() as fresh:
        image = Path(scratch, "image")
        records = run(db, commits, image_at, lag, image)
        replay(fresh, records)
        assert dump(fresh) == dump(db)
        loaded = Database.load(Path(scratch), image)
        assert (loaded.patch_seq, loaded.outcome_seq) == (image_at, max(0, image_at - lag - 1))
        replay(loaded, records)
        assert dump(loaded) == dump(db)
        assert loaded.ledger.counts(frozenset()) == db.ledger.counts(frozenset())
        loaded.close()


def test_patchsets_of_a_history_never_name_outcome_tables():
    with tempfile.TemporaryDirectory() as scratch, database() as db:
        commits = [[("create", b"a"), ("write", b"a", 0, 5)], [("unlink", b"a")]]
        records = run(db, commits, 1, 0, Path(scratch, "image"))
        tables = {change.name for _, patchset, _ in records for change in apsw.Changeset.iter(patchset)}
        assert tables == {"inode", "dirent", "extent", "live", "counter"}


def test_base_depends_on_the_geometry_only(tmp_path):
    a, b = Database.create(tmp_path, GEOMETRY), Database.create(tmp_path, Geometry(1, 4, 2))
    assert dump(a) == dump(b)
    a.close()
    b.close()
