"""The bytes of a patchset are what docs/FORMAT.md says (R25)."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from ecfs.meta.schema import DDL, FIRST_VALUES, SESSION_TABLES
from tests.unit.meta.helpers import add_directory, add_file, add_root, database, dump, stripe
from tests.unit.meta.patchset import DELETE, INSERT, UPDATE, changes

GOLDEN = (
    bytes.fromhex(
        "500c010000000000000000000000696e6f64650012000100000000000000010100000000000041ed0100000000000003e801"
        "00000000000003e801000000000000000201000000000000000001000000000000000001000000000000000a010000000000"
        "00001401000000000000001e0100000000000000010100000000000000005003010200786174747200120001000000000000"
        "00010406757365722e6104013150020100636f756e7465720017000306696e6f646573010000000000000001170003056368"
        "61696e012ea3e397d794ca6f"
    ),
    bytes.fromhex(
        "500301020078617474720017000100000000000000010406757365722e61040232325001016f727068616e00120001000000"
        "000000012c50020100636f756e7465720017000305636861696e0122fa62d3a911cd82"
    ),
    bytes.fromhex(
        "500301020078617474720009000100000000000000010406757365722e6150020100636f756e746572001700030563686169"
        "6e010ac6301e89f6f495"
    ),
)
"""Three commits recorded with SQLite 3.54: what any later version must still apply."""


def history():
    """Three patchsets with every kind of change in every session table, and what the tables hold at the end."""
    with database() as db:
        add_root(db)
        directory = add_directory(db, b"d\xff")
        file = add_file(db, b"f", directory)
        db.names.set_xattr(file, b"user.a", b"")
        db.names.set_symlink(file, b"t" * 300)
        db.names.add_orphan(file)
        db.files.put_extent(file, 0, 1 << 40, stripe(1), 0)
        db.files.put_extent(file, 5, 3, -db.files.add_inline(bytes(range(256)) * 70), 0)
        first = db.freeze(1)
        db.names.set_xattr(file, b"user.a", b"value")
        db.names.update_inode(file, size=1 << 40, mtime_ns=-5)
        db.names.unlink(directory, b"f")
        db.names.remove_inode(file)
        db.names.set_xattr(directory, b"user.b", b"")
        db.files.punch(file, 0, 1 << 30)
        second = db.freeze(2)
        db.files.remove_file(file)
        db.names.replace_entry(1, b"d\xff", 1)
        return [first, second, db.freeze(3)], dump(db, SESSION_TABLES)


def apply(connection, change):
    columns = [(name, key) for _, name, _, _, _, key in connection.execute(f"PRAGMA table_info({change.table})")]
    keys = [number for number, (_, key) in enumerate(columns) if key]
    where = " AND ".join(f"{columns[number][0]} = ?" for number in keys)
    key_values = [change.values[number] for number in keys]
    if change.operation == INSERT:
        marks = ", ".join("?" * len(columns))
        row = [change.values[number] for number in range(len(columns))]
        connection.execute(f"INSERT INTO {change.table} VALUES ({marks})", row)
    elif change.operation == DELETE:
        assert connection.execute(f"DELETE FROM {change.table} WHERE {where}", key_values).rowcount == 1
    else:
        assert change.operation == UPDATE
        new = {number: value for number, value in change.values.items() if number not in keys}
        names = ", ".join(f"{columns[number][0]} = ?" for number in new)
        sql = f"UPDATE {change.table} SET {names} WHERE {where}"
        assert connection.execute(sql, [*new.values(), *key_values]).rowcount == 1


def link_of(old, counters):
    """The new value of `chain`, as docs/FORMAT.md has it."""
    others = "".join(f" {name}={value}" for name, value in sorted(counters.items()) if name != "chain")
    digest = hashlib.blake2b(f"chain={old}{others}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def test_plain_python_and_the_standard_library_replay_a_history():
    patchsets, expected = history()
    connection = sqlite3.connect(":memory:")
    for statement in DDL:
        connection.execute(statement)
    connection.executemany("INSERT INTO counter VALUES (?, ?)", FIRST_VALUES.items())
    seen = set()
    for patchset in patchsets:
        (old,) = connection.execute("SELECT value FROM counter WHERE name = 'chain'").fetchone()
        for change in changes(patchset):
            seen.add((change.table, change.operation))
            apply(connection, change)
        counters = dict(connection.execute("SELECT * FROM counter"))
        assert counters["chain"] == link_of(old, counters)
    found = {table: sorted(connection.execute(f"SELECT * FROM {table}")) for table in SESSION_TABLES}
    connection.close()
    assert found == expected
    assert {table for table, _ in seen} == set(SESSION_TABLES)
    assert {operation for _, operation in seen} == {INSERT, UPDATE, DELETE}


def test_recorded_patchsets_still_apply():
    with database() as db:
        for seq, patchset in enumerate(GOLDEN, 1):
            db.replay(patchset, seq)
        assert db.names.inode(1) is not None
        assert (db.names.orphans(), db.names.list_xattrs(1)) == ([300], [])


def test_recorded_bytes_mean_what_the_decoder_reads():
    _, second, third = GOLDEN
    found = [change for change in changes(second) if change.table != "counter"]
    assert found == [("xattr", UPDATE, {0: 1, 1: b"user.a", 2: b"22"}), ("orphan", INSERT, {0: 300})]
    assert next(changes(third)) == ("xattr", DELETE, {0: 1, 1: b"user.a"})


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_decoder_notices_a_cut_patchset(cut):
    (first, *_), _ = history()
    with pytest.raises(ValueError, match=r"middle|subsection"):
        list(changes(first[:-cut]))


def test_format_document_describes_this_schema():
    text = (Path(__file__).parents[3] / "docs" / "FORMAT.md").read_text()
    section = text.partition("## Metadata database, patchset and outcome")[2]
    assert all(f"`{table}`" in section for table in SESSION_TABLES)
