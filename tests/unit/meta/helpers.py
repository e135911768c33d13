"""Small databases, and what is in them."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecfs.geometry import Geometry, stripe_id
from ecfs.meta import Database, Inode
from ecfs.meta.schema import OUTCOME_TABLES, SESSION_TABLES

GEOMETRY = Geometry(1, 4, 2)
HASH = "ab" * 32
FILE = stat.S_IFREG | 0o644
DIRECTORY = stat.S_IFDIR | 0o755
Dump = dict[str, list[tuple[object, ...]]]


def stripe(counter: int) -> int:
    return stripe_id(1, counter)


def row(counter: int, mask: int = 0, length: int = 1000, geometry: int = 1) -> tuple[int, int, int, str, int]:
    """A stripe as an outcome names it."""
    return (stripe(counter), geometry, length, HASH, mask)


def inode(ino: int, mode: int = FILE, nlink: int = 1, size: int = 0, parent: int = 0) -> Inode:
    return Inode(ino, mode, 1000, 1000, nlink, size, 0, 10, 20, 30, parent, 0)


@contextmanager
def database() -> Iterator[Database]:
    """A new database without anything in it."""
    with tempfile.TemporaryDirectory() as scratch:
        db = Database.create(Path(scratch), GEOMETRY)
        yield db
        db.close()


def add_root(db: Database) -> None:
    db.names.add_inode(inode(1, DIRECTORY, nlink=2, parent=1))


def add_file(db: Database, name: bytes, parent: int = 1) -> int:
    ino = db.names.new_ino()
    db.names.add_inode(inode(ino))
    db.names.link(parent, name, ino)
    return ino


def add_directory(db: Database, name: bytes, parent: int = 1) -> int:
    ino = db.names.new_ino()
    db.names.add_inode(inode(ino, DIRECTORY, nlink=2, parent=parent))
    db.names.link(parent, name, ino)
    above = db.names.inode(parent)
    assert above is not None
    db.names.update_inode(parent, nlink=above.nlink + 1)
    return ino


def dump(db: Database, tables: tuple[str, ...] = SESSION_TABLES + OUTCOME_TABLES) -> Dump:
    """All rows of some tables, sorted. `progress` as the database says it: its table follows at the next freeze."""
    rows = {table: sorted(db.store.all(f"SELECT * FROM {table}")) for table in tables}
    if "progress" in rows:
        rows["progress"] = [("outcome_seq", db.outcome_seq), ("patch_seq", db.patch_seq)]
    return rows
