"""The directory of a local drive, held open: what lies there, and whether its path still leads to it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

from ecfs.drive import fence
from ecfs.drive.base import MAX_BLOB, Buffer, Writer
from ecfs.drive.held import (
    Held,
    create_file,
    held_descriptor,
    open_directory,
    read_exactly,
    same_file,
    sync_filesystem,
    write_all,
)
from ecfs.errors import DriveUnreachableError, ShardCorruptError

Token = Callable[[int], bytes]
"""Gives so many random bytes."""

TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{16}")
JOINING = re.compile(r"\.joining-[0-9a-f]{16}")
FENCE = "fence"
FENCE_LIMIT = 4096
"""Bytes a fence may have before it is written anew with its last promise only."""


class Root:
    """A drive's directory. Its methods run in the drive's threads; OSErrors are for the caller to translate."""

    def __init__(self, path: str, directory: Held[int], token: Token) -> None:
        self.path = path
        self.directory = directory
        self._token = token
        with directory.use() as root:
            self._held = os.fstat(root)
        self._fence: tuple[tuple[int, int, int] | None, Writer] = (None, fence.NOBODY)

    @classmethod
    def open(cls, path: str, token: Token) -> Root:
        return cls(path, held_descriptor(open_directory(path)), token)

    def check(self) -> None:
        """Raise DriveUnreachableError unless the path still leads to this directory.

        A directory deleted or unmounted under an open descriptor goes on taking writes: such a write is no copy (R21).
        """
        try:
            found = os.stat(self.path)
        except FileNotFoundError as error:
            raise DriveUnreachableError(f"{self.path} was deleted or unmounted") from error
        if not same_file(self._held, found):
            raise DriveUnreachableError(f"{self.path} leads to another directory than the one that was opened")

    def check_file(self, name: str, held: os.stat_result) -> None:
        """Raise DriveUnreachableError unless `name` still leads to the file whose descriptor said `held`."""
        with self.directory.use() as root:
            try:
                found = os.stat(name, dir_fd=root, follow_symlinks=False)
            except FileNotFoundError as error:
                raise DriveUnreachableError(f"{name} was deleted while it was written") from error
        if not same_file(held, found):
            raise DriveUnreachableError(f"{name} was exchanged while it was written")

    def temporary_name(self) -> str:
        """A name in this directory that the next exclusive attach removes if a crash leaves it behind."""
        return f".tmp-{self._token(8).hex()}"

    # ---- blobs --------------------------------------------------------------------------------------------------

    def read_small(self, name: str) -> bytes:
        """A whole blob. Raises FileNotFoundError; ShardCorruptError above 16 MiB."""
        with self.directory.use() as root:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
            try:
                data = read_exactly(descriptor, 0, MAX_BLOB + 1)
            finally:
                os.close(descriptor)
        if len(data) > MAX_BLOB:
            raise ShardCorruptError(f"{name} has more than {MAX_BLOB} bytes")
        return data

    def has(self, name: str) -> bool:
        with self.directory.use() as root:
            return exists(name, root)

    def replace_small(self, name: str, data: Buffer) -> None:
        """Write a blob atomically and durably; the old one stays until the new one is on disk."""
        with self.directory.use() as root:
            temporary = self.temporary_name()
            descriptor = create_file(temporary, root)
            try:
                write_all(descriptor, [data])
                os.fsync(descriptor)
                os.rename(temporary, name, src_dir_fd=root, dst_dir_fd=root)
                os.fsync(root)
                self.check_file(name, os.fstat(descriptor))
            except BaseException:
                unlink_quietly(temporary, root)
                raise
            finally:
                os.close(descriptor)
        self.check()

    def remove_leftovers(self) -> None:
        """Remove what a crash left under temporary names. Only on a drive, and by the one that holds its lock."""
        with self.directory.use() as root:
            for name in os.listdir(root):
                if TEMPORARY.fullmatch(name):
                    unlink_quietly(name, root)
                elif JOINING.fullmatch(name):
                    _rmdir_quietly(name, root)

    # ---- the fence ----------------------------------------------------------------------------------------------

    def promised(self) -> Writer:
        """The writer this drive is promised to; read again only when the file has changed."""
        with self.directory.use() as root:
            signature = _signature(root)
        if signature is None:
            return fence.NOBODY
        if signature != self._fence[0]:
            # The signature is older than the bytes: a change in between shows at the next call.
            self._fence = (signature, fence.promised(self.read_small(FENCE)))
        return self._fence[1]

    def promise(self, writer: Writer) -> None:
        """Promise the drive to `writer`, durably. Raises DriveFencedError."""
        before = self.promised()
        fence.judge(before, writer)
        with self.directory.use() as root:
            signature = _signature(root)
            size = 0 if signature is None else signature[1]
            whole = size % fence.RECORD_LENGTH == 0 and size + fence.RECORD_LENGTH <= FENCE_LIMIT
            if whole:
                _append_promise(root, writer)
        if not whole:
            old = b"" if before == fence.NOBODY else fence.encode(before)
            self.replace_small(FENCE, old + fence.encode(writer))
        fence.judge(self.promised(), writer)  # another writer may have been first
        self.check()

    def settle(self) -> None:
        """Make durable whatever a process that was killed had written and not synced: nobody knows what that was."""
        with self.directory.use() as root:
            sync_filesystem(root)
        self.check()


def _signature(root: int) -> tuple[int, int, int] | None:
    """Changes whenever the fence does; None without one. One system call on a cached name."""
    try:
        found = os.stat(FENCE, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _append_promise(root: int, writer: Writer) -> None:
    """Append one record. O_APPEND, so that two writers at once both leave theirs and the first one wins."""
    descriptor = create_file(FENCE, root, flags=os.O_APPEND)
    try:
        if os.write(descriptor, fence.encode(writer)) != fence.RECORD_LENGTH:
            raise OSError(errno.ENOSPC, "no space for the fence")
        os.fsync(descriptor)
        os.fsync(root)
    finally:
        os.close(descriptor)


def exists(name: str, root: int) -> bool:
    try:
        os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def unlink_quietly(name: str, root: int) -> None:
    """Tidy up after a failure; a second failure here must not hide the first."""
    try:
        os.unlink(name, dir_fd=root)
    except OSError:
        return


def _rmdir_quietly(name: str, root: int) -> None:
    try:
        os.rmdir(name, dir_fd=root)
    except OSError:
        return
