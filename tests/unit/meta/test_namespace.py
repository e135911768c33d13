"""Names, inodes, symlinks, xattrs and orphans."""

from __future__ import annotations

import pytest

from ecfs.meta.namespace import Namespace
from tests.unit.meta.helpers import DIRECTORY, add_directory, add_file, add_root, database, inode


@pytest.fixture
def db():
    with database() as db:
        add_root(db)
        yield db


def test_inode_is_as_added_with_or_without_cache(db):
    db.names.add_inode(inode(9, size=5))
    cached = db.names.inode(9)
    db.names.forget()
    assert db.names.inode(9) == cached == inode(9, size=5)
    assert db.names.inode(10) is None


def test_update_sets_only_what_is_named(db):
    db.names.add_inode(inode(9))
    assert db.names.update_inode(9, size=3, mtime_ns=4).size == 3
    db.names.forget()
    found = db.names.inode(9)
    assert found is not None
    assert (found.size, found.mtime_ns, found.ctime_ns) == (3, 4, 30)


def test_update_to_the_same_is_no_change(db):
    db.names.add_inode(inode(9))
    db.freeze(1)
    db.names.update_inode(9, size=0)
    assert not db.is_dirty()


def test_update_refuses_unknown_columns_and_missing_inodes(db):
    with pytest.raises(ValueError, match="color"):
        db.names.update_inode(1, color=2)
    with pytest.raises(KeyError):
        db.names.update_inode(77, size=1)
    with pytest.raises(KeyError):
        db.names.remove_inode(77)


def test_new_numbers_never_repeat_even_after_removal(db):
    first = add_file(db, b"a")
    db.names.unlink(1, b"a")
    db.names.remove_inode(first)
    assert add_file(db, b"a") > first > 1


def test_remove_takes_target_xattrs_and_orphan_mark_along(db):
    ino = add_file(db, b"a")
    db.names.set_symlink(ino, b"t")
    db.names.set_xattr(ino, b"user.a", b"1")
    db.names.add_orphan(ino)
    db.names.remove_inode(ino)
    assert (db.names.get_symlink(ino), db.names.list_xattrs(ino), db.names.orphans()) == (None, [], [])


def test_counts_follow_without_a_scan(db):
    ino = add_file(db, b"a")
    db.names.update_inode(ino, size=500)
    assert db.names.counts() == (2, 500)
    db.names.remove_inode(ino)
    assert db.names.counts() == (1, 0)


def test_lookup_link_unlink(db):
    ino = add_file(db, b"\xff not utf-8")
    assert db.names.lookup(1, b"\xff not utf-8") == ino
    assert db.names.lookup(ino, b"\xff not utf-8") is None
    assert not db.names.is_empty(1)
    assert db.names.unlink(1, b"\xff not utf-8") == ino
    assert db.names.lookup(1, b"\xff not utf-8") is None
    assert db.names.is_empty(1)
    with pytest.raises(KeyError):
        db.names.unlink(1, b"\xff not utf-8")


def test_replaced_entry_keeps_its_cookie(db):
    a = add_file(db, b"a")
    b = add_file(db, b"b")
    before = db.names.entries(1, 0, 10)
    assert db.names.replace_entry(1, b"a", b) == a
    assert db.names.entries(1, 0, 10) == [(before[0][0], b"a", b), before[1]]
    with pytest.raises(KeyError):
        db.names.replace_entry(1, b"c", b)


def test_listing_in_pieces_while_names_come_and_go_shows_each_survivor_once(db):
    names = [b"f%d" % number for number in range(20)]
    for name in names:
        add_file(db, name)
    first = db.names.entries(1, 0, 7)
    db.names.unlink(1, names[3])  # behind the reader
    db.names.unlink(1, names[10])  # before it
    add_file(db, b"new")
    rest = db.names.entries(1, first[-1][0], 100)
    assert [name for _, name, _ in first + rest] == [name for name in names if name != names[10]] + [b"new"]
    assert first[0][0] > 2  # cookies 1 and 2 are left for "." and ".."


def test_listing_with_inodes_agrees_with_both(db):
    add_directory(db, b"d")
    add_file(db, b"f")
    for cookie, name, found in db.names.entries_with_inodes(1, 0, 10):
        assert (cookie, name, found.ino) in db.names.entries(1, 0, 10)
        assert found == db.names.inode(found.ino)


def test_path_of_names_a_file_through_its_directories(db):
    a = add_directory(db, b"a")
    b = add_directory(db, b"b", a)
    assert db.names.path_of(add_file(db, b"f", b)) == b"/a/b/f"
    assert db.names.path_of(1) == b"/"
    assert db.names.path_of(999) is None


def test_path_of_a_directory_loop_ends(db):
    db.names.add_inode(inode(50, DIRECTORY))
    db.names.link(50, b"self", 50)
    assert db.names.path_of(50) is None


def test_xattrs(db):
    db.names.set_xattr(1, b"user.b", b"1")
    db.names.set_xattr(1, b"user.a", b"")
    db.names.set_xattr(1, b"user.b", b"2")
    assert db.names.list_xattrs(1) == [b"user.a", b"user.b"]
    assert (db.names.get_xattr(1, b"user.b"), db.names.get_xattr(1, b"user.a")) == (b"2", b"")
    assert db.names.remove_xattr(1, b"user.b")
    assert not db.names.remove_xattr(1, b"user.b")
    assert db.names.get_xattr(1, b"user.b") is None


def test_symlink_target(db):
    db.names.set_symlink(5, b"../x\xff")
    assert db.names.get_symlink(5) == b"../x\xff"
    assert db.names.get_symlink(6) is None


def test_orphans_may_be_marked_twice(db):
    db.names.add_orphan(7)
    db.names.add_orphan(7)
    assert db.names.orphans() == [7]
    db.names.remove_orphan(7)
    assert db.names.orphans() == []


def test_cache_is_bounded_and_still_right(db):
    names = Namespace(db.store, db.counters, cache_limit=3)
    for ino in range(10, 20):
        names.add_inode(inode(ino, size=ino))
    for ino in range(10, 20):
        found = names.inode(ino)
        assert found is not None
        assert found.size == ino
    assert 0 < len(names._cache) <= 3
