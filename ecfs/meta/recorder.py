"""The SQLite session that records one transaction, and the proof that a replayed patchset did what it says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import apsw

from ecfs.errors import CorruptError
from ecfs.meta.schema import SESSION_TABLES

_REASONS = {
    apsw.SQLITE_CHANGESET_DATA: "the row is another",
    apsw.SQLITE_CHANGESET_NOTFOUND: "no such row",
    apsw.SQLITE_CHANGESET_CONFLICT: "the row exists already",
    apsw.SQLITE_CHANGESET_CONSTRAINT: "a constraint forbids it",
}


class Recorder:
    """Records the changes of the session tables since it was made or last restarted."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._session = self._begin()

    def _begin(self) -> apsw.Session:
        session = apsw.Session(self._connection, "main")
        session.config(apsw.SQLITE_SESSION_OBJCONFIG_SIZE, 1)
        for table in SESSION_TABLES:
            session.attach(table)
        return session

    def restart(self) -> None:
        self._session.close()
        self._session = self._begin()

    def close(self) -> None:
        self._session.close()

    def patchset(self) -> bytes:
        """What changed, empty if nothing did. Changes that were rolled back or undone are not in it."""
        return self._session.patchset()

    @property
    def is_empty(self) -> bool:
        """False as soon as a row was touched, even if the change was rolled back."""
        return self._session.is_empty

    @property
    def estimate(self) -> int:
        """Upper limit of the patchset's size in bytes."""
        return self._session.changeset_size


def apply_patchset(connection: apsw.Connection, patchset: bytes) -> None:
    """Applies a patchset. Raises CorruptError at the first conflict or unreadable byte."""
    conflicts: list[str] = []

    def refuse(reason: int, change: apsw.TableChange) -> int:
        conflicts.append(f"{change.op} in {change.name}: {_REASONS.get(reason, str(reason))}")
        return apsw.SQLITE_CHANGESET_ABORT

    try:
        apsw.Changeset.apply(patchset, connection, conflict=refuse)
    except apsw.Error as error:
        why = conflicts[0] if conflicts else str(error) or type(error).__name__
        raise CorruptError(f"a record does not fit the metadata database ({why})") from error


def prove_applied(patchset: bytes, recorded: bytes) -> None:
    """Raises CorruptError unless a replay changed exactly what the patchset says.

    SQLite skips tables it does not find and columns it does not have without an error (R15), and an update that
    finds its value already there changes nothing: both leave fewer operations than there should be.
    """
    try:
        same = patchset == recorded or _operations(patchset) == _operations(recorded)
    except (UnicodeDecodeError, apsw.Error) as error:
        raise CorruptError(f"a record holds what no file system wrote ({error})") from error
    if not same:
        raise CorruptError("replaying a record changed something else than the record says")


def _operations(patchset: bytes) -> Counter[tuple[Any, ...]]:
    if not patchset:
        return Counter()
    return Counter((each.name, each.opcode, each.old, each.new) for each in apsw.Changeset.iter(patchset))
