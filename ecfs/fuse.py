"""pyfuse3 ↔ `fs`: a table of translations that contains every error. No semantics live here.

All handlers run as tasks of trio's one thread. A handler may only raise FUSEError; anything else would end the mount,
and an unmounted folder looks empty to a program that mirrors or cleans it. So each handler is wrapped by `_handler`.

What the kernel may keep: there is one writer and all changes come through this mount, so names, missing names and
attributes are valid for `_VALID` seconds. Whoever changes files past the kernel must invalidate them, and from another
thread: invalidating waits for requests that this thread would have to answer.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    FUSEError,
    Operations,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from ecfs.clock import stopwatch
from ecfs.errors import EcfsError
from ecfs.fs.attributes import Attributes, Changes
from ecfs.fs.caller import Caller
from ecfs.fs.errors import FsError, Use, errno_of
from ecfs.fs.filesystem import FileSystem
from ecfs.fs.rename import Place
from ecfs.fuse_loop import stand_in
from ecfs.histogram import Histogram
from ecfs.meta import Inode

_log = logging.getLogger(__name__)

_VALID = 300.0
"""Seconds."""

REQUESTS: dict[str, Histogram] = {}
"""How long the requests of the mount took, by handler. There is one mount per process, as for all of pyfuse3."""
FAILURES: Counter[int] = Counter()
"""Requests that ecfs could not do, by errno. "No such file" and its like are answers, not failures."""

NAMES = frozenset({"mknod", "mkdir", "symlink", "link", "unlink", "rmdir", "rename", "create"})
INODES = frozenset({"setattr", "setxattr", "removexattr"})
"""Handlers that the mount options dirsync (the former) and sync (both) make durable before they are answered. For
writes under sync the kernel sees to it, by an fsync of its own."""

_CAPABILITY = b"security.capability"
"""Asked for before the first write to every file."""

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Method = Callable[_P, Coroutine[Any, Any, _R]]


def _handler(use: Use) -> Callable[[_Method[_P, _R]], _Method[_P, _R]]:
    """Let only FUSEError out, and trio's own control flow, which is no Exception. Counts how long it took."""

    def contain(method: _Method[_P, _R]) -> _Method[_P, _R]:
        took = REQUESTS[method.__name__] = Histogram()
        changes = method.__name__ in NAMES | INODES

        @functools.wraps(method)
        async def contained(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            began = stopwatch()
            try:
                answer = await method(*args, **kwargs)
                if changes:
                    await _store(args[0], method.__name__, answer)
                return answer
            except FUSEError:
                raise
            except Exception as error:
                raise FUSEError(_answer(error, use, method.__name__)) from error
            finally:
                took.add(stopwatch() - began)

        return contained

    return contain


async def _store(operations: object, name: str, answer: object) -> None:
    """A name that is refused here is there all the same, until the next mount shows what was stored: the pool can't
    store anything then, and refuses all changes."""
    if isinstance(operations, EcfsOperations) and name in operations.stored_at_once:
        try:
            await operations.sync()
        except EcfsError:
            if name in NAMES:
                await operations.take_back(answer)
            raise


def _answer(error: Exception, use: Use, what: str) -> int:
    if isinstance(error, FsError):
        return error.errno
    if isinstance(error, EcfsError):
        _log.warning("%s: %s", what, error)
        return _failed(errno_of(error, use))
    _log.error("%s: unexpected error, answered with EIO", what, exc_info=error)
    return _failed(errno.EIO)


def _failed(number: int) -> int:
    FAILURES[number] += 1
    return number


class EcfsOperations(Operations):
    """The requests of the kernel."""

    supports_dot_lookup = True
    enable_acl = True

    def __init__(
        self, fs: FileSystem, *, writeback: bool = False, stored_at_once: frozenset[str] = frozenset()
    ) -> None:
        """stored_at_once: of NAMES and INODES."""
        super().__init__()
        self._fs = fs
        self.stored_at_once = stored_at_once
        self.enable_writeback_cache = writeback

    async def sync(self) -> None:
        """Return when everything answered before is durable."""
        await self._fs.sync()

    async def take_back(self, answer: object) -> None:
        """What one of NAMES would have told the kernel, which never gives back what it does not get: once removed, the
        file would keep its room up to the next mount."""
        if isinstance(answer, tuple):
            info, answer = answer
            self._fs.handles.close(info.fh)
        if isinstance(answer, EntryAttributes):
            self._fs.handles.forget(answer.st_ino, 1)
            await self._fs.orphans.released([answer.st_ino])

    # -- names ---------------------------------------------------------------------------------------------------

    @_handler(Use.READ)
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        inode = self._fs.namespace.lookup(parent_inode, name)
        return _missing() if inode is None else self._known(inode)

    @_handler(Use.READ)
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return self._fs.namespace.readlink(inode)

    @_handler(Use.CHANGE)
    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        return self._known(await self._fs.namespace.mknod(parent_inode, name, mode, rdev, _caller(ctx)))

    @_handler(Use.CHANGE)
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return self._known(await self._fs.namespace.mkdir(parent_inode, name, mode, _caller(ctx)))

    @_handler(Use.CHANGE)
    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._known(await self._fs.namespace.symlink(parent_inode, name, target, _caller(ctx)))

    @_handler(Use.CHANGE)
    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._known(await self._fs.namespace.link(inode, new_parent_inode, new_name))

    @_handler(Use.CHANGE)
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._fs.namespace.unlink(parent_inode, name)

    @_handler(Use.CHANGE)
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._fs.namespace.rmdir(parent_inode, name)

    @_handler(Use.CHANGE)
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        await self._fs.renaming.rename(Place(parent_inode_old, name_old), Place(parent_inode_new, name_new), flags)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """May not raise at all: there is no request to answer."""
        try:
            for ino, count in inode_list:
                self._fs.handles.forget(ino, count)
            await self._fs.orphans.released([ino for ino, _ in inode_list])
        except Exception:
            _log.exception("forget: unexpected error")

    # -- attributes ----------------------------------------------------------------------------------------------

    @_handler(Use.READ)
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return _entry(self._fs.attributes.get(inode))

    @_handler(Use.CHANGE)
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        changes = Changes(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            ctime_ns=attr.st_ctime_ns if fields.update_ctime else None,
            caller=_caller(ctx),
        )
        return _entry(await self._fs.attributes.set(inode, changes))

    @_handler(Use.READ)
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        usage = self._fs.usage()
        answer = StatvfsData()
        answer.f_bsize = answer.f_frsize = usage.block
        answer.f_blocks = usage.blocks
        answer.f_bfree = answer.f_bavail = usage.blocks_free
        answer.f_files = usage.inodes
        answer.f_ffree = answer.f_favail = usage.inodes_free
        answer.f_namemax = usage.max_name
        return answer

    # -- extended attributes -------------------------------------------------------------------------------------

    @_handler(Use.READ)
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        if name == _CAPABILITY and self._fs.xattrs.has_none(inode):
            raise FUSEError(errno.ENODATA)
        return self._fs.xattrs.get(inode, name)

    @_handler(Use.READ)
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        return self._fs.xattrs.list(inode, _caller(ctx))

    @_handler(Use.CHANGE)
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        # XATTR_CREATE and XATTR_REPLACE never get here: pyfuse3 asks getxattr first.
        await self._fs.xattrs.set(inode, name, value, _caller(ctx))

    @_handler(Use.CHANGE)
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        await self._fs.xattrs.remove(inode, name)

    # -- files ---------------------------------------------------------------------------------------------------

    @_handler(Use.CHANGE)
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        caller = _caller(ctx)
        exclusive = bool(flags & os.O_EXCL)
        inode = await self._fs.namespace.create(parent_inode, name, mode, caller, exclusive=exclusive)
        fh = await self._fs.files.open(inode.ino, flags & ~os.O_TRUNC if inode.size == 0 else flags, caller)
        self._fs.handles.remember(inode.ino)
        return FileInfo(fh=fh), _entry(self._fs.attributes.get(inode.ino))

    @_handler(Use.CHANGE)
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=await self._fs.files.open(inode, flags, _caller(ctx)))

    @_handler(Use.READ)
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._fs.files.read(fh, off, size)

    @_handler(Use.CHANGE)
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._fs.files.write(fh, off, buf)

    async def flush(self, fh: int) -> None:
        """Asked at every close(2): "not implemented" is answered once, then the kernel asks no more.

        Nothing durable depends on it: close(2) promises nothing, fsync(2) does.
        """
        raise FUSEError(errno.ENOSYS)

    @_handler(Use.SYNC)
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._fs.files.fsync(fh)

    @_handler(Use.READ)
    async def release(self, fh: int) -> None:
        await self._fs.files.release(fh)

    # -- directories ---------------------------------------------------------------------------------------------

    @_handler(Use.READ)
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return self._fs.directories.open(inode, _caller(ctx))

    @_handler(Use.READ)
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        for entry in self._fs.directories.read(fh, start_id):
            attributes = _entry(self._fs.attributes.of(entry.inode))
            if not pyfuse3.readdir_reply(token, entry.name, attributes, entry.position):
                return
            if entry.counted:
                self._fs.handles.remember(entry.inode.ino)

    @_handler(Use.SYNC)
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._fs.directories.fsync(fh)

    @_handler(Use.READ)
    async def releasedir(self, fh: int) -> None:
        await self._fs.directories.release(fh)

    def _known(self, inode: Inode) -> EntryAttributes:
        """An answer that tells the kernel of an inode, which it will give back with forget."""
        self._fs.handles.remember(inode.ino)
        return _entry(self._fs.attributes.of(inode))


