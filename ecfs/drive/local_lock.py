"""One process per local drive (R19): a lock on the directory itself, and a note that says who has it.

The lock is a flock of the drive's directory: it ends with its process, and unlike a lock file it can't be deleted and
taken a second time. The file `lock` is only the note for the message; it is written where a drive lies, never into
the empty directory that an unmounted disk leaves behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from ecfs.drive.held import create_file, write_all
from ecfs.drive.local_root import Root
from ecfs.errors import DriveError, DriveLockedError

NOTE = "lock"
NOTE_LIMIT = 1000
NO_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
"""What network file systems answer that can't lock a directory."""


def take_lock(root: Root, *, required: bool) -> None:
    """Lock the directory until its descriptor is closed. Raises DriveLockedError.

    required: False where the user has said that the directory is shared, which is documented as unfenced.
    """
    with root.directory.use() as directory:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DriveLockedError(f"{root.path} is locked by {_holder(root)}") from error
        except OSError as error:
            if required or error.errno not in NO_LOCKS:
                raise


def sign(root: Root) -> None:
    """Leave a note about this process. A drive that can't be written gets none: the lock holds without it."""
    command = " ".join(sys.argv).replace("\n", " ")
    note = f"{os.getpid()}\n{os.uname().nodename}\n{command}\n".encode(errors="backslashreplace")[:NOTE_LIMIT]
    try:
        with root.directory.use() as directory:
            descriptor = create_file(NOTE, directory, flags=os.O_TRUNC)
            try:
                write_all(descriptor, [note])
            finally:
                os.close(descriptor)
    except OSError:
        return


def _holder(root: Root) -> str:
    """Who has the lock, as far as the note can be read."""
    try:
        lines = root.read_small(NOTE)[:NOTE_LIMIT].decode(errors="replace").splitlines()
        process, host, command = int(lines[0]), lines[1], lines[2]
    except (OSError, DriveError, ValueError, IndexError):
        return "another process"
    where = "" if host == os.uname().nodename else f" on {host}"
    return f"process {process}{where} ({command})"
