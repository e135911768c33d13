"""What all operations of the file system share: the rooms below, and the frame of a change."""

from __future__ import annotations

import errno
import stat
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType

from ecfs.clock import Clock
from ecfs.fs.data import FileData
from ecfs.fs.errors import FsError
from ecfs.fs.handles import Handles
from ecfs.meta import Database, Inode
from ecfs.meta.namespace import Namespace as Names


class Change:
    """The frame of one operation that changes something. A class, since a generator would take twice as long."""

    __slots__ = ("_atomic", "_data")

    def __init__(self, atomic: AbstractContextManager[None], data: FileData) -> None:
        self._atomic = atomic
        self._data = data

    def __enter__(self) -> None:
        self._atomic.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._atomic.__exit__(kind, error, at)
        if error is None:
            self._data.changed()


@dataclass(frozen=True)
class Core:
    """The metadata, the data, the clock and the open handles of one mounted pool."""

    db: Database
    data: FileData
    clock: Clock
    handles: Handles = field(default_factory=Handles)
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", self.db.names)

    def change(self) -> Change:
        """The stretch without await that makes one operation: all of it or nothing. Comes after `admit`."""
        return Change(self.db.atomic(), self.data)

    def inode(self, ino: int) -> Inode:
        """Raises ESTALE: the kernel, or a handle of an exported folder, asks for an inode that is gone."""
        inode = self.names.inode(ino)
        if inode is None:
            raise FsError(errno.ESTALE, f"no inode {ino}")
        return inode

    def directory(self, ino: int) -> Inode:
        """Raises ENOTDIR, and ENOENT for a directory that was removed while in use: nothing can be made in it."""
        inode = self.inode(ino)
        if not stat.S_ISDIR(inode.mode):
            raise FsError(errno.ENOTDIR)
        if inode.nlink == 0:
            raise FsError(errno.ENOENT, "the directory was removed")
        return inode

    def entry(self, parent: int, name: bytes) -> Inode:
        """The inode a name leads to. Raises ENOENT."""
        ino = self.names.lookup(parent, name)
        if ino is None:
            raise FsError(errno.ENOENT)
        return self.inode(ino)

    def touch(self, ino: int, now: int) -> None:
        """A directory's entries changed."""
        self.names.update_inode(ino, mtime_ns=now, ctime_ns=now)
