"""The file system: its parts put together, over one pool's metadata and data."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass

from ecfs.clock import Clock
from ecfs.fs.attributes import AttributeOperations
from ecfs.fs.core import Core
from ecfs.fs.data import FileData
from ecfs.fs.directories import Directories
from ecfs.fs.files import Files
from ecfs.fs.health import examine
from ecfs.fs.limits import MAX_NAME
from ecfs.fs.namespace import Namespace
from ecfs.fs.orphans import Orphans
from ecfs.fs.rename import Rename
from ecfs.fs.xattrs import Xattrs
from ecfs.meta import ROOT_INO, Database, Inode

BLOCK = 4096
"""Bytes; what statfs counts in."""
_INODE_LIMIT = 2**40
"""What statfs shows: inodes are rows, their number has no limit of its own."""


@dataclass(frozen=True, slots=True)
class Usage:
    """statfs: in blocks of `block` bytes, usable for files."""

    block: int
    blocks: int
    blocks_free: int
    inodes: int
    inodes_free: int
    max_name: int


class FileSystem:
    """Everything a mounted folder can do, one part per kind of operation.

    db is shared with the commit engine behind `data`; every call is made from the one thread that runs trio.
    """

    def __init__(
        self, db: Database, data: FileData, clock: Clock, out_slots: Callable[[], frozenset[int]] = frozenset
    ) -> None:
        """out_slots: drives that can't be counted on now, for what is said of a file's health."""
        self._core = Core(db, data, clock)
        self.handles = self._core.handles
        self.orphans = Orphans(self._core)
        self.attributes = AttributeOperations(self._core)
        self.files = Files(self._core, self.attributes, self.orphans)
        self.directories = Directories(self._core, self.orphans)
        self.namespace = Namespace(self._core, self.orphans)
        self.renaming = Rename(self._core, self.orphans)
        self.xattrs = Xattrs(self._core, lambda ino: examine(db, ino, out_slots()))

    async def clean_orphans(self) -> int:
        """Once, before serving: remove what was unlinked but still open when the last mount ended."""
        return await self.orphans.clean()

    async def sync(self) -> None:
        """Return when everything answered before is durable. Raises as `FileData.sync`."""
        await self._core.data.sync()

    def usage(self) -> Usage:
        """For statfs."""
        space = self._core.data.usable()
        used, _ = self._core.names.counts()
        return Usage(
            block=BLOCK,
            blocks=space.total // BLOCK,
            blocks_free=max(space.free, 0) // BLOCK,
            inodes=_INODE_LIMIT,
            inodes_free=_INODE_LIMIT - used,
            max_name=MAX_NAME,
        )


def add_root(db: Database, clock: Clock, *, uid: int, gid: int, mode: int = 0o755) -> None:
    """The root directory of a new pool, which is its own parent; part of the running transaction."""
    now = clock.wall_ns()
    with db.atomic():
        db.names.add_inode(
            Inode(
                ino=ROOT_INO,
                mode=stat.S_IFDIR | stat.S_IMODE(mode),
                uid=uid,
                gid=gid,
                nlink=2,
                size=0,
                rdev=0,
                atime_ns=now,
                mtime_ns=now,
                ctime_ns=now,
                parent=ROOT_INO,
            )
        )
