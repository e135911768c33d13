"""Files: open, read, write, fsync.

O_APPEND needs nothing here: the kernel knows the size and sends the offset. Appending by ourselves would be wrong: a
page of a shared mapping may be written back through a handle that was opened for appending.
"""

from __future__ import annotations

import errno
import os
import stat

from ecfs.errors import EcfsError
from ecfs.fs.attributes import AttributeOperations, Changes, without_setid
from ecfs.fs.caller import Caller
from ecfs.fs.core import Core
from ecfs.fs.errors import FsError
from ecfs.fs.limits import check_file_end
from ecfs.fs.orphans import Orphans
from ecfs.fs.reserving import MARK, STRIDE


class Files:
    """Operations on open files. A handle is a number from `open`."""

    def __init__(self, core: Core, attributes: AttributeOperations, orphans: Orphans) -> None:
        self._core = core
        self._attributes = attributes
        self._orphans = orphans

    async def open(self, ino: int, flags: int, caller: Caller) -> int:
        """A handle; O_TRUNC empties the file. Raises ESTALE, EISDIR, ELOOP."""
        inode = self._core.inode(ino)
        if stat.S_ISDIR(inode.mode):
            raise FsError(errno.EISDIR)
        if stat.S_ISLNK(inode.mode):
            raise FsError(errno.ELOOP)
        writing = flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
        fh = self._core.handles.open(ino, caller=caller, failures=self._core.data.failures, writing=writing)
        if flags & os.O_TRUNC:
            await self._truncate_for(fh, ino, caller)
        return fh

    async def _truncate_for(self, fh: int, ino: int, caller: Caller) -> None:
        try:
            await self._attributes.set(ino, Changes(size=0, caller=caller))
        except BaseException:
            self._core.handles.close(fh)
            raise

    async def read(self, fh: int, offset: int, length: int) -> bytes:
        """Up to `length` bytes, fewer at the end of the file. Raises EBADF and what the data raises."""
        ino = self._core.handles.get(fh).ino
        length = min(length, self._core.inode(ino).size - offset)
        if length <= 0:
            return b""
        return await self._core.data.read(ino, offset, length)

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """All of `data`, or nothing. Raises EBADF, EFBIG, ENOSPC and what admission raises."""
        check_file_end(offset + len(data))
        if data == MARK:
            await self._check_reserving(fh, offset)
        await self._core.data.admit(len(data))
        handle = self._core.handles.get(fh)
        if not data:
            return 0
        with self._core.change():
            inode = self._core.inode(handle.ino)
            now = self._core.clock.wall_ns()
            columns = {"size": max(inode.size, offset + len(data)), "mtime_ns": now, "ctime_ns": now}
            if inode.mode & (stat.S_ISUID | stat.S_ISGID) and not handle.caller.privileged:
                columns["mode"] = without_setid(inode, handle.caller)
            if data != MARK or not self._core.data.is_hole(handle.ino, offset):
                self._core.data.write(handle.ino, offset, data)
            self._core.names.update_inode(handle.ino, **columns)
        self._core.handles.wrote(handle.ino, self._core.data.failures)
        return len(data)

    async def _check_reserving(self, fh: int, offset: int) -> None:
        reserved = self._core.handles.get(fh).reserving.mark(offset)
        if reserved > STRIDE and not await self._core.data.has_room(reserved):
            raise FsError(errno.ENOSPC, f"{reserved} bytes are more than what is free")

    async def fsync(self, fh: int) -> None:
        """Return when everything answered before is durable.

        Raises EIO also when it is durable now, but a commit had failed after a change to this file: once per handle,
        because a program that missed the failure may have thrown away its own copy (R6).
        """
        handle = self._core.handles.get(fh)
        serial = self._core.handles.write_serial(handle.ino)
        try:
            await self._core.data.sync()
        except EcfsError:
            handle.heard = self._core.data.failures
            raise
        if self._core.handles.unheard_failure(handle, self._core.data.failures):
            raise FsError(errno.EIO, "a commit failed after this file was changed")
        self._core.handles.synced(handle.ino, self._core.data.failures, serial)

    async def release(self, fh: int) -> None:
        """The last descriptor of a handle was closed. Nothing can be reported any more. Raises EBADF."""
        ino = self._core.handles.close(fh)
        await self._orphans.released([ino])
