"""Journal segments on a local disk: appended, durable at once, given up for ever after a failure (R20).

A short record that makes the file longer is written with zeros behind it. The records after it then overwrite zeros,
and making them durable needs no transaction of the file system: one write to the disk instead of several. The zeros
are never shown: a segment ends behind its last byte that is not zero, and no record ends with one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ecfs.drive.base import Buffer
from ecfs.drive.held import Held, create_file, held_descriptor, read_exactly, sync_directory, without_zeros, write_all
from ecfs.drive.local_root import Root, unlink_quietly
from ecfs.drive.local_threads import Call, close_soon
from ecfs.drive.translate import FULL
from ecfs.errors import DriveUnreachableError

DIRECTORY = "j"
AHEAD = 1 << 20
"""Files grow to a multiple of this many bytes: zeros for some 1,500 small records."""
SHORT = 64 * 1024
"""A longer record costs more than the transaction does, and would soon use up the zeros: it gets none."""
_ZEROS = bytes(AHEAD)


class Segments:
    """Which segments are open, and which never may be written again. Used from the event loop."""

    def __init__(self) -> None:
        self._sealed: set[str] = set()
        self._open: dict[str, Segment] = {}

    @contextmanager
    def appending(self, name: str) -> Iterator[Segment]:
        """The segment to append to; whatever goes wrong within the block seals it, a time-out included."""
        segment = self.begin(name)
        try:
            yield segment
        except BaseException:
            self.end(segment, failed=True)
            raise
        self.end(segment, failed=False)

    def begin(self, name: str) -> Segment:
        """The segment to append to. Tell `end` how it went."""
        if name in self._sealed:
            raise DriveUnreachableError("an earlier append to this segment failed: go on in a new one")
        segment = self._select(name)
        segment.users += 1
        return segment

    def end(self, segment: Segment, *, failed: bool) -> None:
        segment.users -= 1
        if failed:
            self._sealed.add(segment.name)
            self._open.pop(segment.name, None)
            close_soon(segment.seal())

    def _select(self, name: str) -> Segment:
        """The segment, open from an earlier append or to be opened by this one. Idle others are let go."""
        segment = self._open.get(name)
        if segment is not None and len(self._open) == 1:
            return segment
        segment = segment or Segment(name)
        idle = [other for other in self._open.values() if other is not segment and not other.users]
        close_soon(file for other in idle for file in other.seal())
        self._open = {other.name: other for other in self._open.values() if other not in idle}
        self._open[name] = segment
        return segment

    def close(self) -> list[Held[int]]:
        """Give all segments up. Returns descriptors to close."""
        files = [file for segment in self._open.values() for file in segment.seal()]
        self._open = {}
        return files


class Segment:
    """One open segment. `append` runs in a thread and never writes once the event loop has sealed it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.users = 0
        """Appends on their way, at most one if callers keep to the contract."""
        self._guard = threading.Lock()
        self._file: Held[int] | None = None
        self._sealed = False
        self._end = 0
        self._size = 0
        """Bytes of records, and of the file: zeros lie between."""

    def seal(self) -> list[Held[int]]:
        """Let no append begin to write from now on. Returns the descriptor to close, if it is open."""
        with self._guard:
            self._sealed = True
            file, self._file = self._file, None
        return [] if file is None else [file]

    def append(self, root: Root, offset: int, record: Buffer) -> None:
        if not record or record[-1] == 0:
            raise ValueError("a record must not end with a zero")  # the zeros ahead would swallow it
        with self._open(root, offset).use() as descriptor:
            held = os.fstat(descriptor)
            if (offset, held.st_size) != (self._end, self._size):
                # Shorter: what was acknowledged is gone. Longer: another writer. Neither may count as a copy.
                raise DriveUnreachableError(f"the segment does not end at {offset} ({held.st_size} bytes)")
            try:
                self._write(descriptor, offset, record)
                os.fdatasync(descriptor)
            except OSError:
                if offset == 0:
                    self._take_back(root)
                raise
            if offset == 0:
                with root.directory.use() as directory:
                    sync_directory(DIRECTORY, directory)
            root.check_file(self.name, held)
        root.check()

    def _take_back(self, root: Root) -> None:
        """A full disk is tried again and again, each time in a new segment: without this it would fill with empty
        ones. Nobody counts on what failed, and the name is never used again."""
        with root.directory.use() as directory:
            unlink_quietly(self.name, directory)

    def _write(self, descriptor: int, offset: int, record: Buffer) -> None:
        """Write a record; where that makes the file longer and the record is short, with zeros behind it."""
        end = offset + len(record)
        ahead = -end % AHEAD if end > self._size and len(record) <= SHORT else 0
        try:
            write_all(descriptor, [record, memoryview(_ZEROS)[:ahead]], offset)
            self._size = max(self._size, end + ahead)
        except OSError as error:
            if not ahead or error.errno not in FULL:
                raise
            write_all(descriptor, [record], offset)
            self._size = os.fstat(descriptor).st_size
        self._end = end

    def _open(self, root: Root, offset: int) -> Held[int]:
        with self._guard:
            if self._file is not None:
                return self._file
        with root.directory.use() as directory:
            file = held_descriptor(_open_segment(self.name, directory, offset))
        if offset:
            with file.use() as descriptor:
                self._end, self._size = records_end(descriptor), os.fstat(descriptor).st_size
        with self._guard:
            if not self._sealed:
                self._file = file
                return file
        file.close()
        raise DriveUnreachableError("given up before it was written")


class Appending:
    """An append on its way in one of the drive's threads (`Begun`)."""

    def __init__(self, segments: Segments, segment: Segment, call: Call[None]) -> None:
        self._segments = segments
        self._segment = segment
        self._call = call

    @property
    def seconds(self) -> float | None:
        return self._call.seconds

    def result(self) -> None:
        try:
            self._call.result()
        except BaseException:
            self._segments.end(self._segment, failed=True)
            raise
        self._segments.end(self._segment, failed=False)

    def give_up(self) -> None:
        self._call.give_up()
        self._segments.end(self._segment, failed=True)


def _open_segment(name: str, directory: int, offset: int) -> int:
    """Created exclusively at offset 0, so that no record is ever overwritten."""
    if offset == 0:
        return create_file(name, directory)
    return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def records_end(descriptor: int) -> int:
    """Where the records of a segment end: behind the last byte that is not zero."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(end - SHORT, 0)
        found = len(without_zeros(read_exactly(descriptor, start, end - start)))
        if found:
            return start + found
        end = start
    return 0
