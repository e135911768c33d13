"""The errors of file operations: errno, and what the rest of ecfs means in errno.

::

    FsError(errno)      one operation's answer to the program that asked

``errno_of`` translates ecfs's own tree. Every class of that tree must be listed: a test walks the tree, so a new error
without a decision fails it. A subclass of a listed class is never looked up through its parent.
"""

from __future__ import annotations

import enum
import errno
import os

from ecfs import errors


class FsError(Exception):
    """An operation's answer: `errno` for the program, the text for a log."""

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(f"{errno.errorcode.get(number, number)}: {text or os.strerror(number)}")
        self.errno = number


class Use(enum.Enum):
    """What the program was doing; the same fault answers differently."""

    READ = "read"
    CHANGE = "change"
    SYNC = "sync"


_READ_ONLY = {Use.READ: errno.EIO, Use.CHANGE: errno.EROFS, Use.SYNC: errno.EIO}
"""Changes are refused as a whole, as on a file system that turned read-only: nothing of this request was taken."""

_NO_SPACE = {Use.READ: errno.EIO, Use.CHANGE: errno.ENOSPC, Use.SYNC: errno.ENOSPC}

_BROKEN = dict.fromkeys(Use, errno.EIO)

_ERRNO: dict[type[errors.EcfsError], dict[Use, int]] = {
    errors.EcfsError: _BROKEN,
    errors.UsageError: dict.fromkeys(Use, errno.EINVAL),
    errors.RefusedError: _BROKEN,
    errors.NotAPoolError: _BROKEN,
    errors.PoolLockedError: _BROKEN,
    errors.FormatTooNewError: _BROKEN,
    errors.HistoryGapError: _BROKEN,
    errors.NotEnoughDrivesError: _READ_ONLY,
    errors.DriveError: _BROKEN,
    errors.ShardMissingError: _BROKEN,
    errors.ShardCorruptError: _BROKEN,
    errors.ShardExistsError: _BROKEN,
    errors.DriveUnreachableError: _BROKEN,
    errors.DriveTimeoutError: _BROKEN,
    errors.DriveFullError: _NO_SPACE,
    errors.DriveWrongError: _BROKEN,
    errors.DriveLockedError: _BROKEN,
    errors.DriveFencedError: _READ_ONLY,
    errors.CorruptError: _BROKEN,
    errors.PoolFullError: _NO_SPACE,
    errors.StripeLostError: _BROKEN,
    errors.StalledError: _READ_ONLY,
    errors.NoRoomError: _NO_SPACE,
    errors.FencedError: _READ_ONLY,
}


def errno_of(error: errors.EcfsError, use: Use) -> int:
    """The errno that answers `error`. A class nobody decided about is EIO."""
    return _ERRNO.get(type(error), _BROKEN)[use]
