"""The scratch directory: private, never the durable copy of anything, gone with its process.

A crash leaves it behind; the next start removes those whose process is gone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecfs.errors import UsageError

PREFIX = "ecfs-scratch-"


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory of mode 0700, locked while it is in use. Below $TMPDIR, by default /var/tmp: it may become as large
    as the metadata, and /tmp often is memory."""
    base = Path(os.environ.get("TMPDIR") or "/var/tmp")
    _remove_leftovers(base)
    path, lock = _make(base)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _make(base: Path) -> tuple[Path, int]:
    while True:
        try:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        except OSError as error:
            raise UsageError(f"no scratch directory can be made in {base}: {error.strerror}; set TMPDIR") from error
        lock = _lock(path)
        # Somebody who cleans up may have taken it for abandoned in the moment before it was locked.
        if lock is not None:
            if path.is_dir():
                return path, lock
            os.close(lock)


def _lock(path: Path) -> int | None:
    """The locked directory; None if another process has it, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_leftovers(base: Path) -> None:
    for path in base.glob(f"{PREFIX}*"):
        if _is_ours(path) and (lock := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _is_ours(path: Path) -> bool:
    try:
        return path.stat(follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return False  # its process has just removed it
