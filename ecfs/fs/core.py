"""What all operations of the file system share: the rooms below, and the frame of a change."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ecfs.clock import Clock
from ecfs.fs.data import FileData
from ecfs.fs.errors import FsError
from ecfs.fs.handles import Handles
from ecfs.meta import Database, Inode
from ecfs.meta.namespace import Namespace as Names


@dataclass(frozen=True)
class Core:
    """The metadata, the data, the clock and the open handles of one mounted pool."""

    db: Database
    data: FileData
    clock: Clock
    handles: Handles = field(default_factory=Handles)

    @property
    def names(self) -> Names:
        return self.db.names

    @contextmanager
    def change(self) -> Iterator[None]:
        """The stretch without await that makes one operation: all of it or nothing. Comes after `admit`."""
        with self.db.atomic():
            yield
        self.data.changed()

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
