"""Limits and small rules of POSIX that need no state."""

from __future__ import annotations

import errno

from ecfs.fs.errors import FsError

MAX_NAME = 255
MAX_SYMLINK = 4095
MAX_LINKS = 2**31 - 1
"""As XFS; the kernel shows 32 bits."""
MAX_FILE = 16 * 2**40
"""16 TiB: the end of the largest file, in bytes."""

_MAX_TIME = 2**63 - 1
"""Nanoseconds of a signed 64-bit column: the years 1677 to 2262."""


def check_name(name: bytes) -> None:
    """Raise unless `name` can be made or looked up: 1 to 255 bytes without "/" and NUL, and not "." or ".."."""
    if len(name) > MAX_NAME:
        raise FsError(errno.ENAMETOOLONG, f"a name of {len(name)} bytes")
    if not name or b"/" in name or b"\0" in name:
        raise FsError(errno.EINVAL, f"not a name: {name!r}")
    if name in (b".", b".."):
        raise FsError(errno.EEXIST, "every directory has . and ..")


def check_file_end(end: int) -> None:
    """Raise EFBIG if a file would reach beyond `end` = 16 TiB, EINVAL below 0."""
    if end < 0:
        raise FsError(errno.EINVAL, "before the start of the file")
    if end > MAX_FILE:
        raise FsError(errno.EFBIG, f"a file ends at {MAX_FILE} bytes at most")


def clamp_time(ns: int) -> int:
    """The nearest time the metadata can hold."""
    return max(-_MAX_TIME, min(_MAX_TIME, ns))
