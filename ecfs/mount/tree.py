"""The files of a pool by path, for commands that do without FUSE: in a volume that this process opened itself.

Paths are absolute within the pool, with or without the leading slash; "." and ".." are not understood, and no symbolic
link is followed, so that nothing outside the pool can ever be named.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from ecfs.errors import EcfsError, UsageError
from ecfs.fs.attributes import Changes
from ecfs.fs.caller import Caller
from ecfs.fs.errors import FsError
from ecfs.fs.filesystem import FileSystem
from ecfs.fs.rename import Place
from ecfs.meta import ROOT_INO, Inode

CHUNK = 1 << 20


class FileError(EcfsError):
    """An operation on a file in the pool failed, for the reason that errno names. EIO means undecodable data."""

    def __init__(self, path: str, number: int) -> None:
        super().__init__(f"{path}: {os.strerror(number)}")
        self.errno = number
        self.exit_status = 3 if number == errno.EIO else 2


@dataclass(frozen=True)
class Item:
    """One name in a directory, or what a path leads to. mode as in stat."""

    name: str
    mode: int
    size: int
    mtime_ns: int

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


class Tree(Protocol):
    """What put, get, ls and rm need. Raises FileError and EcfsError."""

    async def find(self, path: str) -> Item | None:
        """What lies there; None if nothing does."""

    async def entries(self, path: str) -> list[Item]:
        """A directory's entries, by name."""

    def read(self, path: str) -> AsyncIterator[bytes]:
        """A file's bytes."""

    async def write(self, path: str, data: AsyncIterable[bytes], mode: int, mtime_ns: int | None) -> None:
        """Make or replace a file: before and after, and after a crash, it is the old one or the whole new one."""

    async def readlink(self, path: str) -> str:
        """Where a symbolic link leads."""

    async def symlink(self, path: str, target: str) -> None:
        """Make a symbolic link."""

    async def mkdir(self, path: str, mode: int) -> None:
        """Make a directory."""

    async def remove(self, path: str, *, directory: bool) -> None:
        """Remove a file, or an empty directory."""

    async def sync(self) -> None:
        """Make everything durable."""


def split_path(path: str) -> list[str]:
    """The names on the way. Raises UsageError."""
    parts = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in parts) or "\0" in path:
        raise UsageError(f"{path!r}: give a path within the pool, without . and ..")
    return parts


def temporary_name(name: str, suffix: str = "ecfs-put") -> str:
    """What a file is called while it is being written. Short enough: names are limited in bytes, not in characters."""
    return f".{os.fsencode(name)[:200].decode(errors='ignore')}.{suffix}"


class VolumeTree:
    """`Tree` over a volume that is open in this process. Rights are those of who could open the drives."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._caller = Caller(os.geteuid(), os.getegid())

    async def find(self, path: str) -> Item | None:
        try:
            with _explained(path):
                return self._item(path.rpartition("/")[2], self._walk(split_path(path)))
        except FileError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    async def entries(self, path: str) -> list[Item]:
        with _explained(path):
            handle = self._fs.directories.open(self._walk(split_path(path)).ino, self._caller)
            try:
                found = [
                    self._item(os.fsdecode(entry.name), entry.inode)
                    for entry in self._fs.directories.read(handle, 0)
                    if entry.counted
                ]
            finally:
                await self._fs.directories.release(handle)
        return sorted(found, key=lambda item: item.name)

    async def read(self, path: str) -> AsyncIterator[bytes]:
        with _explained(path):
            handle = await self._fs.files.open(self._walk(split_path(path)).ino, os.O_RDONLY, self._caller)
            try:
                offset = 0
                while data := await self._fs.files.read(handle, offset, CHUNK):
                    yield data
                    offset += len(data)
            finally:
                await self._fs.files.release(handle)

    async def write(self, path: str, data: AsyncIterable[bytes], mode: int, mtime_ns: int | None) -> None:
        with _explained(path):
            parent, name = self._place(path)
            building = os.fsencode(temporary_name(os.fsdecode(name)))
            with suppress(FsError):
                await self._fs.namespace.unlink(parent, building)
            try:
                await self._fill(parent, building, data, mode, mtime_ns)
                await self._fs.renaming.rename(Place(parent, building), Place(parent, name), 0)
            except BaseException:
                with suppress(FsError, EcfsError):
                    await self._fs.namespace.unlink(parent, building)
                raise

    async def _fill(
        self, parent: int, name: bytes, data: AsyncIterable[bytes], mode: int, mtime_ns: int | None
    ) -> None:
        inode = await self._fs.namespace.create(parent, name, mode, self._caller, exclusive=True)
        handle = await self._fs.files.open(inode.ino, os.O_WRONLY, self._caller)
        try:
            offset = 0
            async for piece in data:
                for start in range(0, len(piece), CHUNK):
                    offset += await self._fs.files.write(handle, offset, piece[start : start + CHUNK])
        finally:
            await self._fs.files.release(handle)
        if mtime_ns is not None:
            await self._fs.attributes.set(inode.ino, Changes(mtime_ns=mtime_ns))

    async def readlink(self, path: str) -> str:
        with _explained(path):
            return os.fsdecode(self._fs.namespace.readlink(self._walk(split_path(path)).ino))

    async def symlink(self, path: str, target: str) -> None:
        with _explained(path):
            parent, name = self._place(path)
            await self._fs.namespace.symlink(parent, name, os.fsencode(target), self._caller)

    async def mkdir(self, path: str, mode: int) -> None:
        with _explained(path):
            parent, name = self._place(path)
            await self._fs.namespace.mkdir(parent, name, mode, self._caller)

    async def remove(self, path: str, *, directory: bool) -> None:
        with _explained(path):
            parent, name = self._place(path)
            await (self._fs.namespace.rmdir if directory else self._fs.namespace.unlink)(parent, name)

    async def sync(self) -> None:
        handle = self._fs.directories.open(ROOT_INO, self._caller)
        try:
            await self._fs.directories.fsync(handle)
        finally:
            await self._fs.directories.release(handle)

    def _walk(self, parts: list[str]) -> Inode:
        inode = self._lookup(ROOT_INO, b".")
        for part in parts:
            inode = self._lookup(inode.ino, os.fsencode(part))
        return inode

    def _lookup(self, parent: int, name: bytes) -> Inode:
        found = self._fs.namespace.lookup(parent, name)
        if found is None:
            raise FsError(errno.ENOENT)
        return found

    def _place(self, path: str) -> tuple[int, bytes]:
        parts = split_path(path)
        if not parts:
            raise FsError(errno.EISDIR)
        return self._walk(parts[:-1]).ino, os.fsencode(parts[-1])

    def _item(self, name: str, inode: Inode) -> Item:
        return Item(name, inode.mode, inode.size, inode.mtime_ns)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except FsError as error:
        raise FileError(path, error.errno) from error
