"""rename(2) and renameat2(2): move, replace, exchange."""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass

from ecfs.fs.core import Core
from ecfs.fs.errors import FsError
from ecfs.fs.limits import check_name
from ecfs.fs.namespace import add_links, drop_name
from ecfs.fs.orphans import Orphans
from ecfs.meta import ROOT_INO, Inode

NOREPLACE = 1
EXCHANGE = 2


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a directory."""

    parent: int
    name: bytes


class Rename:
    """One operation, in its two kinds."""

    def __init__(self, core: Core, orphans: Orphans) -> None:
        self._core = core
        self._orphans = orphans

    async def rename(self, old: Place, new: Place, flags: int = 0) -> None:
        """Move `old` to `new`, replacing what is there, or exchange both (EXCHANGE).

        Raises ENOENT, EEXIST (NOREPLACE), EISDIR, ENOTDIR, ENOTEMPTY, EINVAL (into itself, unknown flags), EMLINK.
        """
        check_name(old.name)
        check_name(new.name)
        if flags not in (0, NOREPLACE, EXCHANGE):
            raise FsError(errno.EINVAL, f"rename flags {flags:#x}")
        await self._core.data.admit(0, deleting=True)
        with self._core.change():
            self._core.directory(old.parent)
            self._core.directory(new.parent)
            moved = self._core.entry(old.parent, old.name)
            target = self._core.names.lookup(new.parent, new.name)
            if flags == EXCHANGE:
                self._exchange(old, moved, new, self._core.entry(new.parent, new.name))
            elif target is None:
                self._move(old, moved, new)
            elif flags == NOREPLACE:
                raise FsError(errno.EEXIST)
            elif target != moved.ino:
                self._replace(old, moved, new, self._core.inode(target))

    def _move(self, old: Place, moved: Inode, new: Place) -> None:
        self._not_into_itself(moved, old.parent, new.parent)
        now = self._core.clock.wall_ns()
        self._core.names.unlink(old.parent, old.name)
        self._core.names.link(new.parent, new.name, moved.ino)
        self._arrived(moved, old.parent, new.parent, now)
        self._touch_both(old, new, now)

    def _replace(self, old: Place, moved: Inode, new: Place, target: Inode) -> None:
        self._not_into_itself(moved, old.parent, new.parent)
        self._replaceable(moved, target)
        now = self._core.clock.wall_ns()
        self._core.names.unlink(old.parent, old.name)
        self._core.names.replace_entry(new.parent, new.name, moved.ino)
        if stat.S_ISDIR(target.mode):
            add_links(self._core, new.parent, -1)
        self._arrived(moved, old.parent, new.parent, now)
        self._touch_both(old, new, now)
        drop_name(self._core, self._orphans, target, now)

    def _exchange(self, old: Place, moved: Inode, new: Place, other: Inode) -> None:
        self._not_into_itself(moved, old.parent, new.parent)
        self._not_into_itself(other, new.parent, old.parent)
        now = self._core.clock.wall_ns()
        if moved.ino != other.ino:
            self._core.names.replace_entry(old.parent, old.name, other.ino)
            self._core.names.replace_entry(new.parent, new.name, moved.ino)
            self._arrived(moved, old.parent, new.parent, now)
            self._arrived(other, new.parent, old.parent, now)
        self._touch_both(old, new, now)

    def _replaceable(self, moved: Inode, target: Inode) -> None:
        if not stat.S_ISDIR(target.mode):
            if stat.S_ISDIR(moved.mode):
                raise FsError(errno.ENOTDIR)
        elif not stat.S_ISDIR(moved.mode):
            raise FsError(errno.EISDIR)
        elif not self._core.names.is_empty(target.ino):
            raise FsError(errno.ENOTEMPTY)

    def _not_into_itself(self, moved: Inode, source: int, parent: int) -> None:
        """A directory moved below itself would be cut off from the root, and everything in it with it."""
        if source == parent or not stat.S_ISDIR(moved.mode):
            return
        while parent != ROOT_INO:
            if parent == moved.ino:
                raise FsError(errno.EINVAL, "a directory can't go below itself")
            parent = self._core.inode(parent).parent

    def _arrived(self, moved: Inode, source: int, destination: int, now: int) -> None:
        """Link counts and ``..`` of a directory follow it; ctime says that something was renamed."""
        self._core.names.update_inode(moved.ino, ctime_ns=now)
        if stat.S_ISDIR(moved.mode) and source != destination:
            self._core.names.update_inode(moved.ino, parent=destination)
            add_links(self._core, source, -1)
            add_links(self._core, destination, 1)

    def _touch_both(self, old: Place, new: Place, now: int) -> None:
        for parent in {old.parent, new.parent}:
            self._core.touch(parent, now)
