"""The medium under a simulated drive: one that may lie about what is durable, and can be copied as it is right now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from weakref import WeakKeyDictionary

import trio

from ecfs.drive.base import Writer
from ecfs.drive.fence import NOBODY
from ecfs.drive.memory_store import Change, File, MemoryStore
from ecfs.errors import ShardCorruptError


@dataclass(frozen=True)
class LateWrite:
    """What an abandoned call will still do: nobody waits for it any more, and it may come after anything (R20)."""

    due: float
    do: Callable[[], object]


@dataclass(eq=False)
class SimStore(MemoryStore):
    """lies: while greater than 0, sync, append and blob writes are answered before anything is durable; a crash then
    takes it."""

    lies: int = 0
    lied: bool = False
    """Something may be shown that is not durable although a sync was answered."""
    late: list[LateWrite] = field(default_factory=list)
    bad_sectors: WeakKeyDictionary[File, tuple[int, int]] = field(default_factory=WeakKeyDictionary)
    """(start, end) of what can't be read any more; goes with the file."""
    frozen: trio.Event | None = None
    """While set, nothing is answered, nor refused, until the event."""
    gone: set[str] = field(default_factory=set)
    """Prefixes whose directory was deleted; `prepare` makes them anew."""
    strays: list[str] = field(default_factory=list)
    """Names of files that are not ecfs's own."""
    foreign: dict[str, bytes] = field(default_factory=dict)
    """Keys of shards that belong elsewhere, with their bytes."""
    left_behind: list[Change] = field(default_factory=list)
    """What a process that was killed had not synced: no later one knows of it, so that only the kernel may write it."""

    def killed(self) -> None:
        self.late.clear()
        self.left_behind = list(self.pending)
        self._end_attachments()

    def awaiting_sync(self) -> list[Change]:
        behind = set(map(id, self.left_behind))
        return [change for change in super().awaiting_sync() if id(change) not in behind]

    def freeze(self) -> None:
        if self.frozen is None:
            self.frozen = trio.Event()

    def come_back(self) -> None:
        super().come_back()
        if self.frozen is not None:
            self.frozen.set()
            self.frozen = None

    def harden(self, changes: list[Change]) -> None:
        if not self.lies:
            super().harden(changes)
        self.lied = self.lied or self.lies > 0

    def settle_late(self) -> None:
        """Let abandoned calls whose time has come do what they were asked to."""
        for write in [write for write in self.late if write.due <= trio.current_time()]:
            self.late.remove(write)
            write.do()

    def clear(self) -> None:
        super().clear()
        self.gone.clear()
        self.strays.clear()
        self.foreign.clear()

    def _foreign(self) -> list[str]:
        """Of `foreign`, what still lies there: deleted with its stripe, or replaced by a scrub, it is none any more."""
        return [key for key, data in self.foreign.items() if key in self.names and self.names[key].data == data]

    def is_littered(self) -> bool:
        """Does something lie here that is not this drive's?"""
        return bool(self.strays or self._foreign())

    def tidy(self) -> bool:
        """Somebody moves away what is not this drive's. False if there was nothing."""
        found = self.is_littered()
        for key in self._foreign():
            self.drop(key)
        self.strays.clear()
        self.foreign.clear()
        return found

    def drop(self, key: str) -> None:
        """The file is gone as if it had never been written."""
        self.names.pop(key, None)
        self.durable_names.pop(key, None)
        self.pending = [change for change in self.pending if change.key != key]

    def demand_readable(self, key: str, ranges: Sequence[tuple[int, int]]) -> None:
        """As a disk with a bad sector: whoever asks for that, too, gets nothing, and is not told where it is.

        ranges: (offset, length), length -1 for all that is behind it.
        """
        file = self.names.get(key)
        start, end = self.bad_sectors.get(file, (0, 0)) if file is not None else (0, 0)
        if any(offset < end and (length < 0 or offset + length > start) for offset, length in ranges):
            raise ShardCorruptError("can't be read: Input/output error", key=key)

    def confess(self) -> None:
        """A drive that lied loses power: from now on it shows what it really has."""
        if self.lied:
            self.crash()
        self.lied = False

    def crash_by_chance(self, chance: Random) -> None:
        """Power is cut: synced bytes stay, of the rest nothing, everything or a prefix torn at any byte."""
        style = chance.random()
        if style < 0.3:
            self.crash()
        elif style < 0.5:
            self.crash(lambda size: size)
        else:
            self.crash(lambda size: chance.randrange(size + 1))
        self.late.clear()


