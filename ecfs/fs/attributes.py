"""Attributes: what stat shows, and what chmod, chown, truncate and utimensat change besides what they were asked to.

Reading does not touch atime: it is set at creation and by utimensat only. Anything else would turn reading into
writing, wake idle drives and put a row per file read into the journal (docs/LIMITS.md).
"""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass
from typing import NamedTuple

from ecfs.fs import acl
from ecfs.fs.caller import STRANGER, Caller
from ecfs.fs.core import Core
from ecfs.fs.errors import FsError
from ecfs.fs.limits import check_file_end, clamp_time
from ecfs.meta import Inode

DIRECTORY_SIZE = 4096
"""What stat shows for every directory; its entries live in the metadata, not in blocks."""

_STAT_BLOCK = 512


class Attributes(NamedTuple):
    """One inode as stat shows it. Times in ns since 1970; blocks of 512 bytes."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What setattr was asked for; None = leave alone.

    caller: who asks, and so may keep setuid and setgid bits on a file whose content or owner changes, or not.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    caller: Caller = STRANGER

    @property
    def nothing(self) -> bool:
        """What the kernel asks for before a write to a setuid or setgid file, or at chown(2) to -1 and -1 by anybody.

        The bits have to go (`fuse_init`), and the answer must say so: the kernel runs the file with the mode that it
        was told last, and asks for no newer one after a write. The two look the same, but a writer has it open for
        that.
        """
        return self == Changes(caller=self.caller)


class AttributeOperations:
    """getattr and setattr."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, ino: int) -> Attributes:
        """Raises ESTALE if there is no such inode."""
        return self.of(self._core.inode(ino))

    def of(self, inode: Inode) -> Attributes:
        """What stat shows of a row that was just read."""
        is_file = stat.S_ISREG(inode.mode)
        allocated = min(self._core.data.allocated(inode.ino), inode.size) if is_file and inode.size else 0
        return Attributes(
            ino=inode.ino,
            mode=inode.mode,
            nlink=inode.nlink,
            uid=inode.uid,
            gid=inode.gid,
            rdev=inode.rdev,
            size=DIRECTORY_SIZE if stat.S_ISDIR(inode.mode) else inode.size,
            blocks=-(-allocated // _STAT_BLOCK),
            atime_ns=inode.atime_ns,
            mtime_ns=inode.mtime_ns,
            ctime_ns=inode.ctime_ns,
        )

    async def set(self, ino: int, changes: Changes) -> Attributes:
        """chmod, chown, truncate, utimensat, in any combination, as one change.

        Raises ESTALE, EISDIR, EINVAL, EFBIG, EPERM.
        """
        if changes.size is not None:
            check_file_end(changes.size)
        await self._core.data.admit(0, deleting=True)  # nothing here grows: cp and tar set modes and times at their end
        with self._core.change():
            inode = self._core.inode(ino)
            if changes.nothing and self._is_foreign(inode, changes.caller):
                raise FsError(errno.EPERM, "a stranger can't take setuid and setgid away by chown")
            now = self._core.clock.wall_ns()
            columns = _owner_and_mode(inode, changes) | _times(changes, now)
            if changes.size is not None:
                self._resize(inode, changes.size)
                columns["size"] = changes.size
            self._core.names.update_inode(ino, **columns)
            if changes.mode is not None:
                acl.follow_chmod(self._core.names, inode, columns["mode"])
        if changes.size is not None:
            self._core.handles.wrote(ino, self._core.data.failures)
        return self.get(ino)

    def _is_foreign(self, inode: Inode, caller: Caller) -> bool:
        """Whether what would take the bits away is a stranger's chown, and not a write: for that it is open."""
        loses = stat.S_ISREG(inode.mode) and without_setid(inode, caller) != inode.mode
        return loses and caller.uid not in (0, inode.uid) and not self._core.handles.may_be_written(inode.ino)

    def _resize(self, inode: Inode, size: int) -> None:
        if stat.S_ISDIR(inode.mode):
            raise FsError(errno.EISDIR)
        if not stat.S_ISREG(inode.mode):
            raise FsError(errno.EINVAL, "only a regular file can be truncated")
        if size < inode.size:
            self._core.data.truncate(inode.ino, size)


def _owner_and_mode(inode: Inode, changes: Changes) -> dict[str, int]:
    """mode, uid and gid columns. A changed owner or content takes setuid and setgid away (chown(2), write(2))."""
    mode = inode.mode
    if changes.mode is not None:
        mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(changes.mode)
    chowned = changes.uid is not None or changes.gid is not None or changes.nothing
    rewritten = changes.size is not None and not changes.caller.privileged
    if (chowned or rewritten) and stat.S_ISREG(mode):
        mode = without_setid(inode._replace(mode=mode), changes.caller)
    columns = {"mode": mode}
    if changes.uid is not None:
        columns["uid"] = changes.uid
    if changes.gid is not None:
        columns["gid"] = changes.gid
    return columns


def without_setid(inode: Inode, caller: Caller) -> int:
    """The mode without setuid; and without setgid if that means a program's group, or `caller` is not of the group."""
    mode = inode.mode & ~stat.S_ISUID
    if mode & stat.S_IXGRP or (mode & stat.S_ISGID and not caller.keeps_setgid(inode.gid)):
        mode &= ~stat.S_ISGID
    return mode


def _times(changes: Changes, now: int) -> dict[str, int]:
    columns = {"ctime_ns": now if changes.ctime_ns is None else clamp_time(changes.ctime_ns)}
    if changes.size is not None:
        columns["mtime_ns"] = now
    if changes.atime_ns is not None:
        columns["atime_ns"] = clamp_time(changes.atime_ns)
    if changes.mtime_ns is not None:
        columns["mtime_ns"] = clamp_time(changes.mtime_ns)
    return columns