def _caller(ctx: RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, ctx.pid, _groups_of)


def _groups_of(pid: int) -> Collection[int]:
    """None of a process that has ended, or that is in a container of its own: then it has no rights by them."""
    try:
        groups: set[int] = pyfuse3.get_sup_groups(pid)
    except (OSError, RuntimeError):
        return ()
    return groups


def _missing() -> EntryAttributes:
    """ "There is no such name", for the kernel to remember."""
    answer = EntryAttributes()
    answer.st_ino = 0
    answer.entry_timeout = _VALID
    return answer


def _entry(attributes: Attributes) -> EntryAttributes:
    answer = EntryAttributes()
    answer.st_ino = attributes.ino
    answer.generation = 0  # inode numbers are never used again
    answer.entry_timeout = answer.attr_timeout = _VALID
    answer.st_mode = attributes.mode
    answer.st_nlink = attributes.nlink
    answer.st_uid = attributes.uid
    answer.st_gid = attributes.gid
    answer.st_rdev = attributes.rdev
    answer.st_size = attributes.size
    answer.st_blocks = attributes.blocks
    answer.st_atime_ns = attributes.atime_ns
    answer.st_mtime_ns = attributes.mtime_ns
    answer.st_ctime_ns = attributes.ctime_ns
    return answer


