"""Checkpoint images: copied by a thread while the writer goes on, from files that no longer have a name."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading

import pytest
import trio

from ecfs.errors import CorruptError
from ecfs.meta import Database, Outcome, cross_check
from tests.unit.meta.helpers import GEOMETRY, add_file, add_root, database, dump, row, stripe


@pytest.fixture
def db():
    with database() as db:
        add_root(db)
        yield db


def write_much(db, tag, count=400):
    for number in range(count):
        with db.atomic():
            ino = add_file(db, b"%s%d" % (tag, number))
            db.files.put_extent(ino, 0, 3000, -db.files.add_inline(os.urandom(3000)), 0)


def log_size(db) -> int:
    """Bytes of the write-ahead log, which has no name any more."""
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").endswith("database-wal (deleted)"):
                return os.stat(f"/proc/self/fd/{number}").st_size
        except FileNotFoundError:
            continue
    raise AssertionError("no write-ahead log is open")


def test_files_are_private_and_lose_their_names_at_once(tmp_path):
    scratch = tmp_path / "scratch"
    db = Database.create(scratch, GEOMETRY)
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert list(scratch.iterdir()) == []
    db.close()


def test_pinned_snapshot_works_after_the_unlink_while_the_writer_goes_on(db, tmp_path):
    write_much(db, b"before")
    db.freeze(1)
    expected = dump(db)
    snapshot = db.snapshot()
    for seq in range(2, 6):  # far beyond a log checkpoint
        write_much(db, b"after%d-" % seq)
        db.names.update_inode(1, size=seq)
        db.freeze(seq)
    assert snapshot.copy_to(tmp_path / "image") == (tmp_path / "image").stat().st_size
    snapshot.release()
    loaded = Database.load(tmp_path / "scratch", tmp_path / "image")
    assert dump(loaded) == expected
    assert list(cross_check(loaded)) == []
    loaded.close()


def test_image_is_one_plain_file_that_the_standard_library_opens(db, tmp_path):
    write_much(db, b"f")
    db.freeze(1)
    snapshot = db.snapshot()
    snapshot.copy_to(tmp_path / "image")
    snapshot.release()
    assert [path.name for path in tmp_path.iterdir()] == ["image"]
    assert stat.S_IMODE((tmp_path / "image").stat().st_mode) == 0o600
    connection = sqlite3.connect(f"file:{tmp_path}/image?mode=ro&immutable=1", uri=True)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*) FROM inode").fetchone() == (401,)
    connection.close()


def test_image_comes_back_from_pieces(db, tmp_path):
    write_much(db, b"f", 50)
    db.freeze(1)
    snapshot = db.snapshot()
    snapshot.copy_to(tmp_path / "image")
    snapshot.release()
    data = (tmp_path / "image").read_bytes()
    loaded = Database.load(tmp_path / "scratch", (data[at : at + 1000] for at in range(0, len(data), 1000)))
    assert dump(loaded) == dump(db)
    loaded.close()


def test_same_state_gives_the_same_bytes(db, tmp_path):
    write_much(db, b"f", 50)
    db.freeze(1)
    for name in ("a", "b"):
        snapshot = db.snapshot()
        snapshot.copy_to(tmp_path / name)
        snapshot.release()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_snapshot_is_of_the_last_freeze_not_of_what_came_after(db, tmp_path):
    db.freeze(1)
    add_file(db, b"later")
    db.apply_outcome(Outcome(stripes=[row(1)]), 1)
    snapshot = db.snapshot()
    assert (snapshot.patch_seq, snapshot.outcome_seq) == (1, 0)
    snapshot.copy_to(tmp_path / "image")
    snapshot.release()
    loaded = Database.load(tmp_path / "scratch", tmp_path / "image")
    assert (loaded.names.lookup(1, b"later"), loaded.ledger.count()) == (None, 0)
    loaded.close()


def test_one_snapshot_at_a_time(db):
    snapshot = db.snapshot()
    with pytest.raises(RuntimeError):
        db.snapshot()
    snapshot.release()
    snapshot.release()
    db.snapshot().release()


def test_existing_file_is_never_overwritten(db, tmp_path):
    (tmp_path / "image").write_text("mine")
    snapshot = db.snapshot()
    with pytest.raises(FileExistsError):
        snapshot.copy_to(tmp_path / "image")
    snapshot.release()
    assert (tmp_path / "image").read_text() == "mine"


def test_cancelled_copy_leaves_no_file(db, tmp_path):
    db.freeze(1)
    snapshot = db.snapshot()
    snapshot.cancel()
    with pytest.raises(InterruptedError):
        snapshot.copy_to(tmp_path / "image")
    snapshot.release()
    assert list(tmp_path.iterdir()) == []


def test_release_during_a_copy_is_a_bug_and_refused(db, tmp_path, monkeypatch):
    db.freeze(1)
    snapshot = db.snapshot()
    copying, go_on = threading.Event(), threading.Event()

    def copy(_target):
        copying.set()
        go_on.wait(10)

    monkeypatch.setattr(snapshot, "_copy", copy)
    thread = threading.Thread(target=snapshot.copy_to, args=(tmp_path / "image",))
    thread.start()
    copying.wait(10)
    with pytest.raises(RuntimeError):
        snapshot.release()
    go_on.set()
    thread.join()
    snapshot.release()


def test_log_shrinks_after_the_snapshot_is_released(db):
    db.freeze(1)
    snapshot = db.snapshot()
    for seq in range(2, 60):
        write_much(db, b"a%d-" % seq)
        db.freeze(seq)
    grown = log_size(db)
    snapshot.release()
    for seq in range(60, 64):
        write_much(db, b"b%d-" % seq, 40)
        db.freeze(seq)
    assert grown > 80 << 20
    assert log_size(db) <= 64 << 20


def test_log_stays_small_without_snapshots(db):
    for seq in range(1, 40):
        write_much(db, b"a%d-" % seq)
        db.freeze(seq)
    assert log_size(db) < 24 << 20


async def test_worker_thread_copies_while_the_loop_changes_everything(tmp_path):
    with database() as db:
        add_root(db)
        write_much(db, b"f", 2000)
        db.freeze(1)
        expected = dump(db)
        snapshot = db.snapshot()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, snapshot.copy_to, tmp_path / "image")
            for seq in range(2, 20):
                write_much(db, b"g%d-" % seq, 20)
                db.freeze(seq)
                await trio.lowlevel.checkpoint()
        snapshot.release()
        loaded = Database.load(tmp_path / "scratch", tmp_path / "image")
        assert dump(loaded) == expected
        loaded.close()


def test_stripes_in_the_image_keep_their_facts(db, tmp_path):
    db.files.put_extent(5, 0, 10, stripe(1), 0)
    db.freeze(1)
    db.apply_outcome(Outcome(stripes=[row(1, 2)]), 1)
    db.freeze(2)
    snapshot = db.snapshot()
    snapshot.copy_to(tmp_path / "image")
    snapshot.release()
    loaded = Database.load(tmp_path / "scratch", tmp_path / "image")
    assert loaded.ledger.missing_slots(stripe(1)) == {1}
    assert loaded.files.live(stripe(1)) == 10
    loaded.close()


def test_text_that_is_none_is_damage() -> None:
    """SQLite keeps any bytes as text; reading them must not end in an error of Python's."""
    with database() as db:
        db.store.run("INSERT INTO setting VALUES (CAST(x'ff' AS TEXT), 'null')")
        for read in (db.drives.settings, lambda: list(db.store.each("SELECT name FROM setting"))):
            with pytest.raises(CorruptError, match="text"):
                read()
        with pytest.raises(CorruptError, match="text"):
            db.store.one("SELECT name FROM setting")


