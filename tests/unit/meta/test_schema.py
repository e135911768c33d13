"""The schema keeps the rules that SQLite's sessions need (R15), and another schema is refused."""

from __future__ import annotations

import sqlite3

import pytest

from ecfs.errors import CorruptError, FormatTooNewError
from ecfs.meta import Database, schema_hash
from ecfs.meta.schema import DDL, OUTCOME_TABLES, SCHEMA_VERSION, SESSION_TABLES
from tests.unit.meta.helpers import database


@pytest.fixture
def plain():
    connection = sqlite3.connect(":memory:")
    for statement in DDL:
        connection.execute(statement)
    yield connection
    connection.close()


def test_every_table_is_either_recorded_or_outcome(plain):
    tables = [name for (name,) in plain.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    assert sorted(tables) == sorted(SESSION_TABLES + OUTCOME_TABLES)


@pytest.mark.parametrize("table", SESSION_TABLES + OUTCOME_TABLES)
def test_every_column_is_not_null_and_a_primary_key_is_declared(plain, table):
    columns = list(plain.execute(f"PRAGMA table_xinfo({table})"))
    assert any(key for *_, key, _ in columns)
    assert all(not_null for _, _, _, not_null, *_ in columns)
    assert not any(hidden for *_, hidden in columns)  # no generated columns


def test_nothing_that_a_session_overlooks():
    forbidden = ("TRIGGER", "REFERENCES", "AUTOINCREMENT", "GENERATED", "VIRTUAL")
    assert not [word for word in forbidden if word in " ".join(DDL).upper()]


def test_hash_names_this_version():
    # A changed schema needs a new SCHEMA_VERSION and a migration; then this line changes with them.
    assert (SCHEMA_VERSION, schema_hash().hex()[:16]) == (1, "b172a9bafa7d47ac")


@pytest.mark.parametrize("table", SESSION_TABLES)
def test_session_records_insert_update_and_delete(table):
    with database() as db:
        columns = [(name, kind) for _, name, kind, *_ in db.store.all(f"PRAGMA table_info({table})")]
        values = [b"x" if kind == "BLOB" else "x" if kind == "TEXT" else 7 for _, kind in columns]
        db.store.run(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", *values)
        assert table.encode() in db.freeze(1)
        if len(columns) > 1:
            db.store.run(f"UPDATE {table} SET {columns[-1][0]} = ?", b"y" if values[-1] == b"x" else 8)
            assert table.encode() in db.freeze(2)
        db.store.run(f"DELETE FROM {table}")
        assert table.encode() in db.freeze(3)


@pytest.mark.parametrize("table", [table for table in OUTCOME_TABLES if table != "progress"])
def test_session_never_records_outcome_tables(table):
    with database() as db:
        db.store.run(f"DELETE FROM {table}")
        columns = [(name, kind) for _, name, kind, *_ in db.store.all(f"PRAGMA table_info({table})")]
        values = [b"x" if kind == "BLOB" else "x" if kind == "TEXT" else 7 for _, kind in columns]
        db.store.run(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", *values)
        assert not db.is_dirty()
        assert db.freeze(1) == b""


def image_with(tmp_path, *statements):
    path = tmp_path / "image"
    with database() as db:
        snapshot = db.snapshot()
        snapshot.copy_to(path)
        snapshot.release()
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE orphan",
        "ALTER TABLE xattr RENAME COLUMN value TO worth",
        "ALTER TABLE orphan ADD COLUMN extra INTEGER",
        "CREATE TABLE other (a)",
        "DROP INDEX extent_source",
        "CREATE TRIGGER t AFTER INSERT ON orphan BEGIN DELETE FROM inode; END",
        "PRAGMA application_id = 1",
    ],
)
def test_image_with_another_schema_is_refused(tmp_path, statement):
    path = image_with(tmp_path, statement)
    with pytest.raises(CorruptError):
        Database.load(tmp_path / "scratch", path)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_image_of_a_newer_version_asks_for_an_upgrade(tmp_path):
    path = image_with(tmp_path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(FormatTooNewError, match="upgrade"):
        Database.load(tmp_path / "scratch", path)


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_image_that_is_no_database_is_refused(tmp_path, content):
    with pytest.raises(CorruptError):
        Database.load(tmp_path / "scratch", [content])
