"""The system calls of a local drive, passed on and remembered as a disk without power would: synced, or not."""

from __future__ import annotations

import os
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ecfs.drive import local_root


@dataclass
class _File:
    """durable: bytes as of the last fsync. writes: (offset, bytes) since."""

    durable: bytearray = field(default_factory=bytearray)
    writes: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass
class _Directory:
    """name → inode as of the last fsync, and the changes since: (name, inode), None for gone."""

    durable: dict[str, int] = field(default_factory=dict)
    changes: list[tuple[str, int | None]] = field(default_factory=list)


class RecordedDisk:
    """Watches everything below one directory. Inodes, not names, so that renames are what they are to a disk.

    A numbered inode that is freed and taken again would be confused with the old one: nothing is ever really freed,
    because each file is kept by a hard link in a directory of our own.
    """

    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._files: dict[int, _File] = {}
        self._directories: dict[int, _Directory] = {}
        self._guard = threading.RLock()
        self._kept = path.parent / "kept"
        self._kept.mkdir(exist_ok=True)
        self._parent = os.stat(path.parent).st_ino
        self._directories[self._parent] = _Directory()
        self._real = {name: getattr(os, name) for name in _WATCHED}
        for name in _WATCHED:
            patch.setattr(os, name, getattr(self, name))
        patch.setattr(local_root, "sync_filesystem", self.sync_filesystem)

    # ---- system calls -----------------------------------------------------------------------------------------

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        with self._guard:
            new = flags & os.O_CREAT and not _exists(path, dir_fd)
            descriptor: int = self._real["open"](path, flags, mode, dir_fd=dir_fd)
            if new and self._mine(path, dir_fd):
                inode = os.fstat(descriptor).st_ino
                self._files[inode] = _File()
                self._keep(path, dir_fd, inode)
                self._name(path, dir_fd, inode)
            return descriptor

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        with self._guard:
            self._real["mkdir"](path, mode, dir_fd=dir_fd)
            if self._mine(path, dir_fd):
                inode = os.stat(path, dir_fd=dir_fd).st_ino
                self._directories[inode] = _Directory()
                self._name(path, dir_fd, inode)

    def rename(self, old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        with self._guard:
            mine = self._mine(old, src_dir_fd)
            inode = os.stat(old, dir_fd=src_dir_fd).st_ino
            self._real["rename"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            if mine:
                # One step in one directory, as journalling file systems make it: never both names gone.
                self._name(new, dst_dir_fd, inode)
                self._name(old, src_dir_fd, None)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self._guard:
            self._real["unlink"](path, dir_fd=dir_fd)
            if self._mine(path, dir_fd):
                self._name(path, dir_fd, None)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        with self._guard:
            self._real["rmdir"](path, dir_fd=dir_fd)
            if self._mine(path, dir_fd):
                self._name(path, dir_fd, None)

    def pwritev(self, descriptor: int, buffers: Any, offset: int, flags: int = 0) -> int:
        with self._guard:
            written: int = self._real["pwritev"](descriptor, buffers, offset, flags)
            self._wrote(descriptor, offset, b"".join(bytes(each) for each in buffers)[:written])
            return written

    def write(self, descriptor: int, data: Any) -> int:
        with self._guard:
            written: int = self._real["write"](descriptor, data)
            info = os.fstat(descriptor)
            self._wrote(descriptor, info.st_size - written, bytes(data)[:written])
            return written

    def fsync(self, descriptor: int) -> None:
        with self._guard:
            self._real["fsync"](descriptor)
            self._harden(os.fstat(descriptor).st_ino)

    fdatasync = fsync

    def sync_filesystem(self, descriptor: int) -> None:
        with self._guard:
            for inode in (*self._files, *self._directories):
                self._harden(inode)

    def _harden(self, inode: int) -> None:
        if inode in self._directories:
            directory = self._directories[inode]
            directory.durable = _names(directory, len(directory.changes))
            directory.changes = []
        elif inode in self._files:
            file = self._files[inode]
            for write in file.writes:
                _apply(file.durable, *write)
            file.writes = []

    # ---- what they mean ---------------------------------------------------------------------------------------

    def _mine(self, path: Any, dir_fd: int | None) -> bool:
        return self._parent_of(path, dir_fd) in self._directories

    def _parent_of(self, path: Any, dir_fd: int | None) -> int:
        folder = os.path.dirname(os.fspath(path)) or "."
        try:
            return os.stat(folder, dir_fd=None if os.path.isabs(folder) else dir_fd).st_ino
        except OSError:
            return -1

    def _name(self, path: Any, dir_fd: int | None, inode: int | None) -> None:
        parent = self._parent_of(path, dir_fd)
        self._directories[parent].changes.append((os.path.basename(os.fspath(path)), inode))

    def _keep(self, path: Any, dir_fd: int | None, inode: int) -> None:
        link = self._kept / str(inode)
        if not link.exists():
            os.link(path, link, src_dir_fd=dir_fd, follow_symlinks=False)

    def _wrote(self, descriptor: int, offset: int, data: bytes) -> None:
        file = self._files.get(os.fstat(descriptor).st_ino)
        if file is not None:
            file.writes.append((offset, data))

    # ---- the power goes ---------------------------------------------------------------------------------------

    def lay_out(self, where: Path, chance: random.Random) -> None:
        """What is left, as a directory of its own. Any prefix of a directory's unsynced changes may have come
        through, and any of a file's unsynced writes, whole or torn."""
        with self._guard:
            found = self._left(self._directories[self._parent], chance).get(self.path.name)
            if found is None:
                raise AssertionError("the drive itself is gone")
            self._build(found, where, chance)

    def _left(self, directory: _Directory, chance: random.Random) -> dict[str, int]:
        return _names(directory, chance.choice([0, len(directory.changes), chance.randint(0, len(directory.changes))]))

    def _build(self, inode: int, where: Path, chance: random.Random) -> None:
        if inode in self._files:
            descriptor = self._real["open"](where, os.O_CREAT | os.O_WRONLY, 0o600)
            self._real["write"](descriptor, self._content(self._files[inode], chance))
            os.close(descriptor)
            return
        self._real["mkdir"](where, 0o700)
        for name, child in self._left(self._directories[inode], chance).items():
            self._build(child, where / name, chance)

    def _content(self, file: _File, chance: random.Random) -> bytes:
        data = bytearray(file.durable)
        for offset, written in file.writes:
            how = chance.choice(["lost", "whole", "torn"])
            if how == "torn":
                written = written[: chance.randint(0, len(written))]
            if how != "lost":
                _apply(data, offset, written)
        return bytes(data)


_WATCHED = ("open", "mkdir", "rename", "unlink", "rmdir", "pwritev", "write", "fsync", "fdatasync")


def _names(directory: _Directory, count: int) -> dict[str, int]:
    names = dict(directory.durable)
    for name, inode in directory.changes[:count]:
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode
    return names


def _apply(data: bytearray, offset: int, written: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written


def _exists(path: Any, dir_fd: int | None) -> bool:
    try:
        os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True
