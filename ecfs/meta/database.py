"""The metadata database as a whole: opening it, the transaction that is always open, freezing, replaying."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import apsw

from ecfs.errors import CorruptError, EcfsError, FormatTooNewError
from ecfs.geometry import Geometry
from ecfs.meta import outcome as outcomes
from ecfs.meta.counters import Counters
from ecfs.meta.drives import Drives
from ecfs.meta.files import Files
from ecfs.meta.ledger import Ledger
from ecfs.meta.namespace import Namespace
from ecfs.meta.recorder import Recorder, apply_patchset, prove_applied
from ecfs.meta.schema import (
    APPLICATION_ID,
    FIRST_VALUES,
    PROGRESS,
    SCHEMA_VERSION,
    check_tables,
    create_tables,
)
from ecfs.meta.snapshot import Snapshot
from ecfs.meta.store import Store, translated
from ecfs.meta.types import Outcome

CACHE_KIB = 32 * 1024
COMMIT_ROWS = 2000
"""Rows changed after which a transaction of SQLite's ends in any case: its pages are to leave the cache in time."""
CHECKPOINT_PAGES = 2000
"""Pages of 4 KiB in the write-ahead log before a commit folds them into the file."""
WAL_LIMIT = 64 << 20
"""The log's file is cut back to this once its readers are gone."""


_NOTHING = Outcome()
_NOTE_PROGRESS = "UPDATE progress SET value = CASE name WHEN 'patch_seq' THEN ? ELSE ? END"


class Database:
    """Names, files, stripes and drives. Belongs to one thread; a transaction is always open between two freezes.

    The files are unlinked as soon as they are open: nothing in them is durable, nobody else should read them, and a
    kill leaves nothing behind.
    """

    def __init__(self, writer: apsw.Connection, reader: apsw.Connection) -> None:
        """Use `create` or `load`."""
        self._writer = writer
        self._reader = reader
        self.store = Store(writer)  # for this room and its tests; others use what follows
        writer.execute("BEGIN IMMEDIATE")
        self._recorder = Recorder(writer)
        self._rows_before = self._rows_committed = writer.total_changes()
        self._pinnable = True
        stored: dict[str, int] = dict(self.store.all("SELECT name, value FROM progress"))
        self.patch_seq = stored["patch_seq"]
        """The newest record whose patchset is in this database."""
        self.outcome_seq = stored["outcome_seq"]
        """The newest record whose outcome is in this database."""
        self.counters = Counters(self.store)
        self.names = Namespace(self.store, self.counters)
        self.files = Files(self.store, self.counters)
        self.ledger = Ledger(self.store)
        self.drives = Drives(self.store)

    @classmethod
    def create(cls, scratch_dir: Path, geometry: Geometry) -> Database:
        """An empty database (no root directory yet) in a private place below `scratch_dir`."""

        def make(store: Store) -> None:
            create_tables(store)
            check_tables(store)
            outcomes.put_geometry(store, geometry)

        return cls(*_open(scratch_dir, (), make))

    @classmethod
    def load(cls, scratch_dir: Path, image: Path | Iterable[bytes]) -> Database:
        """The database of a checkpoint image, given as a file or in pieces.

        Raises CorruptError if it is no database of this schema, FormatTooNewError if a newer ecfs wrote it.
        """
        chunks = _pieces(image) if isinstance(image, Path) else image
        try:
            return cls(*_open(scratch_dir, chunks, _check_image))
        except EcfsError as error:
            if isinstance(error.__cause__, _ABOUT_THE_IMAGE):
                raise CorruptError(f"the checkpoint image can't be used: {error}") from error
            raise

    # ---- operations

    def atomic(self) -> AbstractContextManager[None]:
        """Around one file-system operation: all of it or, on an exception, nothing. May be nested; must not await."""
        return self.store

    @property
    def changes(self) -> int:
        """Rows that the next patchset changes: what outcomes change meanwhile is of none."""
        return self._writer.total_changes() - self._rows_before

    @property
    def size(self) -> int:
        """Bytes of an image of it, as far as they are known now."""
        pages, page = self.store.value("PRAGMA page_count"), self.store.value("PRAGMA page_size")
        return int(pages) * int(page)

    def patchset_estimate(self) -> int:
        """Upper limit in bytes of the patchset so far."""
        return self._recorder.estimate

    def is_dirty(self) -> bool:
        """Whether there is something to commit. True also after an operation that was rolled back."""
        return not self._recorder.is_empty or self.files.has_pending

    # ---- commits

    def freeze(self, patch_seq: int, *, pins: bool = True) -> bytes:
        """Ends the transaction and begins the next; returns the patchset of what it changed, b"" if `is_dirty` says so.

        pins: `snapshot` may come next. Else SQLite's own transaction may go on: ending it is a tenth of a small commit.

        If this raises, nothing of the running transaction may be called committed, and the pool must be reopened.
        """
        self._require_between_operations("freeze")
        if self.is_dirty():
            self.files.flush()
            self.counters.seal()
        patchset = self._recorder.patchset()
        self._follow(patch_seq, ends=pins)
        return patchset

    def snapshot(self) -> Snapshot:
        """Pins the state at the last freeze for a worker thread to copy. In the same step as that freeze."""
        if not self._pinnable:
            raise RuntimeError("the last freeze was not made to be pinned")
        try:
            return Snapshot(self._reader)
        except apsw.Error as error:
            raise translated(error) from error

    def replay(self, patchset: bytes, seq: int) -> None:
        """Applies the patchset of record `seq`. Raises CorruptError, with nothing changed, if it does not fit.

        Only while nothing was changed since the last freeze, replay or load.
        """
        self._require_between_operations("replay")
        if self.is_dirty():
            raise RuntimeError("replay over changes that were not frozen")
        if patchset:
            self._apply_proven(patchset)
        self._follow(seq, ends=True)

    def _apply_proven(self, patchset: bytes) -> None:
        try:
            with self.atomic():
                apply_patchset(self._writer, patchset)
                prove_applied(patchset, self._recorder.patchset())
                if not self.counters.follow():
                    raise CorruptError("a record was made on another state of the metadata database than this one")
        except BaseException:
            self.counters.reload()
            raise
        finally:
            self._recorder.restart()
            self.names.forget()

    def apply_outcome(self, outcome: Outcome, seq: int) -> None:
        """Applies the outcome section of record `seq`; it becomes part of the running transaction, of no patchset."""
        if seq < self.outcome_seq:
            raise CorruptError(f"outcome {seq} after outcome {self.outcome_seq}")
        if outcome != _NOTHING:
            rows = self._writer.total_changes()
            with self.atomic():
                outcomes.apply_outcome(self.store, self.ledger, outcome)
            self._rows_before += self._writer.total_changes() - rows
        self.outcome_seq = seq

    def _follow(self, patch_seq: int, *, ends: bool) -> None:
        """What record `patch_seq` holds is complete. ends: so is the transaction."""
        if patch_seq < self.patch_seq:
            raise CorruptError(f"patchset {patch_seq} after patchset {self.patch_seq}")
        if not self._writer.in_transaction:
            raise self.store.failed(apsw.SQLError("the transaction is gone"))
        self.patch_seq = patch_seq
        self._pinnable = ends
        if ends or self._writer.total_changes() - self._rows_committed > COMMIT_ROWS:
            self._end_transaction()
        self._recorder.restart()
        self._rows_before = self._writer.total_changes()

    def _end_transaction(self) -> None:
        try:
            # Only here: until the transaction ends nobody reads it there.
            self.store.run(_NOTE_PROGRESS, self.patch_seq, self.outcome_seq)
            self._writer.execute("COMMIT")
            self._writer.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            raise self.store.failed(error) from error
        self._rows_committed = self._writer.total_changes()

    def _require_between_operations(self, what: str) -> None:
        if self.store.inside:
            raise RuntimeError(f"{what} inside an operation")

    def close(self) -> None:
        """Forgets everything."""
        self._recorder.close()
        self._reader.close()
        self._writer.close()


