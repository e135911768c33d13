"""The medium under a MemoryDrive: what it shows, what of that is durable, and ways to break it.

As on a disk, bytes and names become durable apart: `names` is what a reader sees, `durable_names` what a crash leaves,
and each file knows how many of its bytes are on the medium. Every change that is not durable yet is a `Change`, in
order; `crash` keeps a prefix of them, by default none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ecfs.drive.base import Location, Writer
from ecfs.drive.fence import NOBODY
from ecfs.errors import DriveFullError

Keep = Callable[[int], int]
"""Gets the size of all changes that are not durable, returns how much of it survives a crash."""

UNLIMITED = 1 << 50


@dataclass(eq=False)
class File:
    """data: what a reader sees. durable: how many bytes of it survive a crash."""

    data: bytearray
    durable: int = 0


@dataclass(eq=False)
class Change:
    """One step towards durability: a name (file None: its removal), or the bytes of a file up to `upto`."""

    key: str
    file: File | None
    upto: int | None = None

    def size(self) -> int:
        """Bytes still to be written; 1 for a name."""
        return 1 if self.upto is None or self.file is None else max(0, self.upto - self.file.durable)

    @property
    def awaits_sync(self) -> bool:
        """False for journal and blobs, which become durable by themselves."""
        return self.file is None or self.key.startswith(("s/", "c/"))


@dataclass(eq=False)
class MemoryStore:
    """A medium that several drives can be handles of, at once or one after the other.

    capacity: bytes. device: stores with the same one are meant to share space. lockable: False models a storage node,
    where two writers can be attached at once and only the fence tells them apart. request_bytes: see `Capabilities`.
    location: what `location` answers.
    """

    capacity: int = UNLIMITED
    device: str = "memory"
    lockable: bool = True
    request_bytes: int = 0
    location: Location | None = None
    exists: bool = False
    reachable: bool = True
    fence: Writer = NOBODY
    holder: object | None = None
    """The handle that holds the lock."""
    names: dict[str, File] = field(default_factory=dict)
    durable_names: dict[str, File] = field(default_factory=dict)
    epochs: set[int] = field(default_factory=set)
    pending: list[Change] = field(default_factory=list)
    voids: int = 0
    """Syncs that failed: whoever put something before one of them must hear of it."""
    incarnation: int = 0
    """Counts what ends every attachment: wiped, created anew, crashed."""

    @property
    def used(self) -> int:
        return sum(len(file.data) for file in self.names.values())

    # ---- changes ------------------------------------------------------------------------------------------------

    def demand(self, size: int) -> None:
        """Raise DriveFullError unless `size` more bytes fit."""
        if self.capacity < UNLIMITED and self.used + size > self.capacity:
            raise DriveFullError(f"no space for {size} bytes")

    def write(self, key: str, data: bytes) -> list[Change]:
        """A new file: first its name can become durable, then byte after byte."""
        self.demand(len(data))
        file = self.names[key] = File(bytearray(data))
        return self._add(Change(key, file), Change(key, file, len(data)))

    def replace(self, key: str, data: bytes) -> list[Change]:
        """A file exchanged atomically: its bytes were made durable under a temporary name before it got this one."""
        old = self.names.get(key)
        self.demand(len(data) - (len(old.data) if old else 0))
        file = self.names[key] = File(bytearray(data), durable=len(data))
        return self._add(Change(key, file))

    def extend(self, key: str, data: bytes) -> list[Change]:
        self.demand(len(data))
        file = self.names[key]
        file.data += data
        return self._add(Change(key, file, len(file.data)))

    def remove(self, key: str) -> list[Change]:
        if self.names.pop(key, None) is None:
            return []
        return self._add(Change(key, None))

    def _add(self, *changes: Change) -> list[Change]:
        self.pending += changes
        return list(changes)

    def harden(self, changes: list[Change]) -> None:
        """Make these durable, except those that a failed sync has voided meanwhile."""
        wanted = set(map(id, changes))
        left: list[Change] = []
        for change in self.pending:
            if id(change) not in wanted:
                left.append(change)
                continue
            self._apply(change, change.size())
            if change.upto is None:
                # An older file of this name can't come back once a newer one is durable.
                left = [older for older in left if older.key != change.key]
        self.pending = left

    def harden_all(self) -> None:
        """Whoever made them."""
        self.harden(self.pending)

    def awaiting_sync(self) -> list[Change]:
        return [change for change in self.pending if change.awaits_sync]

    def void(self) -> None:
        """What a failed sync leaves: still readable, and lost in the next crash even if a later sync succeeds."""
        self.pending = [change for change in self.pending if not change.awaits_sync]
        self.voids += 1

    def _apply(self, change: Change, amount: int) -> None:
        if change.file is None:
            self.durable_names.pop(change.key, None)
        elif change.upto is None:
            self.durable_names[change.key] = change.file
        else:
            change.file.durable = min(change.upto, change.file.durable + amount)

    # ---- breaking it --------------------------------------------------------------------------------------------

    def crash(self, keep: Keep | None = None) -> None:
        """Power is cut: all handles end, and what was not durable is gone.

        keep: how much of it survives instead, as a prefix in order, torn at a byte within the last change; such as
        ``lambda size: chance.randrange(size + 1)``, or ``lambda size: size`` for a process that was only killed.
        """
        left = keep(sum(change.size() for change in self.pending)) if keep else 0
        for change in self.pending:
            amount = min(left, change.size())
            if amount:
                self._apply(change, amount)
            left -= amount
        self.pending.clear()
        self.names = dict(self.durable_names)
        for file in self.names.values():
            del file.data[file.durable :]
        self._end_attachments()

    def wipe(self) -> None:
        """``rm -rf`` of the place."""
        self.clear()
        self.exists = False

    def vanish(self) -> None:
        """Unplugged: nothing answers until `come_back`; handles stay attached, as with a node behind a cut cable."""
        self.reachable = False

    def come_back(self) -> None:
        self.reachable = True

    def clear(self) -> None:
        """Another, empty place under the same name."""
        self.names, self.durable_names = {}, {}
        self.epochs.clear()
        self.pending.clear()
        self.fence = NOBODY
        self._end_attachments()

    def _end_attachments(self) -> None:
        self.holder = None
        self.incarnation += 1

    def raw(self, key: str) -> bytearray:
        """The bytes of a shard, segment or blob, to be damaged in place. The damage survives a crash."""
        return self.names[key].data
