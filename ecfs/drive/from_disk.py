"""Reading what the disk has of a file, whatever the kernel remembers of it.

Past the page cache (O_DIRECT) a mebibyte costs a quarter of the processor time that it takes through it, and what
programs read a moment ago stays in memory. Buffers are used again: fresh pages would cost more than all the rest.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ecfs.drive.held import read_exactly

SIZE = 2 << 20
"""Bytes of a buffer. Longer files, which only large stripes of few data shards make, are read the usual way."""
KEPT = 8
"""Buffers that are kept for the next ones."""
PAGE = 4096
"""What lengths must be multiples of, on every disk in use."""

_free: list[mmap.mmap] = []


@contextmanager
def whole(descriptor: int) -> Iterator[memoryview | bytes]:
    """All bytes of a file, valid within the block. Raises OSError.

    Clean pages that the kernel has of it are dropped in any case: file systems that know no O_DIRECT, or know it for
    some files only, read through the cache.
    """
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    size = os.fstat(descriptor).st_size
    buffer = _take()
    try:
        with memoryview(buffer) as view:
            if size <= SIZE and _read_past_the_cache(descriptor, view[: -(-size // PAGE) * PAGE]) == size:
                with view[:size] as data:
                    yield data
                return
    finally:
        _give_back(buffer)
    yield read_exactly(descriptor, 0, size)


def _read_past_the_cache(descriptor: int, view: memoryview) -> int:
    """How many bytes; -1 if this file system doesn't do that."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        try:
            return os.preadv(descriptor, [view], 0)
        finally:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return -1
        raise


def _take() -> mmap.mmap:
    try:
        return _free.pop()
    except IndexError:
        return mmap.mmap(-1, SIZE)


def _give_back(buffer: mmap.mmap) -> None:
    if len(_free) < KEPT:
        _free.append(buffer)  # else it goes when nobody has a view of it any more
