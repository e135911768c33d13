"""Programs that use the file system, one operation at a time or several at once, each compared with the model.

An operation of `fs/` changes everything in one stretch without await, after which it answers at once. So the model is
asked right after the answer, and right before the call for reads, whose content is decided when they begin.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import TypeVar

import trio

from ecfs.errors import EcfsError, PoolFullError
from ecfs.fs.attributes import Changes
from ecfs.fs.errors import FsError
from ecfs.fs.rename import Place
from tests.sim.history import SOMEBODY, History, Violation
from tests.sim.model import EXCHANGE, NOREPLACE, ROOT, Model
from tests.sim.steps import Step
from tests.sim.world import Mount, World

T = TypeVar("T")
NAMES = [b"a", b"b", b"c", b"d"]
XATTRS = [b"user.one", b"user.two"]
RESERVED = 40_000
"""Bytes that one step reserves, at most."""
SIZES = [1, 100, 1500, 1500, 9000, 40_000, 150_000, 300_000]
LARGEST = 400_000


class Refused(Exception):
    """The file system said no for reasons that are not the program's, and was allowed to."""


class Client:
    """Does the file operations among the steps. expects: kinds of EcfsError that the world has given reason for."""

    def __init__(self, world: World, mount: Mount, model: Model, history: History) -> None:
        self.world = world
        self.mount = mount
        self.model = model
        self.history = history

    async def do(self, step: Step) -> None:
        try:
            await getattr(self, f"do_{step.kind}")(step)
        except Refused:
            self.world.done["refused"] += 1
        self.world.done[step.kind] += 1

    # ---- choosing ---------------------------------------------------------------------------------------------------

    def _directory(self, number: int) -> int:
        """Mostly one that is there; sometimes one that was removed while open."""
        found = sorted(ino for ino, node in self.model.nodes.items() if node.is_dir)
        return found[number % len(found)]

    def _file(self, number: int) -> int | None:
        found = sorted(ino for ino, node in self.model.nodes.items() if node.is_file and node.nlink)
        return found[number % len(found)] if found else None

    def _handle(self, number: int) -> int | None:
        found = sorted(self.model.handles)
        return found[number % len(found)] if found else None

    def _name(self, number: int) -> bytes:
        return NAMES[number % len(NAMES)]

    # ---- comparing --------------------------------------------------------------------------------------------------

    async def _answer(self, call: Awaitable[T]) -> tuple[int, T | None]:
        """0 and what it returned, or the errno. Raises Refused where the world has given reason to refuse."""
        before = frozenset(self.world.reasons)
        try:
            return 0, await call
        except FsError as error:
            if error.errno == errno.ENOSPC and PoolFullError in self.world.reasons | before:
                raise Refused from error  # more was reserved than the full drives have
            return error.errno, None
        except EcfsError as error:
            if not self.world.may_refuse(error, before):
                raise Violation(f"a program was told: {error!r}") from error
            raise Refused from error

    def _same(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise Violation(f"{what}: answered {_brief(found)}, the model says {_brief(wanted)}")

    async def _change(self, what: str, call: Awaitable[object], model: Callable[[], int]) -> int:
        """Do it, then let the model do it: the same answer, and one more moment if it changed anything."""
        problem, _ = await self._answer(call)
        return self._changed(what, problem, model)

    def _changed(self, what: str, problem: int, model: Callable[[], int]) -> int:
        wanted = model()
        self._same(what, errno.errorcode.get(problem, problem), errno.errorcode.get(wanted, wanted))
        if not problem:
            self.history.answered(self.model.moment())
        return problem

    # ---- names ------------------------------------------------------------------------------------------------------

    async def do_create(self, step: Step) -> None:
        parent, name, exclusive = self._directory(step.a), self._name(step.b), step.c % 2 == 0
        names = self.mount.fs.namespace
        problem, inode = await self._answer(names.create(parent, name, 0o640, SOMEBODY, exclusive=exclusive))
        ino, mode = inode.ino if inode else 0, stat.S_IFREG | 0o640
        self._changed("create", problem, lambda: self.model.create(parent, name, mode, ino, exclusive=exclusive))

    async def do_mkdir(self, step: Step) -> None:
        parent, name = self._directory(step.a), self._name(step.b)
        problem, inode = await self._answer(self.mount.fs.namespace.mkdir(parent, name, 0o750, SOMEBODY))
        ino = inode.ino if inode else 0
        self._changed("mkdir", problem, lambda: self.model.make(parent, name, stat.S_IFDIR | 0o750, ino))

    async def do_symlink(self, step: Step) -> None:
        parent, name, target = self._directory(step.a), self._name(step.b), b"to/%d" % step.c
        problem, inode = await self._answer(self.mount.fs.namespace.symlink(parent, name, target, SOMEBODY))
        ino = inode.ino if inode else 0
        self._changed("symlink", problem, lambda: self.model.make(parent, name, stat.S_IFLNK | 0o777, ino, target))

    async def do_fifo(self, step: Step) -> None:
        parent, name, mode = self._directory(step.a), self._name(step.b), stat.S_IFIFO | 0o600
        problem, inode = await self._answer(self.mount.fs.namespace.mknod(parent, name, mode, 0, SOMEBODY))
        ino = inode.ino if inode else 0
        self._changed("mknod", problem, lambda: self.model.make(parent, name, mode, ino))

    async def do_link(self, step: Step) -> None:
        ino, parent, name = self._file(step.a), self._directory(step.b), self._name(step.c)
        if ino is not None:
            call = self.mount.fs.namespace.link(ino, parent, name)
            await self._change("link", call, lambda: self.model.link(ino, parent, name))

    async def do_unlink(self, step: Step) -> None:
        parent, name = self._directory(step.a), self._name(step.b)
        call = self.mount.fs.namespace.unlink(parent, name)
        await self._change("unlink", call, lambda: self.model.unlink(parent, name))

    async def do_rmdir(self, step: Step) -> None:
        parent, name = self._directory(step.a), self._name(step.b)
        await self._change("rmdir", self.mount.fs.namespace.rmdir(parent, name), lambda: self.model.rmdir(parent, name))

    async def do_rename(self, step: Step, flags: int = 0) -> None:
        old, name = self._directory(step.a), self._name(step.b)
        new, other = self._directory(step.c), self._name(step.c >> 8)
        call = self.mount.fs.renaming.rename(Place(old, name), Place(new, other), flags)
        await self._change(f"rename {flags}", call, lambda: self.model.rename(old, name, new, other, flags))

    async def do_exchange(self, step: Step) -> None:
        await self.do_rename(step, EXCHANGE)

    async def do_noreplace(self, step: Step) -> None:
        await self.do_rename(step, NOREPLACE)

    # ---- attributes -------------------------------------------------------------------------------------------------

    async def do_truncate(self, step: Step) -> None:
        ino = self._file(step.a)
        if ino is not None:
            size = step.b % (len(self.model.nodes[ino].data) + 5000)
            call = self.mount.fs.attributes.set(ino, Changes(size=size))
            await self._change("truncate", call, lambda: self.model.truncate(ino, size))

    async def do_chmod(self, step: Step) -> None:
        ino, bits = self._file(step.a), step.b % 0o1000
        if ino is not None:
            call = self.mount.fs.attributes.set(ino, Changes(mode=bits))
            await self._change("chmod", call, lambda: self.model.chmod(ino, bits))

    async def do_set_xattr(self, step: Step) -> None:
        ino, name, value = self._file(step.a) or ROOT, XATTRS[step.b % 2], b"%d" % step.c
        call = self.mount.fs.xattrs.set(ino, name, value, SOMEBODY)
        await self._change("setxattr", call, lambda: self.model.set_xattr(ino, name, value))

    async def do_remove_xattr(self, step: Step) -> None:
        ino, name = self._file(step.a) or ROOT, XATTRS[step.b % 2]
        call = self.mount.fs.xattrs.remove(ino, name)
        await self._change("removexattr", call, lambda: self.model.remove_xattr(ino, name))

    # ---- files ------------------------------------------------------------------------------------------------------

    async def _open(self, ino: int) -> int | None:
        problem, fh = await self._answer(self.mount.fs.files.open(ino, 2, SOMEBODY))
        self._same("open", problem, self.model.open(ino, fh or 0))
        return fh

    async def _release(self, fh: int) -> None:
        ino = self.model.release(fh)
        problem, _ = await self._answer(self.mount.fs.files.release(fh))
        self._same("release", problem, 0)
        self.model.forget(ino)

    async def do_open(self, step: Step) -> None:
        ino = self._file(step.a)
        if ino is not None and len(self.model.handles) < 6:
            await self._open(ino)

    async def do_close(self, step: Step) -> None:
        fh = self._handle(step.a)
        if fh is not None:
            await self._release(fh)

    async def do_write(self, step: Step) -> None:
        fh, ino = self._handle(step.a), self._file(step.a)
        if fh is not None and step.a % 3 == 0:
            await self._write(fh, step)
        elif ino is not None and (fh := await self._open(ino)) is not None:
            try:
                await self._write(fh, step)
            finally:
                if fh in self.model.handles:
                    await self._release(fh)

    async def _write(self, fh: int, step: Step) -> None:
        size = len(self.model.nodes[self.model.handles[fh]].data)
        offset = [0, size, size // 2, step.b % (size + 1), size + step.b % 20_000][step.b % 5]
        data = Random(step.c).randbytes(SIZES[step.c % len(SIZES)])
        if offset + len(data) > LARGEST:
            offset = 0
        call = self.mount.fs.files.write(fh, offset, data)
        await self._change("write", call, lambda: self.model.write(fh, offset, data))

    async def do_reserve(self, step: Step) -> None:
        """As posix_fallocate(3): a NUL at the end of each 4 KiB that is not there yet, or holds one already."""
        ino = self._file(step.a)
        if ino is not None and (fh := await self._open(ino)) is not None:
            size = len(self.model.nodes[ino].data)
            begin = min(size - size // (1 + step.b % 3), LARGEST - RESERVED)
            try:
                for at in range(begin + 4095, begin + 1 + step.c % RESERVED, 4096):
                    if self.model.read(fh, at, 1) in (b"", b"\0"):
                        call = self.mount.fs.files.write(fh, at, b"\0")
                        await self._change("write", call, partial(self.model.write, fh, at, b"\0"))
            finally:
                if fh in self.model.handles:
                    await self._release(fh)

    async def do_read(self, step: Step) -> None:
        fh, ino = self._handle(step.a), self._file(step.a)
        if fh is not None and step.a % 3 == 0:
            await self._read(fh, step)
        elif ino is not None and (fh := await self._open(ino)) is not None:
            try:
                await self._read(fh, step)
            finally:
                if fh in self.model.handles:
                    await self._release(fh)

    async def _read(self, fh: int, step: Step) -> None:
        """At once or in several requests, here and there, until somebody closes the file."""
        for turn in range(1 + step.c % 7):
            if fh in self.model.handles:
                offset = (step.b + turn * 20_011) % (len(self.model.nodes[self.model.handles[fh]].data) + 100)
                length = [4096, 1 << 20, step.c % 100_000][(step.c + turn) % 3]
                wanted = self.model.read(fh, offset, length)
                problem, data = await self._answer(self.mount.fs.files.read(fh, offset, length))
                self._same("read", problem or data, wanted)

    async def do_fsync(self, step: Step) -> None:
        """Everything answered before is durable when this returns, whatever was synced."""
        number, failures = self.history.newest, self.mount.engine.failures
        fh = self._handle(step.a)
        if fh is not None and step.a % 2:
            problem, _ = await self._answer(self.mount.fs.files.fsync(fh))
        else:
            problem, _ = await self._answer(self.mount.engine.sync())
        if not problem:
            self.history.durable(number)
        elif problem != errno.EIO or self.mount.engine.failures == 0:
            raise Violation(f"fsync answered {errno.errorcode.get(problem, problem)} after {failures} failures")

    async def do_df(self, step: Step) -> None:
        usage = self.mount.fs.usage()
        if not 0 <= usage.blocks_free <= usage.blocks:
            raise Violation(f"df says {usage}")

    async def do_idle(self, step: Step) -> None:
        await trio.sleep([0.05, 0.3, 1.0, 3.0, 6.0][step.a % 5])


def _brief(value: object) -> str:
    return f"{len(value)} bytes {value[:12]!r}…" if isinstance(value, bytes) else repr(value)
