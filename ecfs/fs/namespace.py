"""Names: lookup, and making and removing what they lead to. Renaming has a module of its own."""

from __future__ import annotations

import errno
import stat

from ecfs.fs import acl
from ecfs.fs.caller import Caller
from ecfs.fs.core import Core
from ecfs.fs.errors import FsError
from ecfs.fs.limits import MAX_LINKS, MAX_SYMLINK, check_name
from ecfs.fs.orphans import Orphans
from ecfs.meta import Inode

_KINDS = {stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK}


class Namespace:
    """Operations on the entries of directories. Each answers with the inode it led to, made or changed."""

    def __init__(self, core: Core, orphans: Orphans) -> None:
        self._core = core
        self._orphans = orphans

    def lookup(self, parent: int, name: bytes) -> Inode | None:
        """None if there is no such name. ``.`` and ``..`` are understood. Raises ENOTDIR, ENAMETOOLONG."""
        directory = self._core.inode(parent)
        if not stat.S_ISDIR(directory.mode):
            raise FsError(errno.ENOTDIR)
        if name == b".":
            return directory
        if name == b"..":
            return self._core.inode(directory.parent)
        check_name(name)
        ino = self._core.names.lookup(parent, name)
        return None if ino is None else self._core.inode(ino)

    def readlink(self, ino: int) -> bytes:
        """The target of a symbolic link. Raises EINVAL for anything else."""
        if not stat.S_ISLNK(self._core.inode(ino).mode):
            raise FsError(errno.EINVAL)
        target = self._core.names.get_symlink(ino)
        if target is None:
            raise FsError(errno.EIO, f"symbolic link {ino} has no target")
        return target

    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Inode:
        """A regular file, FIFO, socket or device. Raises EEXIST, ENOTDIR, ENOENT, EINVAL, ENAMETOOLONG."""
        check_name(name)
        if stat.S_IFMT(mode) not in _KINDS:
            raise FsError(errno.EINVAL, f"can't make a file of mode {mode:o}")
        await self._admit(parent, mode)
        with self._core.change():
            return self._make(parent, name, mode, caller, rdev=rdev)

    async def create(self, parent: int, name: bytes, mode: int, caller: Caller, *, exclusive: bool) -> Inode:
        """A regular file, or the one that is there already unless `exclusive`. Raises EEXIST, EISDIR and as `mknod`."""
        check_name(name)
        await self._admit(parent, stat.S_IFREG)
        with self._core.change():
            ino = self._core.names.lookup(parent, name)
            if ino is None:
                directory = self._core.directory(parent)
                return self._make_in(directory, name, stat.S_IFREG | stat.S_IMODE(mode), caller)
            inode = self._core.inode(ino)
        if exclusive:
            raise FsError(errno.EEXIST)
        if stat.S_ISDIR(inode.mode):
            raise FsError(errno.EISDIR)
        return inode

    async def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Inode:
        """Raises EEXIST, ENOTDIR, ENOENT, EMLINK, ENAMETOOLONG."""
        check_name(name)
        await self._admit(parent, stat.S_IFDIR)
        with self._core.change():
            inode = self._make(parent, name, stat.S_IFDIR | stat.S_IMODE(mode), caller)
            add_links(self._core, parent, 1)
            return inode

    async def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Inode:
        """Raises EEXIST, ENOTDIR, ENOENT, ENAMETOOLONG (for a target over 4,095 bytes too)."""
        check_name(name)
        if len(target) > MAX_SYMLINK:
            raise FsError(errno.ENAMETOOLONG, f"a symbolic link to {len(target)} bytes")
        if not target:
            raise FsError(errno.ENOENT, "a symbolic link to nothing")
        await self._core.data.admit(0, metadata=len(target))
        with self._core.change():
            inode = self._make(parent, name, stat.S_IFLNK | 0o777, caller, size=len(target))
            self._core.names.set_symlink(inode.ino, target)
            return inode

    async def link(self, ino: int, parent: int, name: bytes) -> Inode:
        """One more name for a file. Raises EPERM for a directory, ENOENT for a file without a name, EMLINK, EEXIST."""
        check_name(name)
        await self._core.data.admit(0)
        with self._core.change():
            inode = self._core.inode(ino)
            if stat.S_ISDIR(inode.mode):
                raise FsError(errno.EPERM, "a directory has one name")
            if inode.nlink == 0:
                raise FsError(errno.ENOENT, "the file was removed")
            self._vacant(parent, name)
            now = self._core.clock.wall_ns()
            add_links(self._core, ino, 1)
            self._core.names.update_inode(ino, ctime_ns=now)
            self._core.names.link(parent, name, ino)
            self._core.touch(parent, now)
            return self._core.inode(ino)

    async def unlink(self, parent: int, name: bytes) -> None:
        """Raises ENOENT, EISDIR for a directory. The file goes when nobody holds it."""
        check_name(name)
        await self._core.data.admit(0, deleting=True)
        with self._core.change():
            self._core.directory(parent)
            inode = self._core.entry(parent, name)
            if stat.S_ISDIR(inode.mode):
                raise FsError(errno.EISDIR)
            now = self._core.clock.wall_ns()
            self._core.names.unlink(parent, name, inode.ino)
            self._core.touch(parent, now)
            drop_name(self._core, self._orphans, inode, now)

    async def rmdir(self, parent: int, name: bytes) -> None:
        """Raises ENOENT, ENOTDIR, ENOTEMPTY."""
        check_name(name)
        await self._core.data.admit(0, deleting=True)
        with self._core.change():
            self._core.directory(parent)
            inode = self._core.entry(parent, name)
            if not stat.S_ISDIR(inode.mode):
                raise FsError(errno.ENOTDIR)
            if not self._core.names.is_empty(inode.ino):
                raise FsError(errno.ENOTEMPTY)
            now = self._core.clock.wall_ns()
            self._core.names.unlink(parent, name, inode.ino)
            self._core.touch(parent, now)
            add_links(self._core, parent, -1)
            drop_name(self._core, self._orphans, inode, now)

    async def _admit(self, parent: int, mode: int) -> None:
        """Something new of this kind in `parent`, with what it inherits."""
        await self._core.data.admit(0, metadata=acl.to_be_inherited(self._core.names, parent, mode))

    def _vacant(self, parent: int, name: bytes) -> Inode:
        """The directory in which `name` may now be made. Raises EEXIST, ENOTDIR, ENOENT."""
        directory = self._core.directory(parent)
        if self._core.names.lookup(parent, name) is not None:
            raise FsError(errno.EEXIST)
        return directory

    def _make(self, parent: int, name: bytes, mode: int, caller: Caller, *, rdev: int = 0, size: int = 0) -> Inode:
        return self._make_in(self._vacant(parent, name), name, mode, caller, rdev=rdev, size=size)

    def _make_in(
        self, directory: Inode, name: bytes, mode: int, caller: Caller, *, rdev: int = 0, size: int = 0
    ) -> Inode:
        """Where it is known that there is no such name."""
        parent = directory.ino
        mode, gid = _inherited(directory, mode, caller)
        now = self._core.clock.wall_ns()
        is_directory = stat.S_ISDIR(mode)
        inode = Inode(
            ino=self._core.names.new_ino(),
            mode=mode,
            uid=caller.uid,
            gid=gid,
            nlink=2 if is_directory else 1,
            size=size,
            rdev=rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0,
            atime_ns=now,
            mtime_ns=now,
            ctime_ns=now,
            parent=parent if is_directory else 0,
            flags=0,
        )
        self._core.names.add_inode(inode)
        self._core.names.link(parent, name, inode.ino)
        self._core.touch(parent, now)
        return acl.inherit(self._core.names, directory, inode)


def _inherited(directory: Inode, mode: int, caller: Caller) -> tuple[int, int]:
    """Mode and group of something new. A setgid directory gives its group to all, and its bit to directories."""
    if not directory.mode & stat.S_ISGID:
        return mode, caller.gid
    return mode | stat.S_ISGID if stat.S_ISDIR(mode) else mode, directory.gid


def add_links(core: Core, ino: int, step: int) -> None:
    """Change nlink inside a change. Raises EMLINK."""
    nlink = core.inode(ino).nlink + step
    if nlink > MAX_LINKS:
        raise FsError(errno.EMLINK)
    core.names.update_inode(ino, nlink=nlink)


def drop_name(core: Core, orphans: Orphans, inode: Inode, now: int) -> None:
    """One name of `inode` was removed inside this change; a directory has only one."""
    nlink = 0 if stat.S_ISDIR(inode.mode) else inode.nlink - 1
    core.names.update_inode(inode.ino, nlink=nlink, ctime_ns=now)
    if nlink == 0:
        orphans.lost_last_name(inode.ino)
