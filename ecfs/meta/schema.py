"""The tables, their hash, and the proof that a database has exactly these.

Two kinds of tables, and no change ever touches both in one way (R4):

* session tables are recorded by the SQLite session and travel as patchsets. Each has an explicit NOT NULL primary key
  that is never updated; no triggers, foreign keys, generated columns, AUTOINCREMENT (R15). Without that a session
  silently leaves changes out.
* outcome tables are changed only by outcome sections, so that what a record says about lost shards can be composed
  after its patchset was taken.
"""

from __future__ import annotations

import functools
import hashlib

from ecfs.errors import CorruptError
from ecfs.meta.store import Store

SCHEMA_VERSION = 1
APPLICATION_ID = 0x65636673
"""``ecfs``, in the header of every image, so that file(1) and a rescuer know what it is."""

SESSION_DDL = (
    """CREATE TABLE inode (ino INTEGER NOT NULL PRIMARY KEY, mode INTEGER NOT NULL, uid INTEGER NOT NULL,
        gid INTEGER NOT NULL, nlink INTEGER NOT NULL, size INTEGER NOT NULL, rdev INTEGER NOT NULL,
        atime_ns INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
        parent INTEGER NOT NULL, flags INTEGER NOT NULL)""",
    """CREATE TABLE dirent (parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL,
        cookie INTEGER NOT NULL, PRIMARY KEY (parent, name)) WITHOUT ROWID""",
    "CREATE TABLE symlink (ino INTEGER NOT NULL PRIMARY KEY, target BLOB NOT NULL)",
    """CREATE TABLE xattr (ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (ino, name)) WITHOUT ROWID""",
    "CREATE TABLE orphan (ino INTEGER NOT NULL PRIMARY KEY)",
    """CREATE TABLE extent (ino INTEGER NOT NULL, offset INTEGER NOT NULL, spread INTEGER NOT NULL,
        length INTEGER NOT NULL, source INTEGER NOT NULL, source_offset INTEGER NOT NULL,
        PRIMARY KEY (ino, offset, spread)) WITHOUT ROWID""",
    "CREATE TABLE inline (id INTEGER NOT NULL PRIMARY KEY, crc INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE live (stripe INTEGER NOT NULL PRIMARY KEY, bytes INTEGER NOT NULL)",
    "CREATE TABLE counter (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)

OUTCOME_DDL = (
    """CREATE TABLE stripe (id INTEGER NOT NULL PRIMARY KEY, geometry INTEGER NOT NULL, length INTEGER NOT NULL,
        hash BLOB NOT NULL)""",
    """CREATE TABLE missing (stripe INTEGER NOT NULL, slot INTEGER NOT NULL,
        PRIMARY KEY (stripe, slot)) WITHOUT ROWID""",
    """CREATE TABLE gap (slot INTEGER NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL, kind TEXT NOT NULL,
        PRIMARY KEY (slot, lo)) WITHOUT ROWID""",
    """CREATE TABLE drive (slot INTEGER NOT NULL PRIMARY KEY, drive_id TEXT NOT NULL, url TEXT NOT NULL,
        state TEXT NOT NULL, in_w INTEGER NOT NULL, location TEXT NOT NULL, confirmed_epoch INTEGER NOT NULL,
        confirmed_seq INTEGER NOT NULL, reason TEXT NOT NULL, since_ns INTEGER NOT NULL)""",
    """CREATE TABLE retired (drive_id TEXT NOT NULL PRIMARY KEY, slot INTEGER NOT NULL,
        epoch INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE TABLE epoch (epoch INTEGER NOT NULL PRIMARY KEY, nonce TEXT NOT NULL, first_seq INTEGER NOT NULL)",
    """CREATE TABLE geometry (id INTEGER NOT NULL PRIMARY KEY, k INTEGER NOT NULL, m INTEGER NOT NULL,
        code TEXT NOT NULL)""",
    "CREATE TABLE setting (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE orphan_shard (slot INTEGER NOT NULL, key TEXT NOT NULL,
        PRIMARY KEY (slot, key)) WITHOUT ROWID""",
    "CREATE TABLE progress (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)

INDEX_DDL = (
    "CREATE UNIQUE INDEX dirent_cookie ON dirent (parent, cookie)",
    "CREATE INDEX dirent_ino ON dirent (ino)",
    "CREATE INDEX extent_source ON extent (source)",
    "CREATE INDEX missing_slot ON missing (slot, stripe)",
)

DDL = tuple(" ".join(statement.split()) for statement in SESSION_DDL + OUTCOME_DDL + INDEX_DDL)
"""Every statement with single spaces: how SQLite stores it, and what the hash is taken of."""

SESSION_TABLES = ("inode", "dirent", "symlink", "xattr", "orphan", "extent", "inline", "live", "counter")
OUTCOME_TABLES = (
    "stripe", "missing", "gap", "drive", "retired", "epoch", "geometry", "setting", "orphan_shard", "progress",
)  # fmt: skip

PROGRESS = ("patch_seq", "outcome_seq")
FIRST_VALUES = {
    "next_ino": 2,  # 1 is the root
    "next_cookie": 3,  # 0 = from the start, 1 and 2 are left for "." and ".."
    "next_blob": 1,
    "stripe_counter": 0,
    "inline_bytes": 0,
    "inodes": 0,
    "file_bytes": 0,
    "chain": 0,
}
"""The counters and what they start with. `inodes` and `file_bytes` spare statfs a scan of all inodes; `chain` is a
digest over all commits so far, so that a patchset is applied to the state it was made on and to no other."""


@functools.cache
def schema_hash() -> bytes:
    """32 bytes that name this schema; a patchset applies only to a database with the same (R15)."""
    return hashlib.blake2b("\n".join(DDL).encode(), digest_size=32).digest()


def create_tables(store: Store) -> None:
    """Makes all tables in an empty database, and the rows every database has from the start."""
    store.run(f"PRAGMA application_id = {APPLICATION_ID}")
    store.run(f"PRAGMA user_version = {SCHEMA_VERSION}")
    for statement in DDL:
        store.run(statement)
    for name, value in FIRST_VALUES.items():
        store.run("INSERT INTO counter VALUES (?, ?)", name, value)
    for name in PROGRESS:
        store.run("INSERT INTO progress VALUES (?, 0)", name)


def check_tables(store: Store) -> None:
    """Raises CorruptError unless the database has exactly our tables, indexes and nothing else.

    A table that is missing or has fewer columns would swallow a patchset without an error (R15).
    """
    found = {str(sql) for (sql,) in store.all("SELECT sql FROM sqlite_schema WHERE sql NOT NULL")}
    if found != set(DDL):
        odd = sorted(found.symmetric_difference(DDL))[0]
        raise CorruptError(f"the metadata database has another schema than this ecfs: {odd[:80]}")
    tables = {str(name) for (name,) in store.all("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if tables != {*SESSION_TABLES, *OUTCOME_TABLES}:
        raise CorruptError(f"tables that are neither recorded nor outcome: {sorted(tables)}")