# -- mounting: composed by mount.py ------------------------------------------------------------------------------


def fuse_options(
    *,
    allow_other: bool = False,
    read_only: bool = False,
    suid: bool = False,
    dev: bool = False,
    source: str = "ecfs",
    extra: Sequence[str] = (),
) -> set[str]:
    """Mount options. Permissions are always checked by the kernel; `suid` and `dev` need root.

    source: what df shows and what `mount -a` compares with fstab to see whether it is mounted already.
    extra: options of the kernel or libfuse as they are written after ``-o``.
    """
    escaped = source.replace("\\", "\\\\").replace(",", "\\,")
    options = {f"fsname={escaped}", "subtype=ecfs", "default_permissions", *extra}
    chosen = {"allow_other": allow_other, "ro": read_only, "suid": suid, "dev": dev}
    return options | {name for name, wanted in chosen.items() if wanted}


def mount_fuse(operations: EcfsOperations, mountpoint: str, options: set[str]) -> None:
    """Mount. Requests wait until `run_fuse`. Raises RuntimeError; the reason is on standard error."""
    pyfuse3.init(operations, mountpoint, options)


async def run_fuse(*, min_tasks: int = 1, max_tasks: int = 32, poll: bool = True) -> None:
    """Serve until the folder is unmounted or `stop_fuse` is called. At most `max_tasks` requests at once.

    poll: wait a moment for the next request before going through the event loop, see `fuse_loop`.
    """
    pyfuse3.trio = stand_in() if poll else stand_in(0.0)  # type: ignore[attr-defined]
    await pyfuse3.main(min_tasks=min_tasks, max_tasks=max_tasks)


def stop_fuse() -> None:
    """Make `run_fuse` return. Called from trio's thread."""
    pyfuse3.terminate()


def unmount_fuse(*, mounted: bool = True) -> None:
    """After `run_fuse`: end the session, and unmount first if the folder is still mounted.

    mounted=False: it is known not to be. libfuse would try all the same, and hit what is mounted there by now.
    """
    pyfuse3.close(unmount=mounted)
