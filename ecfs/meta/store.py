"""One SQLite connection: typed queries, savepoints, and what must be undone in memory when one is rolled back."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import apsw

from ecfs.errors import CorruptError, EcfsError, PoolFullError

Row = tuple[Any, ...]


def translated(error: apsw.Error) -> EcfsError:
    """Our error for one of SQLite's about the scratch database. Says whether room or the database is the matter."""
    if isinstance(error, apsw.FullError):
        return PoolFullError(f"no room for the metadata database in the scratch directory ({error})")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return CorruptError(f"the metadata database is damaged ({error})")
    return EcfsError(f"the metadata database failed ({type(error).__name__}: {error})")


class Store:
    """Queries on the writer connection, whose transaction is always open (`Database` begins and ends it).

    Also the context manager behind `Database.atomic`: a savepoint around one file-system operation. Entering may be
    nested. On an exception the savepoint is rolled back and every `undo` noted inside is called, newest first.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._execute = connection.execute
        self._savepoint = connection.cursor().execute
        self._marks: list[int] = []
        self._undo: list[Callable[[], None]] = []
        self.on_rollback: list[Callable[[], None]] = []

    def all(self, sql: str, *values: object) -> list[Row]:
        return self._execute(sql, values).fetchall()

    def one(self, sql: str, *values: object) -> Row | None:
        return self._execute(sql, values).fetchone()

    def value(self, sql: str, *values: object) -> Any:
        """First column of the first row, None without one."""
        row = self._execute(sql, values).fetchone()
        return None if row is None else row[0]

    def run(self, sql: str, *values: object) -> None:
        self._execute(sql, values)

    def changed(self) -> int:
        """Rows that the last INSERT, UPDATE or DELETE changed."""
        return self.connection.changes()

    @property
    def inside(self) -> bool:
        """Whether an operation is running, that is, a savepoint is open."""
        return bool(self._marks)

    def undo(self, action: Callable[[], None]) -> None:
        """Notes what to do in memory if the running operation is rolled back."""
        if self._marks:
            self._undo.append(action)

    def __enter__(self) -> None:
        self._savepoint("SAVEPOINT operation")
        self._marks.append(len(self._undo))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        mark = self._marks.pop()
        if error is None:
            self._savepoint("RELEASE operation")
            if not self._marks:
                self._undo.clear()
            return
        self._roll_back(mark, error)
        if isinstance(error, apsw.Error):
            raise translated(error) from error

    def _roll_back(self, mark: int, error: BaseException) -> None:
        if not self.connection.in_transaction:
            # SQLite gave up the whole transaction (disk full, I/O error): operations already answered are gone, and a
            # patchset of the rest would be a state that never was.
            raise CorruptError("the metadata database lost its open transaction; remount") from error
        self._savepoint("ROLLBACK TO operation")
        self._savepoint("RELEASE operation")
        while len(self._undo) > mark:
            self._undo.pop()()
        for listener in self.on_rollback:
            listener()
