"""A frozen view of the metadata database that a worker thread copies while the writer goes on."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import apsw

from ecfs.meta.store import translated

PAGES_PER_STEP = 256
"""1 MiB per step: the interpreter's lock changes hands in between, so operations wait a millisecond, not the copy."""


class Snapshot:
    """The state at the last freeze, pinned by a read transaction of the second connection. One at a time.

    While it is held, SQLite can't fold newer changes into the database file, so the write-ahead log grows: release it
    as soon as the copy is made.
    """

    def __init__(self, reader: apsw.Connection) -> None:
        if reader.in_transaction:
            raise RuntimeError("the previous snapshot was not released")
        self._reader = reader
        self._cancelled = False
        self._copying = False
        reader.execute("BEGIN")
        # BEGIN alone pins nothing; the first read does.
        self.patch_seq, self.outcome_seq = (self._progress(name) for name in ("patch_seq", "outcome_seq"))

    def _progress(self, name: str) -> int:
        row = self._reader.execute("SELECT value FROM progress WHERE name = ?", (name,)).fetchone()
        return int(row[0])  # type: ignore[index]

    def copy_to(self, path: Path) -> int:
        """Writes the image to a new file (0600) and returns its length in bytes. For a worker thread.

        The image is a plain SQLite database without side files. Raises PoolFullError if there is no room for it.
        """
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._copying = True
        try:
            with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as target:
                self._copy(target)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, apsw.Error):
                raise translated(error) from error
            raise
        finally:
            self._copying = False
        return path.stat().st_size

    def _copy(self, target: apsw.Connection) -> None:
        target.pragma("synchronous", "off")
        with target.backup("main", self._reader, "main") as backup:
            while not backup.done:
                if self._cancelled:
                    raise InterruptedError("the snapshot was cancelled")
                backup.step(PAGES_PER_STEP)
        # The copied header says WAL; a file in that mode can't be opened where its directory is read-only.
        target.pragma("journal_mode", "delete")

    def cancel(self) -> None:
        """Makes a running copy_to raise InterruptedError soon. From any thread."""
        self._cancelled = True

    def release(self) -> None:
        """Lets the write-ahead log shrink again. Not while copy_to runs (cancel and wait). May be called twice."""
        if self._copying:
            raise RuntimeError("the snapshot is still being copied")
        if self._reader.in_transaction:
            self._reader.execute("ROLLBACK")
