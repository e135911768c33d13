"""One SQLite connection: typed queries, savepoints, and what must be undone in memory when one is rolled back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn

import apsw

from ecfs.errors import CorruptError, EcfsError, PoolFullError

Row = tuple[Any, ...]
NO_TEXT = "the metadata database is damaged (it holds text that is none)"


def translated(error: apsw.Error) -> EcfsError:
    """Our error for one of SQLite's about the scratch database. Says whether room or the database is the matter."""
    if isinstance(error, apsw.FullError):
        return PoolFullError(f"no room for the metadata database in the scratch directory ({error})")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return CorruptError(f"the metadata database is damaged ({error})")
    return EcfsError(f"the metadata database failed ({type(error).__name__}: {error})")


def _refuse(*_: object) -> NoReturn:
    raise CorruptError("the metadata database lost its open transaction: remount the pool")


class Store:
    """Queries on the writer connection, whose transaction is always open (`Database` begins and ends it).

    SQLite's errors leave here as ours (`translated`), because nobody else knows apsw.

    Also the context manager behind `Database.atomic`: a savepoint around one file-system operation. Entering may be
    nested. On an exception the savepoint is rolled back and every `undo` noted inside is called, newest first.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._execute: Callable[..., apsw.Cursor] = connection.execute
        self._savepoint: Callable[..., apsw.Cursor] = connection.cursor().execute
        self._marks: list[int] = []
        self._undo: list[Callable[[], object]] = []

    def all(self, sql: str, *values: object) -> list[Row]:
        try:
            return self._execute(sql, values).fetchall()
        except apsw.Error as error:
            raise self.failed(error) from error
        except UnicodeDecodeError as error:
            raise CorruptError(NO_TEXT) from error

    def each(self, sql: str, *values: object) -> Iterator[Row]:
        """Rows one by one, for a reader that stops early. Nothing may be changed before it has stopped."""
        try:
            yield from self._execute(sql, values)
        except apsw.Error as error:
            raise self.failed(error) from error
        except UnicodeDecodeError as error:
            raise CorruptError(NO_TEXT) from error

    def one(self, sql: str, *values: object) -> Row | None:
        try:
            return self._execute(sql, values).fetchone()
        except apsw.Error as error:
            raise self.failed(error) from error
        except UnicodeDecodeError as error:
            raise CorruptError(NO_TEXT) from error

    def value(self, sql: str, *values: object) -> Any:
        """First column of the first row, None without one."""
        row = self.one(sql, *values)
        return None if row is None else row[0]

    def run(self, sql: str, *values: object) -> None:
        try:
            self._execute(sql, values)
        except apsw.Error as error:
            raise self.failed(error) from error

    def failed(self, error: apsw.Error) -> EcfsError:
        """Our error for one of SQLite's. If it cost the transaction, everything is refused from now on.

        SQLite gives up the whole transaction when the disk is full or fails: operations already answered are gone, and
        what is left is a state that never was. It must neither be read nor become a patchset.
        """
        if not self.connection.in_transaction:
            self._execute = self._savepoint = _refuse
        return translated(error)

    def changed(self) -> int:
        """Rows that the last INSERT, UPDATE or DELETE changed."""
        return self.connection.changes()

    @property
    def inside(self) -> bool:
        """Whether an operation is running, that is, a savepoint is open."""
        return bool(self._marks)

    def undo(self, action: Callable[[], object]) -> None:
        """Notes what to do in memory if the running operation is rolled back; forgotten once it is not."""
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
        self._roll_back(mark)

    def _roll_back(self, mark: int) -> None:
        if self.connection.in_transaction:
            self._savepoint("ROLLBACK TO operation")
            self._savepoint("RELEASE operation")
        while len(self._undo) > mark:
            self._undo.pop()()
