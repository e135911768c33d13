"""Every error that ecfs raises on purpose, drawn as one tree.

::

    EcfsError
    ├── UsageError                  bad input; the message says what to do          exit 2
    ├── RefusedError                the pool exists but may not be opened           exit 2
    │   ├── NotAPoolError           nothing at this place says it is a pool
    │   ├── PoolLockedError         another process holds the pool
    │   ├── FormatTooNewError       written by a newer ecfs
    │   └── HistoryGapError         proof of a commit that no reachable drive can show (R9)
    ├── NotEnoughDrivesError        fewer than k drives can be used right now       exit 3
    ├── DriveError(slot, key)       one drive, one operation
    │   ├── ShardMissingError       the key is not there
    │   ├── ShardCorruptError       the key is there, its bytes are wrong or short
    │   ├── ShardExistsError        an exclusive put found the name taken
    │   ├── DriveUnreachableError   gone, unplugged, deleted, I/O error
    │   │   └── DriveTimeoutError   no answer within the deadline
    │   ├── DriveFullError          no space; what is stored stays readable
    │   ├── DriveWrongError         something else lies where the drive should be
    │   ├── DriveLockedError        another process has this drive
    │   └── DriveFencedError        a newer writer owns this drive (R2)
    ├── CorruptError                bytes of a record, superblock or checkpoint fail their check
    ├── PoolFullError               no room for new data; deleting still works (R23)
    ├── StripeLostError(stripe_id)  fewer than k good shards right now              exit 3
    ├── StalledError                a commit can't be finished; changes are refused (R6)
    │   └── NoRoomError             because drives are full that it can't do without
    └── FencedError                 another writer took the pool over; for good (R2)

``fs/`` has a tree of its own for errno (``fs.errors.FsError``); ``fuse.py`` maps both.
Errors are translated at a room's border with ``raise … from``; nothing here knows errno or FUSE.
"""

from __future__ import annotations


class EcfsError(Exception):
    """Root of the tree. ``str(error)`` is one line a user can read."""

    exit_status = 2


class UsageError(EcfsError):
    """Bad input. The message names what was wrong and what to type instead."""


class RefusedError(EcfsError):
    """The pool is there, but opening it could lose or mix data. The message says why and what to do."""


class NotAPoolError(RefusedError):
    """Nothing at this place says that it is a pool."""


class PoolLockedError(RefusedError):
    """Another process has the pool open. The message names it where it is known."""


class FormatTooNewError(RefusedError):
    """Written by a newer ecfs than this one."""


class HistoryGapError(RefusedError):
    """A later commit is proven, an earlier one is not readable on any reachable drive (R9)."""


class NotEnoughDrivesError(EcfsError):
    """Fewer than k member drives can be used right now."""

    exit_status = 3


class DriveError(EcfsError):
    """One operation on one drive failed.

    slot: position of the drive in the pool, None while it has none.
    key: what the operation was about, None when it was the drive as a whole.
    """

    exit_status = 1

    def __init__(self, message: str, *, slot: int | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.slot = slot
        self.key = key

    def __str__(self) -> str:
        where = "drive" if self.slot is None else f"drive {self.slot}"
        what = "" if self.key is None else f" [{self.key}]"
        return f"{where}{what}: {self.args[0]}"


class ShardMissingError(DriveError):
    """The key does not exist on this drive."""


class ShardCorruptError(DriveError):
    """The key exists, but its bytes are wrong, short or belong elsewhere."""


class ShardExistsError(DriveError):
    """An exclusive put found the name taken. Names are never reused, so this is a bug or a foreign writer."""


class DriveUnreachableError(DriveError):
    """The drive is gone: deleted, unmounted, unplugged, or it answers with I/O errors."""


class DriveTimeoutError(DriveUnreachableError):
    """No answer within the deadline. The operation may still complete later; names make that harmless (R20)."""


class DriveFullError(DriveError):
    """No space for this write. Everything stored stays readable."""


class DriveWrongError(DriveError):
    """Something else lies where the drive should be: a foreign, empty, diverged or partly deleted directory."""


class DriveLockedError(DriveError):
    """Another process holds this drive's lock."""


class DriveFencedError(DriveError):
    """A newer writer has fenced this drive; nothing was changed by the refused operation."""


class CorruptError(EcfsError):
    """Bytes of a record, superblock, identity or checkpoint fail their check."""


class PoolFullError(EcfsError):
    """No room for new data, even after reclaiming what is dead. Reading and deleting still work (R23)."""

    exit_status = 1


class StripeLostError(EcfsError):
    """Fewer than k good shards of a stripe can be had right now.

    stripe_id: the stripe; reasons: per slot, why its shard could not be used.
    """

    exit_status = 3

    def __init__(self, stripe_id: int, reasons: dict[int, str]) -> None:
        why = ", ".join(f"drive {slot}: {text}" for slot, text in sorted(reasons.items()))
        super().__init__(f"stripe {stripe_id:016x} can't be decoded ({why})")
        self.stripe_id = stripe_id
        self.reasons = reasons


class StalledError(EcfsError):
    """A commit could not be made durable and is being retried; changes are refused meanwhile (R6)."""


class NoRoomError(StalledError):
    """As StalledError: somebody else filled drives that every commit must reach. Room on them ends it."""


class FencedError(EcfsError):
    """Another writer has taken the pool over. This process will never write to it again (R2)."""
