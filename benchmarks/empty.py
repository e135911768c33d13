"""The empty handler: FUSE requests answered from a dictionary, with the same loop stand-in as ecfs.

No byte is kept: reading gives zeros. What ecfs could reach if it had nothing to do.

    python -m benchmarks.empty MOUNTPOINT [nopoll] [xattrs]
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, SetattrFields

from ecfs.fuse_loop import stand_in
from ecfs.mount.mountpoint import raise_limits

ZEROS = bytes(1 << 20)
VALID_S = 300


class EmptyOperations(pyfuse3.Operations):
    """A tree of names, modes and sizes."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self) -> None:
        super().__init__()
        self._attributes = {pyfuse3.ROOT_INODE: _attributes(pyfuse3.ROOT_INODE, stat.S_IFDIR | 0o755)}
        self._children: dict[int, dict[bytes, int]] = {pyfuse3.ROOT_INODE: {}}
        self._listings: dict[int, list[tuple[bytes, int]]] = {}
        self._last = 1

    def _make(self, parent: int, name: bytes, mode: int) -> EntryAttributes:
        self._last += 1
        self._children[parent][name] = self._last
        if stat.S_ISDIR(mode):
            self._children[self._last] = {}
        self._attributes[self._last] = _attributes(self._last, mode)
        return self._attributes[self._last]

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        ino = self._children[parent_inode].get(name)
        if ino is None:
            raise FUSEError(errno.ENOENT)
        return self._attributes[ino]

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._attributes[inode]

    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        known = self._attributes[inode]
        if fields.update_size:
            known.st_size = attr.st_size
        if fields.update_mode:
            known.st_mode = attr.st_mode
        return known

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        made = self._make(parent_inode, name, mode)
        return FileInfo(fh=made.st_ino), made

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return self._make(parent_inode, name, stat.S_IFDIR | stat.S_IMODE(mode))

    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._make(parent_inode, name, stat.S_IFLNK | 0o777)

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        del self._children[parent_inode][name]

    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        del self._children[parent_inode][name]

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        return

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=inode)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        size = max(0, min(size, self._attributes[fh].st_size - off))
        return ZEROS if size == len(ZEROS) else bytes(size)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        known = self._attributes[fh]
        known.st_size = max(known.st_size, off + len(buf))
        return len(buf)

    async def flush(self, fh: int) -> None:
        raise FUSEError(errno.ENOSYS)

    async def fsync(self, fh: int, datasync: bool) -> None:
        return

    async def release(self, fh: int) -> None:
        return

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        self._listings[inode] = list(self._children[inode].items())
        return inode

    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        listing = self._listings[fh]
        for position in range(start_id, len(listing)):
            name, ino = listing[position]
            if not pyfuse3.readdir_reply(token, name, self._attributes[ino], position + 1):
                return

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        return

    async def releasedir(self, fh: int) -> None:
        return


class WithAttributes(EmptyOperations):
    """No file has extended attributes, and the kernel is told so each time; else it would never ask again."""

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        raise FUSEError(pyfuse3.ENOATTR)

    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        return ()


def _attributes(ino: int, mode: int) -> EntryAttributes:
    answer = EntryAttributes()
    answer.st_ino = ino
    answer.st_mode = mode
    answer.st_nlink = 1
    answer.entry_timeout = answer.attr_timeout = VALID_S
    return answer


async def _serve(point: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio.to_thread.run_sync(raise_limits, point))
        await pyfuse3.main()


def main() -> None:
    point = os.path.abspath(sys.argv[1])
    operations = WithAttributes() if "xattrs" in sys.argv else EmptyOperations()
    pyfuse3.init(operations, point, {"fsname=empty", "default_permissions"})
    if "nopoll" not in sys.argv:
        pyfuse3.trio = stand_in()  # type: ignore[attr-defined]
    try:
        trio.run(_serve, point)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()
