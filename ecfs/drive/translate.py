"""What the operating system says, in the words of the Drive contract."""

from __future__ import annotations

import errno
import os
from types import TracebackType

from ecfs.errors import (
    DriveError,
    DriveFullError,
    DriveUnreachableError,
    ShardCorruptError,
    ShardExistsError,
    ShardMissingError,
)

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_THREAD = "can't start new thread"
"""How Python says it."""
NOT_A_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})
"""Under the name lies a link, a directory or a pipe: the key is wrong, the drive is not."""


def translate(error: OSError, missing: type[DriveError] = ShardMissingError) -> DriveError:
    """The drive error that stands for `error`; `missing` is what ENOENT means to this operation."""
    text = error.strerror or str(error)
    if error.errno == errno.ENOENT:
        return missing("there is no such file on this drive")
    if error.errno == errno.EEXIST:
        return ShardExistsError("the name is taken")
    if error.errno in FULL:
        return DriveFullError(text)
    if error.errno in NOT_A_FILE:
        return ShardCorruptError(f"not a file: {text}")
    return DriveUnreachableError(f"{text} (errno {errno.errorcode.get(error.errno or 0, error.errno)})")


class labelled:
    """Around a call: let nothing but DriveErrors out, with slot and key filled in. missing: what ENOENT means.

    A class of its own, because a generator as context manager takes three times as long, for every call of a drive.
    """

    __slots__ = ("_key", "_missing", "_slot")

    def __init__(self, slot: int | None, key: str | None = None, missing: type[DriveError] = ShardMissingError) -> None:
        self._slot = slot
        self._key = key
        self._missing = missing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, RuntimeError) and NO_THREAD in str(error):
            error = OSError(errno.EAGAIN, "no thread could be started for it")  # gRPC's, or one that waits for it
        if isinstance(error, OSError):
            drive_error = translate(error, self._missing)
            drive_error.slot, drive_error.key = self._slot, self._key
            raise drive_error from error
        if isinstance(error, DriveError):
            error.slot = self._slot
            error.key = error.key or self._key


def disk_answers(name: str, root: int) -> bool:
    """Can `name` be read from the disk, not from the cache? Tells one bad sector from a disk that is gone."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            return bool(os.pread(descriptor, 1, 0))
        finally:
            os.close(descriptor)
    except OSError:
        return False
