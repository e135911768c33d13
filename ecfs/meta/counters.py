"""Numbers that live in memory and reach the counter table once per commit."""

from __future__ import annotations

import hashlib
from functools import partial

from ecfs.meta.store import Store


class Counters:
    """The counter table. Ids given out are never given again, not even after a rollback: someone may remember them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._values: dict[str, int] = {}
        self._stored: dict[str, int] = {}
        self.reload()

    def reload(self) -> None:
        """Takes the table's values."""
        self._stored = dict(self._store.all("SELECT name, value FROM counter"))
        self._values = dict(self._stored)

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def take(self, name: str) -> int:
        """The next id of this kind."""
        number = self._values[name]
        self._values[name] = number + 1
        return number

    def set(self, name: str, value: int) -> None:
        """Sets a counter for good: not undone by a rollback."""
        if name not in self._values:
            raise KeyError(name)
        self._values[name] = value

    def add(self, name: str, delta: int) -> None:
        """Adds to a total; undone if the running operation is rolled back."""
        if delta:
            self._values[name] += delta
            self._store.undo(partial(self._subtract, name, delta))

    def _subtract(self, name: str, delta: int) -> None:
        self._values[name] -= delta

    def seal(self) -> None:
        """Moves the chain of digests on by one commit, then writes all that changed into the running transaction."""
        self._values["chain"] = self.next_link()
        self.flush()

    def next_link(self) -> int:
        """The digest of this commit: over the one before and the counters as they are now, as a 63-bit number."""
        told = {name: value for name, value in self._values.items() if name != "chain"}
        text = " ".join(f"{name}={value}" for name, value in [("chain", self._stored["chain"]), *sorted(told.items())])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

    def follow(self) -> bool:
        """Takes the table's values after a replay; says whether the replayed commit was made on this very state (R15).

        A patchset holds no old values, so SQLite would apply most of them to any database.
        """
        before = self._stored
        self.reload()
        self._stored = before
        fits = self._values["chain"] == self.next_link()
        self._stored = dict(self._values)
        return fits

    def flush(self) -> None:
        """Writes what changed into the running transaction."""
        for name, value in self._values.items():
            if self._stored[name] != value:
                self._store.run("UPDATE counter SET value = ? WHERE name = ?", value, name)
                self._stored[name] = value
