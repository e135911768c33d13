"""Extended attributes: user., trusted., security. and the two POSIX access control lists.

Who may see or set which namespace is checked by the kernel, except that ``trusted.`` is hidden from the list of anyone
but root.
"""

from __future__ import annotations

import errno
import stat

from ecfs.fs import acl
from ecfs.fs.caller import Caller
from ecfs.fs.core import Core
from ecfs.fs.errors import FsError
from ecfs.fs.health import ATTRIBUTE, Examine, in_words
from ecfs.fs.inodes import HAS_XATTRS
from ecfs.meta import Inode

MAX_NAME = 255
MAX_VALUE = 64 * 1024
MAX_LIST = 64 * 1024
"""Bytes of all names of one inode, each with a NUL: what listxattr(2) can return."""

_NAMESPACES = (b"user.", b"trusted.", b"security.")
_TRUSTED = b"trusted."
_ACLS = (acl.ACCESS, acl.DEFAULT)


class Xattrs:
    """Operations on the extended attributes of one inode."""

    def __init__(self, core: Core, examine: Examine) -> None:
        """examine: how well an inode's file is kept, for `health.ATTRIBUTE`."""
        self._core = core
        self._examine = examine

    def has_none(self, ino: int) -> bool:
        """Whether the inode has no extended attribute that is stored. Raises ESTALE."""
        return not self._core.inode(ino).flags & HAS_XATTRS

    def get(self, ino: int, name: bytes) -> bytes:
        """Raises ENODATA, EOPNOTSUPP for an unknown namespace, EINVAL for one without a name."""
        _check_name(name)
        if name == ATTRIBUTE:
            self._core.inode(ino)
            return in_words(self._examine(ino), self._core.db.drives.geometry().n).encode()
        value = self._stored(self._core.inode(ino), name)
        if value is None:
            raise FsError(errno.ENODATA)
        return value

    def list(self, ino: int, caller: Caller) -> list[bytes]:
        """The names that the caller may know of."""
        if not self._core.inode(ino).flags & HAS_XATTRS:
            return []
        names = self._core.names.list_xattrs(ino)
        return [name for name in names if caller.privileged or not name.startswith(_TRUSTED)]

    async def set(
        self, ino: int, name: bytes, value: bytes, caller: Caller, *, create: bool = False, replace: bool = False
    ) -> None:
        """Raises EEXIST (`create`), ENODATA (`replace`), E2BIG, ERANGE, ENOSPC (too many names), EOPNOTSUPP, and EPERM
        for what ecfs itself says of a file."""
        _check_name(name, writing=True)
        if len(value) > MAX_VALUE:
            raise FsError(errno.E2BIG, f"an extended attribute of {len(value)} bytes")
        await self._core.data.admit(0, metadata=len(name) + len(value))
        with self._core.change():
            inode = self._core.inode(ino)
            old = self._stored(inode, name)
            if old is not None and create:
                raise FsError(errno.EEXIST)
            if old is None and replace:
                raise FsError(errno.ENODATA)
            if name in _ACLS:
                self._set_acl(inode, name, value, caller)
            else:
                self._store(inode, name, value)

    async def remove(self, ino: int, name: bytes) -> None:
        """Raises ENODATA, EOPNOTSUPP, EPERM. An access control list that is not there is gone already, as elsewhere."""
        _check_name(name, writing=True)
        await self._core.data.admit(0, deleting=True)
        with self._core.change():
            inode = self._core.inode(ino)
            if self._stored(inode, name) is not None:
                self._drop(inode, name)
            elif name not in _ACLS:  # without a list of its own, a file has that of its mode bits
                raise FsError(errno.ENODATA)

    def _stored(self, inode: Inode, name: bytes) -> bytes | None:
        return self._core.names.get_xattr(inode.ino, name) if inode.flags & HAS_XATTRS else None

    def _store(self, inode: Inode, name: bytes, value: bytes) -> None:
        names = set(self._core.names.list_xattrs(inode.ino)) if inode.flags & HAS_XATTRS else set()
        if sum(len(each) + 1 for each in names | {name}) > MAX_LIST:
            raise FsError(errno.ENOSPC, "too many extended attributes")
        self._core.names.set_xattr(inode.ino, name, value)
        self._core.names.update_inode(inode.ino, flags=inode.flags | HAS_XATTRS, ctime_ns=self._core.clock.wall_ns())

    def _drop(self, inode: Inode, name: bytes) -> None:
        self._core.names.remove_xattr(inode.ino, name)
        left = self._core.names.list_xattrs(inode.ino)
        flags = inode.flags if left else inode.flags & ~HAS_XATTRS
        self._core.names.update_inode(inode.ino, flags=flags, ctime_ns=self._core.clock.wall_ns())

    def _set_acl(self, inode: Inode, name: bytes, value: bytes, caller: Caller) -> None:
        """A list that mode bits can say is not kept; the mode follows the access list."""
        entries = acl.parse(value)
        if name == acl.DEFAULT:
            if not stat.S_ISDIR(inode.mode):
                raise FsError(errno.EACCES, "only a directory has a default access control list")
            self._store(inode, name, value)
            return
        mode = acl.mode_of(entries, inode.mode)
        if not caller.keeps_setgid(inode.gid):
            mode &= ~stat.S_ISGID
        self._core.names.update_inode(inode.ino, mode=mode, ctime_ns=self._core.clock.wall_ns())
        if acl.says_more_than_mode(entries):
            self._store(inode, name, value)
        elif self._stored(inode, name) is not None:
            self._drop(inode, name)


def _check_name(name: bytes, *, writing: bool = False) -> None:
    if writing and name == ATTRIBUTE:
        raise FsError(errno.EPERM, "only ecfs says how a file is")
    if len(name) > MAX_NAME:
        raise FsError(errno.ERANGE, f"an extended attribute's name of {len(name)} bytes")
    if name in _NAMESPACES:
        raise FsError(errno.EINVAL, f"a namespace without a name: {name!r}")
    if name not in _ACLS and not name.startswith(_NAMESPACES):
        raise FsError(errno.EOPNOTSUPP, f"no such namespace: {name!r}")