Copies = dict[int, tuple[int, bytes]]
"""id of a file → its length and bytes when last copied: most files never change."""


@dataclass
class Image:
    """A medium at one moment, durable and other state apart. Restored any number of times."""

    names: dict[str, int]
    durable_names: dict[str, int]
    files: dict[int, tuple[bytes, int]]
    pending: list[tuple[str, int | None, int | None]]
    epochs: set[int]
    fence: Writer = NOBODY
    exists: bool = True
    reachable: bool = True
    gone: frozenset[str] = frozenset()
    strays: tuple[str, ...] = ()
    foreign: frozenset[tuple[str, bytes]] = frozenset()

    def contents(self) -> dict[str, bytes]:
        """Every file but the fence and notes that a look may leave."""
        return {key: self.files[number][0] for key, number in self.names.items()}


def take_image(store: MemoryStore, copies: Copies) -> Image:
    files: dict[int, tuple[bytes, int]] = {}

    def number(file: File) -> int:
        if id(file) not in files:
            files[id(file)] = (_bytes_of(file, copies), file.durable)
        return id(file)

    return Image(
        {key: number(file) for key, file in store.names.items()},
        {key: number(file) for key, file in store.durable_names.items()},
        files,
        [(change.key, None if change.file is None else number(change.file), change.upto) for change in store.pending],
        set(store.epochs),
        store.fence,
        store.exists,
        store.reachable,
        *_oddities(store),
    )


def _oddities(store: MemoryStore) -> tuple[frozenset[str], tuple[str, ...], frozenset[tuple[str, bytes]]]:
    if not isinstance(store, SimStore):
        return frozenset(), (), frozenset()
    return frozenset(store.gone), tuple(store.strays), frozenset(store.foreign.items())


def _bytes_of(file: File, copies: Copies) -> bytes:
    """Within one crash test files only grow and are never damaged, so that the length tells whether one changed."""
    known = copies.get(id(file))
    if known is None or known[0] != len(file.data):
        known = copies[id(file)] = (len(file.data), bytes(file.data))
    return known[1]


def put_image(store: MemoryStore, image: Image, copies: Copies | None = None) -> None:
    """Make the medium what it was. Handles on it end. copies: learns the bytes of each file, for the next image."""
    files = {number: File(bytearray(data), durable) for number, (data, durable) in image.files.items()}
    if copies is not None:
        copies.update({id(file): (len(file.data), image.files[number][0]) for number, file in files.items()})
    store.names = {key: files[number] for key, number in image.names.items()}
    store.durable_names = {key: files[number] for key, number in image.durable_names.items()}
    store.pending = [
        Change(key, None if number is None else files[number], upto) for key, number, upto in image.pending
    ]
    store.epochs = set(image.epochs)
    store.fence, store.exists, store.reachable = image.fence, image.exists, image.reachable
    if isinstance(store, SimStore):
        store.gone, store.strays, store.foreign = set(image.gone), list(image.strays), dict(image.foreign)
    store._end_attachments()


def take_images(stores: Iterable[MemoryStore], copies: Copies | None = None) -> list[Image]:
    """All media at one moment. copies: shared between images of one run, to save memory."""
    copies = {} if copies is None else copies
    return [take_image(store, copies) for store in stores]


def put_images(stores: Iterable[MemoryStore], images: Iterable[Image], copies: Copies | None = None) -> None:
    for store, image in zip(stores, images, strict=False):  # a medium may have been added since
        put_image(store, image, copies)
