"""Reading directories by cookie.

An entry's cookie never changes and is never used again in its directory, so a position survives any change around it:
nothing is skipped or shown twice, whatever is made or removed meanwhile, and telldir/seekdir work.

What was made or got its name since a handle was opened, or was at the start, is not shown: new entries come last, so a
program that renames, or makes a name for, each one that it reads would never reach the end. btrfs does the same. (A
renamed entry can't keep its cookie: two that swap names in one commit would be rows that can't be replayed one by one,
since a cookie is unique.)
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from ecfs.fs.caller import Caller
from ecfs.fs.core import Core
from ecfs.fs.errors import FsError
from ecfs.fs.orphans import Orphans
from ecfs.meta import Inode

_DOT, _DOT_DOT = 1, 2
"""The positions of ``.`` and ``..``, which no cookie has; an entry's position is its cookie."""

_BATCH = 32
"""Entries per query: about what fits into the kernel's smallest buffer."""


@dataclass(frozen=True, slots=True)
class DirEntry:
    """position: where to go on after this entry. counted: the kernel counts a lookup for it (not for . and ..)."""

    position: int
    name: bytes
    inode: Inode
    counted: bool = True


class Directories:
    """Open directories."""

    def __init__(self, core: Core, orphans: Orphans) -> None:
        self._core = core
        self._orphans = orphans

    def open(self, ino: int, caller: Caller) -> int:
        """A handle; of a directory that was removed while in use too. Raises ESTALE, ENOTDIR."""
        if not stat.S_ISDIR(self._core.inode(ino).mode):
            raise FsError(errno.ENOTDIR)
        fh = self._core.handles.open(ino, caller=caller, failures=self._core.data.failures)
        self._core.handles.get(fh).end = self._core.names.next_cookie
        return fh

    def read(self, fh: int, position: int) -> Iterator[DirEntry]:
        """The entries after `position` (0 = from the start), read as they are asked for. Raises EBADF.

        Exhaust or drop the iterator before the next await: its queries belong to one moment.
        """
        handle = self._core.handles.get(fh)
        ino = handle.ino
        if position < _DOT:
            handle.end = self._core.names.next_cookie
            yield DirEntry(_DOT, b".", self._core.inode(ino), counted=False)
        if position < _DOT_DOT:
            yield DirEntry(_DOT_DOT, b"..", self._parent(ino), counted=False)
        after = position
        while rows := self._core.names.entries_with_inodes(ino, after, _BATCH):
            for cookie, name, inode in rows:
                if cookie >= handle.end:
                    return
                yield DirEntry(cookie, name, inode)
            after = rows[-1][0]

    def _parent(self, ino: int) -> Inode:
        directory = self._core.inode(ino)
        return self._core.names.inode(directory.parent) or directory

    async def fsync(self, fh: int) -> None:
        """Return when everything answered before is durable. Raises EBADF and what the data raises."""
        self._core.handles.get(fh)
        await self._core.data.sync()

    async def release(self, fh: int) -> None:
        """Raises EBADF."""
        ino = self._core.handles.close(fh)
        await self._orphans.released([ino])
