"""What the file system needs of the bytes of files. The commit engine implements it; tests have one in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Room(Protocol):
    """Bytes usable for files, redundancy already taken off. free: what a writer can still store."""

    @property
    def total(self) -> int: ...

    @property
    def free(self) -> int: ...


@dataclass(frozen=True, slots=True)
class FileSpace:
    """The plainest `Room`."""

    total: int
    free: int


class FileData(Protocol):
    """The bytes of files by inode number; sizes, names and times are not its business.

    The synchronous methods are called inside ``db.atomic()``, after `admit`, in the same stretch without await.
    """

    failures: int
    """How many commits have failed so far; never goes down (R6)."""

    async def admit(self, size: int, *, deleting: bool = False, metadata: int = 0) -> None:
        """Wait until a change may be made: back-pressure and space. Comes before *any* change.

        size: bytes of file data it will write; 0 for names and attributes.
        metadata: bytes that it will keep in the metadata, where they are more than a name's.
        deleting: it frees space, so it is allowed on a full pool.
        Raises PoolFullError, StalledError, FencedError, NotEnoughDrivesError; then nothing may be changed.
        """

    def write(self, ino: int, offset: int, data: bytes) -> None:
        """Put bytes; `read` sees them at once. They were admitted, so this does not fail."""

    async def read(self, ino: int, offset: int, length: int) -> bytes:
        """Exactly `length` bytes, of which the caller asks only those below the file's size; holes are zeros.

        Raises StripeLostError, NotEnoughDrivesError: never wrong bytes, never zeros in place of data.
        """

    def truncate(self, ino: int, size: int) -> None:
        """Forget the bytes at and beyond `size`, so that they read as zeros if the file grows again."""

    def remove(self, ino: int) -> None:
        """Forget all bytes of a file. Its inode row is removed in the same transaction."""

    def changed(self) -> None:
        """Metadata was changed: a commit must follow within the idle time."""

    async def sync(self) -> None:
        """Return when everything answered before the call is durable. Raises StalledError, FencedError and others."""

    def is_hole(self, ino: int, offset: int) -> bool:
        """Whether the byte at `offset` takes no space; it reads as zero then."""

    def allocated(self, ino: int) -> int:
        """Bytes of the file that take space, those not yet committed included; holes do not count."""

    async def has_room(self, size: int) -> bool:
        """Whether so many bytes fit now, after winning back what is dead if they seem not to. Promises nothing.

        `usable` may be some seconds old. Raises StalledError, FencedError.
        """

    def usable(self) -> Room:
        """For statfs: as of the last look at the drives."""