def _open(
    scratch_dir: Path, image: Iterable[bytes], prepare: Callable[[Store], None]
) -> tuple[apsw.Connection, apsw.Connection]:
    """The writer and the reader of a database that no longer has a name."""
    scratch_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # TemporaryDirectory makes 0700 and removes the name of all that SQLite made in it, whatever happens.
    with tempfile.TemporaryDirectory(prefix="meta-", dir=scratch_dir) as private:
        path = Path(private, "database")
        _write(path, image)
        try:
            return _connect(path, prepare)
        except apsw.Error as error:
            raise translated(error) from error


def _connect(path: Path, prepare: Callable[[Store], None]) -> tuple[apsw.Connection, apsw.Connection]:
    writer = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=200)
    try:
        # Plans that do not depend on values: else each new value of some queries has the statement planned anew.
        writer.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for name, value in _PRAGMAS.items():
            writer.pragma(name, value)
        writer.execute("BEGIN IMMEDIATE")
        prepare(Store(writer))
        writer.execute("COMMIT")
        reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=10)
    except BaseException:
        writer.close()
        raise
    # Touched now: the first read opens the log and its index by name, and soon there are no names.
    reader.execute("SELECT count(*) FROM progress").fetchone()
    reader.pragma("query_only", True)
    return writer, reader


_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "off",  # never the durable copy
    "temp_store": "memory",  # nothing of it in a public temporary directory
    "trusted_schema": False,
    "cache_size": -CACHE_KIB,
    "wal_autocheckpoint": CHECKPOINT_PAGES,
    "journal_size_limit": WAL_LIMIT,
}


def _write(path: Path, image: Iterable[bytes]) -> None:
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.writelines(image)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


_ABOUT_THE_IMAGE = (apsw.SQLError, apsw.MismatchError, apsw.ConstraintError, apsw.FormatError)
"""What SQLite says of bytes that begin like a database of ours and are none."""


def _check_image(store: Store) -> None:
    """Raises unless this is a database of ours, with our schema."""
    if store.value("PRAGMA application_id") != APPLICATION_ID:
        raise CorruptError("the checkpoint image is not a metadata database")
    version = store.value("PRAGMA user_version")
    if version > SCHEMA_VERSION:
        raise FormatTooNewError(f"metadata schema {version} is newer than this ecfs knows ({SCHEMA_VERSION}): upgrade")
    check_tables(store)
    for table, names in (("progress", PROGRESS), ("counter", tuple(FIRST_VALUES))):
        there = {name for (name,) in store.all(f"SELECT name FROM {table} WHERE typeof(value) = 'integer'")}
        if lacking := sorted(set(names) - there):
            raise CorruptError(f"the checkpoint image lacks {', '.join(lacking)}")
    if store.all("SELECT 1 FROM geometry WHERE (typeof(k), typeof(m)) IS NOT ('integer', 'integer') OR min(k, m) < 0"):
        raise CorruptError("the checkpoint image has a geometry that is none")
