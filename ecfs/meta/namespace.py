"""Names and inodes: directories, attributes, symlinks, xattrs, orphans."""

from __future__ import annotations

from functools import partial

from ecfs.meta.counters import Counters
from ecfs.meta.store import Store
from ecfs.meta.types import ROOT_INO, Inode

COLUMNS = Inode._fields
_MAX_DEPTH = 4096
"""Directories up to the root; more is a loop (PATH_MAX allows 2048)."""

_INODE = f"SELECT {', '.join(COLUMNS)} FROM inode WHERE ino = ?"
_JOINED = (
    f"SELECT d.cookie, d.name, {', '.join('i.' + name for name in COLUMNS)} FROM dirent d "
    "JOIN inode i ON i.ino = d.ino WHERE d.parent = ? AND d.cookie > ? ORDER BY d.cookie LIMIT ?"
)


class Namespace:
    """All methods see and change the running transaction. Names, targets and xattrs are bytes; missing things KeyError.

    Inodes are cached, at most `cache_limit` (about 600 bytes each). Every change is written through, and a rollback
    drops what it changed, so the cache never shows what the database does not hold.
    """

    def __init__(self, store: Store, counters: Counters, *, cache_limit: int = 16_384) -> None:
        self._store = store
        self._counters = counters
        self._cache: dict[int, Inode] = {}
        self._cache_limit = cache_limit
        self._updates: dict[tuple[str, ...], str] = {}

    def forget(self) -> None:
        """Empties the cache; needed whenever the tables changed behind our back."""
        self._cache.clear()

    # ---- inodes

    def inode(self, ino: int) -> Inode | None:
        found = self._cache.get(ino)
        if found is None:
            row = self._store.one(_INODE, ino)
            if row is not None:
                found = Inode(*row)
                self._remember(found)
        return found

    def _changed(self, ino: int, inode: Inode | None) -> None:
        """Follows a change of the table; None for a removed inode."""
        if inode is None:
            self._cache.pop(ino, None)
        else:
            self._remember(inode)
        self._store.undo(partial(self._cache.pop, ino, None))

    def _remember(self, inode: Inode) -> None:
        if len(self._cache) >= self._cache_limit:
            # All at once: taking the oldest out of a dict one by one walks over the holes left by those before it.
            self._cache.clear()
        self._cache[inode.ino] = inode

    def new_ino(self) -> int:
        """A number no inode ever had."""
        return self._counters.take("next_ino")

    def add_inode(self, inode: Inode) -> None:
        self._store.run("INSERT INTO inode VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *inode)
        self._counters.add("inodes", 1)
        self._counters.add("file_bytes", inode.size)
        self._changed(inode.ino, inode)

    def update_inode(self, ino: int, **columns: int) -> Inode:
        """Sets some columns and returns the inode as it is now. Raises KeyError if there is none."""
        old = self.inode(ino)
        if old is None:
            raise KeyError(f"no inode {ino}")
        new = old._replace(**columns)
        if new != old:
            self._store.run(self._update(tuple(columns)), *columns.values(), ino)
            self._counters.add("file_bytes", new.size - old.size)
            self._changed(ino, new)
        return new

    def _update(self, names: tuple[str, ...]) -> str:
        sql = self._updates.get(names)
        if sql is None:
            sql = self._updates[names] = f"UPDATE inode SET {', '.join(f'{name} = ?' for name in names)} WHERE ino = ?"
        return sql

    def remove_inode(self, ino: int) -> None:
        """Removes the inode with its target, xattrs and orphan mark. Its extents go with `Files.remove_file`."""
        old = self.inode(ino)
        if old is None:
            raise KeyError(f"no inode {ino}")
        for table in ("inode", "symlink", "xattr", "orphan"):
            self._store.run(f"DELETE FROM {table} WHERE ino = ?", ino)
        self._counters.add("inodes", -1)
        self._counters.add("file_bytes", -old.size)
        self._changed(ino, None)

    def counts(self) -> tuple[int, int]:
        """(inodes, sum of their sizes in bytes), without a scan."""
        return self._counters["inodes"], self._counters["file_bytes"]

    # ---- directories

    def lookup(self, parent: int, name: bytes) -> int | None:
        row = self._store.one("SELECT ino FROM dirent WHERE parent = ? AND name = ?", parent, name)
        return None if row is None else row[0]

    def link(self, parent: int, name: bytes, ino: int) -> None:
        """Adds an entry under a fresh cookie; the name must be free. Link counts are the caller's."""
        cookie = self._counters.take("next_cookie")
        self._store.run("INSERT INTO dirent VALUES (?, ?, ?, ?)", parent, name, ino, cookie)

    @property
    def next_cookie(self) -> int:
        """Greater than that of every entry there is."""
        return self._counters["next_cookie"]

    def unlink(self, parent: int, name: bytes, ino: int | None = None) -> int:
        """Removes an entry and returns the inode it named; `ino` if the caller has just looked that up."""
        if ino is None:
            ino = self._entry(parent, name)
        self._store.run("DELETE FROM dirent WHERE parent = ? AND name = ?", parent, name)
        return ino

    def replace_entry(self, parent: int, name: bytes, ino: int) -> int:
        """Makes an existing entry name another inode, under its old cookie; returns the inode it named before."""
        before = self._entry(parent, name)
        self._store.run("UPDATE dirent SET ino = ? WHERE parent = ? AND name = ?", ino, parent, name)
        return before

    def _entry(self, parent: int, name: bytes) -> int:
        ino = self.lookup(parent, name)
        if ino is None:
            raise KeyError(f"no entry {name!r} in directory {parent}")
        return ino

    def entries(self, parent: int, after_cookie: int, limit: int) -> list[tuple[int, bytes, int]]:
        """(cookie, name, ino) of entries with a greater cookie, in cookie order. 0 starts at the beginning."""
        sql = "SELECT cookie, name, ino FROM dirent WHERE parent = ? AND cookie > ? ORDER BY cookie LIMIT ?"
        return self._store.all(sql, parent, after_cookie, limit)

    def entries_with_inodes(self, parent: int, after_cookie: int, limit: int) -> list[tuple[int, bytes, Inode]]:
        """As `entries`, with the inodes, in one query."""
        rows = self._store.all(_JOINED, parent, after_cookie, limit)
        return [(row[0], row[1], Inode(*row[2:])) for row in rows]

    def is_empty(self, parent: int) -> bool:
        return self._store.one("SELECT 1 FROM dirent WHERE parent = ? LIMIT 1", parent) is None

    def path_of(self, ino: int) -> bytes | None:
        """One path of an inode from the root, for naming damaged files; None if no directory leads to it."""
        parts: list[bytes] = []
        while ino != ROOT_INO and len(parts) < _MAX_DEPTH:
            row = self._store.one("SELECT parent, name FROM dirent WHERE ino = ? LIMIT 1", ino)
            if row is None:
                return None
            ino = row[0]
            parts.append(row[1])
        return b"/" + b"/".join(reversed(parts)) if ino == ROOT_INO else None

    # ---- symlinks, xattrs, orphans

    def set_symlink(self, ino: int, target: bytes) -> None:
        self._store.run("INSERT INTO symlink VALUES (?, ?)", ino, target)

    def get_symlink(self, ino: int) -> bytes | None:
        target: bytes | None = self._store.value("SELECT target FROM symlink WHERE ino = ?", ino)
        return target

    def get_xattr(self, ino: int, name: bytes) -> bytes | None:
        value: bytes | None = self._store.value("SELECT value FROM xattr WHERE ino = ? AND name = ?", ino, name)
        return value

    def set_xattr(self, ino: int, name: bytes, value: bytes) -> None:
        sql = "INSERT INTO xattr VALUES (?, ?, ?) ON CONFLICT (ino, name) DO UPDATE SET value = excluded.value"
        self._store.run(sql, ino, name, value)

    def list_xattrs(self, ino: int) -> list[bytes]:
        return [name for (name,) in self._store.all("SELECT name FROM xattr WHERE ino = ? ORDER BY name", ino)]

    def remove_xattr(self, ino: int, name: bytes) -> bool:
        """Whether there was one to remove."""
        self._store.run("DELETE FROM xattr WHERE ino = ? AND name = ?", ino, name)
        return self._store.changed() == 1

    def add_orphan(self, ino: int) -> None:
        """Marks an inode as unlinked but open; the next opening removes it."""
        self._store.run("INSERT OR IGNORE INTO orphan VALUES (?)", ino)

    def remove_orphan(self, ino: int) -> None:
        self._store.run("DELETE FROM orphan WHERE ino = ?", ino)

    def orphans(self) -> list[int]:
        return [ino for (ino,) in self._store.all("SELECT ino FROM orphan ORDER BY ino")]
