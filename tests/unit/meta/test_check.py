"""The cross-check finds every kind of disagreement, and nothing in a sound database."""

from __future__ import annotations

import pytest

from ecfs.errors import CorruptError
from ecfs.meta import Outcome, check_steps, cross_check
from tests.unit.meta.helpers import DIRECTORY, add_directory, add_file, add_root, database, inode, row, stripe


@pytest.fixture
def db():
    """A sound pool: /d/e, /d/f (two names, inline and stripe data), /l (a symlink), an orphan."""
    with database() as db:
        add_root(db)
        d = add_directory(db, b"d")
        add_directory(db, b"e", d)
        f = add_file(db, b"f", d)
        db.names.link(1, b"f2", f)
        db.names.update_inode(f, nlink=2, size=500)
        db.files.put_extent(f, 0, 100, stripe(1), 0)
        db.files.put_extent(f, 100, 5, -db.files.add_inline(b"12345"), 0)
        orphan = db.names.new_ino()
        db.names.add_inode(inode(orphan, nlink=0))
        db.names.add_orphan(orphan)
        link = db.names.new_ino()
        db.names.add_inode(inode(link, 0o120777))
        db.names.link(1, b"l", link)
        db.names.set_symlink(link, b"d/f")
        db.freeze(1)
        db.apply_outcome(Outcome(stripes=[row(1)]), 1)
        yield db


def test_sound_database_has_no_findings(db):
    assert list(cross_check(db)) == []
    assert list(cross_check(db, chunk=1)) == []


def test_stripes_in_flight_are_no_finding(db):
    db.files.put_extent(4, 200, 10, stripe(2), 0)
    assert list(cross_check(db)) == []
    db.freeze(2)
    assert list(cross_check(db)) == []
    db.apply_outcome(Outcome(), 2)  # now its outcome is here, without the stripe
    assert list(cross_check(db)) == [f"stripe {stripe(2):016x} is referred to, but not in the database"]


DAMAGE = {
    "DELETE FROM stripe": ["not in the database"],
    "UPDATE stripe SET length = 50": ["has 50 bytes, but is referred to up to 100"],
    "UPDATE live SET bytes = 99": ["counts 99 live bytes, extents add up to 100"],
    "INSERT INTO live VALUES (77, 5)": ["counts 5 live bytes, no extent"],
    "UPDATE extent SET length = 101 WHERE offset = 0": ["live bytes", "extents overlap at 100"],
    "UPDATE extent SET length = 0 WHERE source < 0": ["impossible extent at 100"],
    "INSERT INTO extent VALUES (99, 0, 0, 5, -1, 0)": ["inode 99: has an extent"],
    "DELETE FROM inline": ["inline data 1 is referred to", "inline_bytes counts 5, is 0"],
    "UPDATE inline SET data = x'3132333436'": ["fails its checksum"],
    "DELETE FROM extent WHERE source < 0": ["inline data 1 is referred to by nothing"],
    "UPDATE inode SET nlink = 3 WHERE ino = 4": ["inode 4: link count 3, should be 2"],
    "UPDATE inode SET nlink = 9 WHERE ino = 2": ["inode 2: link count 9, should be 3"],
    "UPDATE inode SET nlink = 9 WHERE ino = 1": ["inode 1: link count 9, should be 3"],
    "UPDATE inode SET parent = 3 WHERE ino = 2": ["inode 2: its parent is 1, not 3"],
    "DELETE FROM dirent WHERE name = x'6c'": ["inode 6: no directory names it", "inode 6: link count 1, should be 0"],
    "DELETE FROM inode WHERE ino = 3": [
        "link count 3, should be 2",
        "b'e' of directory 2: no inode 3",
        "inodes counts",
    ],
    "UPDATE dirent SET parent = 4 WHERE name = x'65'": ["b'e': 4 is no directory", "its parent is 4"],
    "INSERT INTO orphan VALUES (4)": ["inode 4: named by a directory, but marked as unlinked"],
    "DELETE FROM orphan": ["inode 5: no directory names it"],
    "INSERT INTO orphan VALUES (44)": ["inode 44: in table orphan, but does not exist"],
    "INSERT INTO xattr VALUES (44, x'61', x'')": ["inode 44: in table xattr, but does not exist"],
    "DELETE FROM symlink": ["inode 6: a symlink without target"],
    "INSERT INTO symlink VALUES (4, x'61')": ["inode 4: has a symlink's target, but is none"],
    "UPDATE inode SET mode = 'x' WHERE ino = 4": ["inode 4: 'x' is no mode"],
    "UPDATE inode SET mode = -1 WHERE ino = 4": ["inode 4: -1 is no mode"],
    "UPDATE inode SET mode = 1 << 40 WHERE ino = 4": ["inode 4: 1099511627776 is no mode"],
    "UPDATE extent SET length = 'x' WHERE offset = 0": ["an extent that is no numbers"],
    "UPDATE extent SET source_offset = 'x', length = x'00' WHERE offset = 0": ["an extent that is no numbers"],
    "UPDATE inline SET data = 'abcde'": ["fails its checksum"],
    "UPDATE inode SET size = 501 WHERE ino = 4": ["file_bytes counts 500, is 501"],
}


@pytest.mark.parametrize("statement", DAMAGE)
@pytest.mark.parametrize("chunk", [1, 5000])
def test_damage_is_found(db, statement, chunk):
    db.store.run(statement)
    db.names.forget()
    findings = list(cross_check(db, chunk))
    for text in DAMAGE[statement]:
        assert any(text in finding for finding in findings), findings


@pytest.mark.parametrize("table", ["FROM inode i", "FROM dirent d"])
def test_an_index_that_leads_back_is_damage_and_not_read_for_ever(db, monkeypatch, table):
    """Found by hostile bytes: one page of an image's tree named another one before it."""
    real, seen = db.store.all, []

    def all_rows(sql, *values):
        rows = real(sql, *values)
        if table not in sql or " > " not in sql:
            return rows
        seen.append(rows)
        assert len(seen) < 100, "read for ever"
        return rows or seen[0]

    monkeypatch.setattr(db.store, "all", all_rows)
    with pytest.raises(CorruptError, match="does not ascend"):
        list(cross_check(db, 1))


def test_directories_in_a_loop_are_found(db):
    for ino, parent in ((70, 71), (71, 70)):
        db.names.add_inode(inode(ino, DIRECTORY, nlink=3, parent=parent))
        db.names.link(parent, b"loop", ino)
    assert list(cross_check(db)) == ["inode 70: does not lead to the root", "inode 71: does not lead to the root"]


def test_directory_with_two_names_is_found(db):
    db.names.link(1, b"again", 3)
    assert any("a directory with 2 names" in finding for finding in cross_check(db))


def test_check_yields_after_every_chunk_and_stands_changes_between(db):
    for number in range(50):
        add_file(db, b"x%d" % number)
    steps = check_steps(db, chunk=10)
    count = 0
    for count, findings in enumerate(steps, 1):
        assert findings == []
        ino = add_file(db, b"between%d" % count)
        db.files.put_extent(ino, 0, 5, stripe(1), 0)
        if count > 3:
            db.files.remove_file(ino)
            db.names.unlink(1, b"between%d" % count)
            db.names.remove_inode(ino)
    assert count > 15
