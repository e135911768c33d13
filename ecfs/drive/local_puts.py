"""Shards on their way to a local disk: written under their final name, durable at the next sync (R21)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ecfs.drive import from_disk
from ecfs.drive.base import Buffer
from ecfs.drive.held import Held, create_file, held_descriptor, same_file, sync_directory, write_all
from ecfs.drive.local_root import Root, unlink_quietly
from ecfs.drive.local_threads import Call
from ecfs.errors import DriveUnreachableError, ShardCorruptError

MAX_OPEN = 64
"""Files kept open until the next sync; beyond, a put syncs its own."""


@dataclass
class _Written:
    """A shard that was put and not yet synced. removed: deleted or replaced since, so that losing it is no failure."""

    file: Held[int]
    removed: bool = False


@dataclass
class Batch:
    """What one sync must make durable."""

    files: dict[str, _Written] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)


class Puts:
    """All puts since the last good sync.

    `generation` counts failed syncs: a put that was on its way while a sync failed must fail too, because nobody
    could say whether the failure has voided it.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._guard = threading.Lock()
        self._names = threading.Lock()
        """Held while a name is given to another file, or taken away because of what it leads to."""
        self._pending = Batch()
        self._syncing = Batch()
        self._failure: str | None = None
        """Why the next sync must fail: a put could not do its part for it."""

    # ---- in the event loop --------------------------------------------------------------------------------------

    def check(self, generation: int) -> None:
        """Raise DriveUnreachableError if a sync has failed since `generation`."""
        if generation != self.generation:
            raise DriveUnreachableError("a sync failed while this was written, so that it does not count")

    def settle(self) -> None:
        """Raise DriveUnreachableError if a put failed to sync, perhaps one that nobody waits for any more."""
        if self._failure is not None:
            raise DriveUnreachableError(self._failure)

    def void(self) -> list[Held[int]]:
        """Drop every put since the last good sync. Returns descriptors to close, in a thread since that may hang."""
        with self._guard:
            self.generation += 1
            self._failure = None
            dropped, self._pending = self._pending, Batch()
        return [written.file for written in dropped.files.values()]

    # ---- in threads ---------------------------------------------------------------------------------------------

    def write(self, root: Root, key: str, buffers: Sequence[Buffer], generation: int) -> None:
        """Create a shard exclusively. Nothing of it is left behind where it could not be written whole."""
        with root.directory.use() as directory:
            file = held_descriptor(create_file(key, directory))
            try:
                with file.use() as descriptor:
                    write_all(descriptor, buffers)
                    self._keep(key, file, descriptor, generation)
            except BaseException:
                self._take_back(key, file, directory)
                file.close()
                raise

    def _take_back(self, key: str, file: Held[int], directory: int) -> None:
        """Unless the name leads to another file by now: a put that was given up may fail long after its second try has
        replaced it, was synced and counts."""
        with self._names, file.use() as descriptor, suppress(OSError):
            if same_file(os.fstat(descriptor), os.stat(key, dir_fd=directory, follow_symlinks=False)):
                unlink_quietly(key, directory)

    def _keep(self, key: str, file: Held[int], descriptor: int, generation: int) -> None:
        """Remember the file for the next sync, or sync it here if too many are open."""
        with self._names:
            if os.fstat(descriptor).st_nlink == 0:
                # It was given up, and its second try was quicker: each sync that looks for it would fail.
                raise DriveUnreachableError(f"{key} was deleted or replaced while it was written")
            with self._guard:
                current = generation == self.generation
                if current and len(self._pending.files) < MAX_OPEN:
                    self._pending.files[key] = _Written(file)
                    self._pending.directories.add(os.path.dirname(key))
                    return
        if current:
            self._sync_now(key, descriptor, generation)
        file.close()

    def _sync_now(self, key: str, descriptor: int, generation: int) -> None:
        """Sync one file ahead of the next sync. A failure is as bad as that sync's: it voids all the others."""
        try:
            os.fsync(descriptor)
        except OSError as error:
            with self._guard:
                if generation == self.generation:
                    self._failure = f"{key} could not be synced: {error.strerror}"
            raise
        with self._guard:
            self._pending.directories.add(os.path.dirname(key))

    def replace(self, root: Root, key: str, buffers: Sequence[Buffer]) -> None:
        """Exchange a shard: temporary name, synced, read back from the disk, renamed. Its name is durable at sync."""
        temporary = root.temporary_name()
        with root.directory.use() as directory:
            descriptor = create_file(temporary, directory)
            try:
                write_all(descriptor, buffers)
                os.fsync(descriptor)
                _compare(descriptor, key, buffers)
                self._exchange(temporary, key, directory)
            except BaseException:
                unlink_quietly(temporary, directory)
                raise
            finally:
                os.close(descriptor)
        with self._guard:
            self._pending.directories.add(os.path.dirname(key))

    def _exchange(self, temporary: str, key: str, directory: int) -> None:
        try:
            with self._names:
                self.forget(key)
                os.rename(temporary, key, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            # The old file stays, perhaps unsynced, and is no longer among those that the next sync would find.
            with self._guard:
                self._failure = f"{key} could not be replaced: {error.strerror}"
            raise

    def forget(self, key: str) -> None:
        """This shard is about to be removed on purpose: no sync needs to find it."""
        with self._guard:
            written = self._pending.files.pop(key, None)
            if key in self._syncing.files:
                self._syncing.files[key].removed = True
        if written is not None:
            written.file.close()

    def take(self) -> Batch:
        """Everything that was put so far, for one sync. What is put from now on belongs to the next."""
        with self._guard:
            self._syncing, self._pending = self._pending, Batch()
            return self._syncing

    def flush(self, root: Root, batch: Batch) -> None:
        """Make a batch durable: every file, every directory."""
        try:
            for key, written in batch.files.items():
                _flush_file(key, written)
            with root.directory.use() as directory:
                for name in sorted(batch.directories):
                    sync_directory(name, directory)
        finally:
            for written in batch.files.values():
                written.file.close()


class Putting:
    """A put on its way in one of the drive's threads (`Begun`). check: raises if it does not count any more."""

    def __init__(self, call: Call[None], check: Callable[[], None]) -> None:
        self._call = call
        self._check = check

    @property
    def seconds(self) -> float | None:
        return self._call.seconds

    def result(self) -> None:
        self._call.result()
        self._check()

    def give_up(self) -> None:
        self._call.give_up()


def _flush_file(key: str, written: _Written) -> None:
    with written.file.use() as descriptor:
        os.fsync(descriptor)
        links = os.fstat(descriptor).st_nlink
    if links == 0 and not written.removed:
        raise DriveUnreachableError(f"{key} was deleted before it was synced")


def _compare(descriptor: int, key: str, buffers: Sequence[Buffer]) -> None:
    """Read a file back from the disk and compare."""
    offset = 0
    with from_disk.whole(descriptor) as data:
        for buffer in buffers:
            # As bytes: with a memoryview Python compares item by item, thirty times as long and with the GIL held.
            if bytes(data[offset : offset + len(buffer)]) != bytes(buffer):
                raise ShardCorruptError(f"{key} does not read back as it was written")
            offset += len(buffer)
        if len(data) != offset:
            raise ShardCorruptError(f"{key} does not have the length that was written")
