"""What the kernel and programs hold: open handles, lookup counts, and who must still hear of a failed commit (R6).

All of it is memory of one mount; nothing here awaits or touches the metadata.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from ecfs.fs.caller import Caller
from ecfs.fs.errors import FsError
from ecfs.fs.reserving import Reserving


@dataclass(slots=True)
class Handle:
    """One open file or directory.

    caller: its opener, who may or may not write to a setuid file without taking the bit away. writing: it may write.
    heard: the number of failed commits that this handle has reported, or that came before it was opened.
    end: of a directory, the first cookie that it does not show.
    """

    ino: int
    caller: Caller
    heard: int
    writing: bool = False
    end: int = 0
    reserving: Reserving = field(default_factory=Reserving)


@dataclass(slots=True)
class _Writes:
    """Changes to one inode's data while it is in use.

    at: the numbers of failed commits at which writes were made that are not known to be durable.
    serial: grows with every write, to see whether one came during a sync.
    """

    at: set[int] = field(default_factory=set)
    serial: int = 0


class Handles:
    """Handles by number, and how often each inode is held."""

    def __init__(self) -> None:
        self._open: dict[int, Handle] = {}
        self._last = 0
        self._uses: dict[int, int] = {}
        self._lookups: dict[int, int] = {}
        self._writes: dict[int, _Writes] = {}

    def open(self, ino: int, *, caller: Caller, failures: int, writing: bool = False) -> int:
        """A new handle's number, never used before in this mount."""
        self._last += 1
        self._open[self._last] = Handle(ino, caller, failures, writing)
        self._uses[ino] = self._uses.get(ino, 0) + 1
        return self._last

    def get(self, fh: int) -> Handle:
        """Raises EBADF."""
        handle = self._open.get(fh)
        if handle is None:
            raise FsError(errno.EBADF, f"no handle {fh}")
        return handle

    def close(self, fh: int) -> int:
        """Forget a handle; the inode it held. Raises EBADF."""
        ino = self.get(fh).ino
        del self._open[fh]
        self._uses[ino] -= 1
        if not self._uses[ino]:
            del self._uses[ino]
            self._writes.pop(ino, None)
        return ino

    def remember(self, ino: int) -> None:
        """The kernel was told of `ino` once more."""
        self._lookups[ino] = self._lookups.get(ino, 0) + 1

    def forget(self, ino: int, count: int) -> None:
        """The kernel gave back `count` of what it was told."""
        left = self._lookups.pop(ino, 0) - count
        if left > 0:
            self._lookups[ino] = left

    def in_use(self, ino: int) -> bool:
        """Whether the inode must stay although no name leads to it."""
        return ino in self._uses or ino in self._lookups

    def may_be_written(self, ino: int) -> bool:
        """Whether somebody has it open for writing. Looks at every handle."""
        return any(handle.ino == ino and handle.writing for handle in self._open.values())

    @property
    def open_count(self) -> int:
        return len(self._open)

    # -- failed commits ------------------------------------------------------------------------------------------

    def wrote(self, ino: int, failures: int) -> None:
        """Data of `ino` was changed when `failures` commits had failed."""
        if ino in self._uses:
            writes = self._writes.setdefault(ino, _Writes())
            writes.at.add(failures)
            writes.serial += 1

    def write_serial(self, ino: int) -> int:
        """To be read before a sync and given to `synced` after it."""
        writes = self._writes.get(ino)
        return 0 if writes is None else writes.serial

    def unheard_failure(self, handle: Handle, failures: int) -> bool:
        """Whether a commit failed after a change to this file that the handle has not reported; True only once.

        It asks for the file's changes, not the handle's: a database writes through one handle and syncs through
        another, and must not be told that all is well.
        """
        writes = self._writes.get(handle.ino)
        unheard = writes is not None and any(handle.heard <= at < failures for at in writes.at)
        handle.heard = failures
        return unheard

    def synced(self, ino: int, failures: int, serial: int) -> None:
        """All changes made before the sync are durable; none that came meanwhile may be dropped."""
        writes = self._writes.get(ino)
        if writes is not None and writes.serial == serial:
            writes.at.discard(failures)