def changed_image(db, tmp_path, statement, *values):
    """An image of it that somebody has changed."""
    db.freeze(1)
    snapshot = db.snapshot()
    (tmp_path / "scratch").mkdir()
    snapshot.copy_to(tmp_path / "image")
    snapshot.release()
    with sqlite3.connect(tmp_path / "image") as image:
        image.execute(statement, values)
    image.close()
    return tmp_path / "image"


@pytest.mark.parametrize(("table", "name"), [("progress", "patch_seq"), ("counter", "next_ino")])
@pytest.mark.parametrize("change", ["DELETE FROM {} WHERE name = ?", "UPDATE {} SET value = 'much' WHERE name = ?"])
def test_an_image_that_lacks_a_number_is_refused(db, tmp_path, table, name, change):
    image = changed_image(db, tmp_path, change.format(table), name)
    with pytest.raises(CorruptError, match=name):
        Database.load(tmp_path / "scratch", image)


@pytest.mark.parametrize("change", ["k = 'four'", "m = x'02'", "m = -1"])
def test_an_image_whose_geometry_is_none_is_refused(db, tmp_path, change):
    """Found by hostile bytes: every count of stripes would end in an error of Python's."""
    image = changed_image(db, tmp_path, f"UPDATE geometry SET {change}")
    with pytest.raises(CorruptError, match="geometry"):
        Database.load(tmp_path / "scratch", image)
