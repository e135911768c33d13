"""Journal segments on a local disk: appended, durable at once, given up for ever after a failure (R20)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ecfs.drive.base import Buffer
from ecfs.drive.held import Held, create_file, held_descriptor, sync_directory, write_all
from ecfs.drive.local_root import Root
from ecfs.drive.local_threads import close_soon
from ecfs.errors import DriveUnreachableError

DIRECTORY = "j"


class Segments:
    """Which segments are open, and which never may be written again. Used from the event loop."""

    def __init__(self) -> None:
        self._sealed: set[str] = set()
        self._open: dict[str, Segment] = {}

    @contextmanager
    def appending(self, name: str) -> Iterator[Segment]:
        """The segment to append to; whatever goes wrong within the block seals it, a time-out included."""
        if name in self._sealed:
            raise DriveUnreachableError("an earlier append to this segment failed: go on in a new one")
        segment = self._select(name)
        segment.users += 1
        try:
            yield segment
        except BaseException:
            self._sealed.add(name)
            self._open.pop(name, None)
            close_soon(segment.seal())
            raise
        finally:
            segment.users -= 1

    def _select(self, name: str) -> Segment:
        """The segment, open from an earlier append or to be opened by this one. Idle others are let go."""
        segment = self._open.get(name) or Segment(name)
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

    def seal(self) -> list[Held[int]]:
        """Let no append begin to write from now on. Returns the descriptor to close, if it is open."""
        with self._guard:
            self._sealed = True
            file, self._file = self._file, None
        return [] if file is None else [file]

    def append(self, root: Root, offset: int, record: Buffer) -> None:
        with self._open(root, offset).use() as descriptor:
            size = os.fstat(descriptor).st_size
            if size != offset:
                # Shorter: what was acknowledged is gone. Longer: another writer. Neither may count as a copy.
                raise DriveUnreachableError(f"the segment has {size} bytes where {offset} were written")
            write_all(descriptor, [record], offset)
            os.fdatasync(descriptor)
            if offset == 0:
                with root.directory.use() as directory:
                    sync_directory(DIRECTORY, directory)
            root.check_file(self.name, descriptor)
        root.check()

    def _open(self, root: Root, offset: int) -> Held[int]:
        with self._guard:
            if self._file is not None:
                return self._file
        with root.directory.use() as directory:
            file = held_descriptor(_open_segment(self.name, directory, offset))
        with self._guard:
            if not self._sealed:
                self._file = file
                return file
        file.close()
        raise DriveUnreachableError("given up before it was written")


def _open_segment(name: str, directory: int, offset: int) -> int:
    """Created exclusively at offset 0, so that no record is ever overwritten."""
    if offset == 0:
        return create_file(name, directory)
    return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
