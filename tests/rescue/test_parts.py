"""The rescue program's decoders against the libraries they replace, and what it must not need."""

from __future__ import annotations

import ast
import hashlib
import sqlite3
import sys
from itertools import combinations
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyeclib.ec_iface import ECDriver

from ecfs import rescue
from ecfs.codec import _GOLDEN, CODE_NAME, golden_payload
from ecfs.geometry import FRAGMENT_HEADER
from ecfs.meta.schema import APPLICATION_ID, DDL, FIRST_VALUES, SCHEMA_VERSION, SESSION_TABLES, schema_hash
from tests.rescue.pools import PROGRAM

SHAPES = [(4, 2), (2, 1), (8, 3)]


# ---- the code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "m"), SHAPES)
@pytest.mark.parametrize("length", [1, 8, 1013, 70_001])
def test_every_k_fragments_of_the_library_give_back_the_data(k: int, m: int, length: int) -> None:
    payload = (golden_payload() * 100)[:length]
    fragments = ECDriver(k=k, m=m, ec_type=CODE_NAME, chksum_type="none").encode(payload)
    data = [fragment[FRAGMENT_HEADER:] for fragment in fragments]
    for kept in combinations(range(k + m), k):
        rebuilt = rescue.rebuild(k, {index: data[index] for index in kept}, range(k))
        assert b"".join(rebuilt[index] for index in range(k))[:length] == payload


@pytest.mark.parametrize(("k", "m"), SHAPES)
def test_parity_of_the_known_payload_without_any_library(k: int, m: int) -> None:
    payload = golden_payload()
    size = -(-len(payload) // k)
    data = [payload[index * size : (index + 1) * size].ljust(size, b"\0") for index in range(k)]
    parity = []
    for index in range(k, k + m):
        total = bytearray(size)
        for factor, source in zip(rescue.generator_row(k, index), data, strict=True):
            total = bytearray(a ^ rescue.multiply(factor, b) for a, b in zip(total, source, strict=True))
        parity.append(bytes(total))
    assert hashlib.blake2b(b"".join(data + parity), digest_size=16).hexdigest() == _GOLDEN[k, m]


def test_every_number_of_the_field_has_its_inverse() -> None:
    assert all(rescue.multiply(value, rescue.inverse(value)) == 1 for value in range(1, 256))
    assert rescue.multiply(0x80, 2) == 0x1D


# ---- patchsets -----------------------------------------------------------------------------------------------------

INTEGERS = st.one_of(st.integers(-3, 3), st.integers(-(1 << 63), (1 << 63) - 1))
SMALL = st.integers(0, 3)
BLOBS = st.one_of(st.binary(max_size=3), st.integers(120, 140).map(bytes), st.integers(16370, 16400).map(bytes))
TEXTS = st.sampled_from(["", "schön", "a" * 200, "x"])


def columns_of(table: str) -> list[tuple[str, str, int]]:
    with sqlite3.connect(":memory:") as db:
        for statement in DDL:
            db.execute(statement)
        found = [(name, kind, key) for _, name, kind, _, _, key in db.execute(f"PRAGMA table_info({table})")]
    db.close()
    return found


COLUMNS = {table: columns_of(table) for table in SESSION_TABLES}
"""(name, type, place in the key) of each column."""


def values_of(kind: str, key: int) -> st.SearchStrategy[object]:
    if kind == "INTEGER":
        return SMALL if key else INTEGERS
    return TEXTS if kind == "TEXT" else BLOBS


def row_of(table: str) -> st.SearchStrategy[tuple[str, list[object]]]:
    return st.tuples(*(values_of(kind, key) for _, kind, key in COLUMNS[table])).map(lambda row: (table, list(row)))


ROWS = st.sampled_from(SESSION_TABLES).flatmap(row_of)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "delete", "change"]), ROWS), max_size=40)


def run_step(db: apsw.Connection, step: str, table: str, row: list[object]) -> None:
    """Whatever SQLite refuses (a cookie used twice) just doesn't happen."""
    columns = COLUMNS[table]
    where = " AND ".join(f"{name} = ?" for name, _, key in columns if key)
    keys = [value for value, (_, _, key) in zip(row, columns, strict=True) if key]
    others = [(name, value) for value, (name, _, key) in zip(row, columns, strict=True) if not key]
    try:
        if step == "put":
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", tuple(row))
        elif step == "delete":
            db.execute(f"DELETE FROM {table} WHERE {where}", tuple(keys))
        elif others:
            name, value = others[len(keys) % len(others)]
            db.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", (value, *keys))
    except apsw.ConstraintError:
        return


def new_database(path: Path) -> apsw.Connection:
    path.unlink(missing_ok=True)
    db = apsw.Connection(str(path))
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}")
    for statement in DDL:
        db.execute(statement)
    db.executemany("INSERT INTO counter VALUES (?, ?)", list(FIRST_VALUES.items()))
    return db


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    db = sqlite3.connect(path)
    rows = {table: sorted(db.execute(f"SELECT * FROM {table}")) for table in SESSION_TABLES}
    db.close()
    return rows


@settings(max_examples=50)
@given(before=STEPS, after=STEPS)
def test_patchsets_mean_what_sqlite_says(
    before: list[tuple[str, tuple[str, list[object]]]],
    after: list[tuple[str, tuple[str, list[object]]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.getbasetemp() / "patchset"
    db = new_database(path)
    for step, (table, row) in before:
        run_step(db, step, table, row)
    db.close()
    ours, theirs = path.with_suffix(".ours"), path.with_suffix(".theirs")
    ours.write_bytes(path.read_bytes())
    theirs.write_bytes(path.read_bytes())
    db = apsw.Connection(str(path))
    session = apsw.Session(db, "main")
    for table in SESSION_TABLES:
        session.attach(table)
    for step, (table, row) in after:
        run_step(db, step, table, row)
    patchset = session.patchset()
    session.close()
    db.close()
    applied = apsw.Connection(str(theirs))
    apsw.Changeset.apply(patchset, applied)
    applied.close()
    metadata = rescue.Metadata(str(ours))
    for change in rescue.changes(patchset):
        metadata._apply(change)
    metadata.db.close()
    assert dump(ours) == dump(theirs) == dump(path)


@given(st.binary(max_size=60))
def test_no_bytes_crash_the_patchset_decoder(data: bytes) -> None:
    for start in (b"", b"P\x02\x01\x00orphan\0", b"P\x02\x01\x00x\0\x12\x00\x04\xff"):
        try:
            list(rescue.changes(start + data))
        except ValueError:
            continue


def test_the_schemas_hash_can_be_computed_from_an_image(tmp_path: Path) -> None:
    new_database(tmp_path / "image").close()
    metadata = rescue.Metadata(str(tmp_path / "image"))
    assert metadata.schema == schema_hash()[:16]
    metadata.db.close()


# ---- what it needs -------------------------------------------------------------------------------------------------


def test_it_needs_nothing_but_the_standard_library_of_python_3_9() -> None:
    tree = ast.parse(PROGRAM.read_bytes(), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
