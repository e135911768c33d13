"""What a local drive does with shards, in its threads. OSErrors are translated by the caller."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager

from ecfs.drive import from_disk
from ecfs.drive.held import make_directory, open_directory, read_exactly, without_zeros
from ecfs.drive.local_create import IDENTITY
from ecfs.drive.local_listing import EPOCH, LAYOUT
from ecfs.drive.local_puts import Puts
from ecfs.drive.local_root import Root
from ecfs.drive.local_segments import DIRECTORY as SEGMENTS
from ecfs.drive.local_segments import records_end
from ecfs.drive.shards import check_whole_shard
from ecfs.drive.translate import disk_answers
from ecfs.errors import DriveUnreachableError, ShardCorruptError
from ecfs.shard import ShardHeader


def prepare(root: Root, epochs: Set[int]) -> None:
    """Make the directories of these epochs, durably, and remove those of others that are empty.

    Also s, c and j where a partly deleted drive is taken in again; whoever calls this on one has recorded that.
    """
    names = {f"{epoch:08x}" for epoch in epochs}
    with root.directory.use() as directory:
        for name in LAYOUT:
            make_directory(name, directory)
        os.fsync(directory)
        held = open_directory("s", directory)
        try:
            for name in names:
                make_directory(name, held)
            for name in os.listdir(held):
                if EPOCH.fullmatch(name) and name not in names:
                    _remove_if_empty(name, held)
            os.fsync(held)
        finally:
            os.close(held)
    root.check()


def check_rooms(root: Root, epochs: Iterable[int]) -> None:
    """Raise DriveUnreachableError if one of these directories is gone: with it went shards, or room for some."""
    for epoch in epochs:
        if not root.has(f"s/{epoch:08x}"):
            raise DriveUnreachableError(f"{root.path}/s/{epoch:08x} was deleted")


def _remove_if_empty(name: str, root: int) -> None:
    try:
        os.rmdir(name, dir_fd=root)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ENOENT):
            raise


def read(root: Root, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Each (offset, length), length -1 to the end. Raises ShardCorruptError if the file is shorter."""
    read_one = _read_records if key.startswith(f"{SEGMENTS}/") else _read_range
    with _opened(root, key) as descriptor:
        return [read_one(descriptor, offset, length) for offset, length in ranges]


def size(root: Root, key: str) -> int:
    """Bytes of the file, a segment's zeros ahead among them."""
    with _opened(root, key) as descriptor:
        return os.fstat(descriptor).st_size


def _read_range(descriptor: int, offset: int, length: int) -> bytes:
    if length < 0:
        length = os.fstat(descriptor).st_size - offset
        if length < 0:
            raise ShardCorruptError(f"the file ends {-length} bytes before offset {offset}")
    data = read_exactly(descriptor, offset, length)
    if len(data) < length:
        raise ShardCorruptError(f"the file ends at {offset + len(data)}, {length} bytes at {offset} were asked for")
    return data


def _read_records(descriptor: int, offset: int, length: int) -> bytes:
    """Of a segment, whose end is that of its records: the zeros ahead are not there for anybody."""
    data = _read_range(descriptor, offset, length)
    if length < 0:
        return without_zeros(data)
    if data.endswith(b"\0") and offset + length > (end := records_end(descriptor)):
        raise ShardCorruptError(f"the records end at {end}, {length} bytes at {offset} were asked for")
    return data


def verify(root: Root, key: str) -> ShardHeader:
    """Not what the kernel remembers: that says what was written, the disk what is left of it."""
    with _opened(root, key) as descriptor, from_disk.whole(descriptor) as data:
        return check_whole_shard(key, data)


@contextmanager
def _opened(root: Root, key: str) -> Iterator[int]:
    """A shard, open for reading. EIO is a bad sector of this file if the disk still answers, else a lost disk."""
    with root.directory.use() as directory:
        descriptor = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            yield descriptor
        except OSError as error:
            if error.errno == errno.EIO and disk_answers(IDENTITY, directory):
                raise ShardCorruptError("the disk can't read a part of it") from error
            raise
        finally:
            os.close(descriptor)


def delete(root: Root, key: str, puts: Puts) -> None:
    puts.forget(key)
    with root.directory.use() as directory:
        try:
            os.unlink(key, dir_fd=directory)
        except FileNotFoundError:
            root.check()


def sync(root: Root, puts: Puts) -> None:
    puts.flush(root, puts.take())
    root.check()
