"""Descriptors that threads share, and the few ways in which a local drive touches files."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ecfs.drive.base import Buffer

T = TypeVar("T")

MODE_FILE = 0o600
MODE_DIRECTORY = 0o700
IOV_MAX = 1024
"""Buffers that one writev takes, on Linux."""


_PAGE = bytes(4096)
_LIBC = ctypes.CDLL(None, use_errno=True)  # Python has no syncfs


class Held(Generic[T]):
    """Something that is closed exactly once, and not before the last thread that uses it has let go.

    A thread that was abandoned in a hung call still knows the number of its descriptor. Were that number closed and
    given to another file, the late write would land in the other file (R20).
    """

    def __init__(self, value: T, closer: Callable[[T], None]) -> None:
        self._value = value
        self._closer = closer
        self._users = 1  # the owner
        self._open = True
        self._guard = threading.Lock()

    def use(self) -> Use[T]:
        """The value, kept open within the ``with`` block. Entering raises OSError (EBADF) after `close`."""
        return Use(self)

    def close(self) -> None:
        """Close now, or when the last user lets go. Idempotent."""
        with self._guard:
            if not self._open:
                return
            self._open = False
        self.let_go()

    def take(self) -> T:
        """For `Use`."""
        with self._guard:
            if not self._open:
                raise OSError(errno.EBADF, "closed meanwhile")
            self._users += 1
        return self._value

    def let_go(self) -> None:
        with self._guard:
            self._users -= 1
            last = self._users == 0
        if last:
            self._closer(self._value)


class Use(Generic[T]):
    """A class of its own: as a generator it would take three times as long, several times for each call of a drive."""

    __slots__ = ("_held",)

    def __init__(self, held: Held[T]) -> None:
        self._held = held

    def __enter__(self) -> T:
        return self._held.take()

    def __exit__(self, *_: object) -> None:
        self._held.let_go()


def held_descriptor(descriptor: int) -> Held[int]:
    return Held(descriptor, os.close)


def open_directory(name: str, root: int | None = None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)


def make_directory(name: str, root: int) -> None:
    """mkdir with mode 0700 whatever the umask; fine if it is there."""
    try:
        os.mkdir(name, MODE_DIRECTORY, dir_fd=root)
    except FileExistsError:
        return
    os.chmod(name, MODE_DIRECTORY, dir_fd=root)


def create_file(name: str, root: int, *, flags: int = os.O_EXCL) -> int:
    """A new file with mode 0600, whatever the umask and the directory's default ACL say; open for reading too."""
    options = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags
    descriptor = os.open(name, options, MODE_FILE, dir_fd=root)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != MODE_FILE:
            os.fchmod(descriptor, MODE_FILE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_all(descriptor: int, buffers: Sequence[Buffer], offset: int = 0) -> None:
    """Write every byte at `offset`, going on after short writes."""
    views = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    while views:
        written = os.pwritev(descriptor, views[:IOV_MAX], offset)
        if written == 0:
            raise OSError(errno.EIO, "wrote nothing")
        offset += written
        views = _without(views, written)


def _without(views: list[memoryview], count: int) -> list[memoryview]:
    """What is left of `views` after their first `count` bytes."""
    for number, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[number + 1 :]]
        count -= len(view)
    return []


def read_exactly(descriptor: int, offset: int, length: int) -> bytes:
    """`length` bytes at `offset`, fewer only at the end of the file."""
    data = os.pread(descriptor, length, offset)
    if len(data) == length:
        return data
    pieces = [data]
    while pieces[-1] and (missing := length - sum(map(len, pieces))):
        pieces.append(os.pread(descriptor, missing, offset + sum(map(len, pieces))))
    return b"".join(pieces)


def without_zeros(data: bytes) -> bytes:
    """`data` without the zeros at its end. `rstrip` alone takes 2.6 ms per MiB of them, and holds the GIL."""
    end = len(data)
    while data.endswith(_PAGE, 0, end):
        end -= len(_PAGE)
    return data[:end].rstrip(b"\0")


def sync_directory(name: str, root: int) -> None:
    """fsync a directory through a fresh descriptor."""
    descriptor = open_directory(name, root)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(descriptor: int) -> None:
    """syncfs of the file system that this lies on, which also tells of errors that nobody has heard of (Linux 5.8)."""
    if _LIBC.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
