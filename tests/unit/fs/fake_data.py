"""File data in memory: the contract of `FileData`, with switches for what a real engine may refuse or lose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable

import trio

from ecfs.commit.backlog import Backlog
from ecfs.errors import EcfsError
from ecfs.fs.data import FileSpace

PAGE = 4096


class FakeData:
    """Pages by file. `refuse`: raised by admit (unless deleting and `may_delete`)."""

    def __init__(self, total: int = 1 << 40) -> None:
        self.failures = 0
        self.refuse: EcfsError | None = None
        self.may_delete = True
        self.sync_error: EcfsError | None = None
        self.during_sync: Callable[[], Awaitable[object]] | None = None
        self.read_error: EcfsError | None = None
        self.admitted: list[tuple[int, bool]] = []
        self.changes = 0
        self.syncs = 0
        self.free: int | None = None
        self.freed: int | None = None
        """What a look at the drives would show."""
        self.backlog = Backlog()
        self._total = total
        self._pages: dict[int, dict[int, bytearray]] = defaultdict(dict)

    async def admit(self, size: int, *, deleting: bool = False, metadata: int = 0) -> None:
        await trio.lowlevel.checkpoint()
        if size:
            await self.backlog.wait_turn(size)
        if self.refuse is not None and not (deleting and self.may_delete):
            raise self.refuse
        self.admitted.append((size, deleting))

    def write(self, ino: int, offset: int, data: bytes) -> None:
        pages = self._pages[ino]
        done = 0
        while done < len(data):
            number, start = divmod(offset + done, PAGE)
            piece = data[done : done + PAGE - start]
            pages.setdefault(number, bytearray(PAGE))[start : start + len(piece)] = piece
            done += len(piece)

    async def read(self, ino: int, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.read_error is not None:
            raise self.read_error
        pages = self._pages.get(ino, {})
        first, last = offset // PAGE, (offset + length - 1) // PAGE
        whole = b"".join(bytes(pages.get(number, bytes(PAGE))) for number in range(first, last + 1))
        return whole[offset - first * PAGE :][:length]

    def truncate(self, ino: int, size: int) -> None:
        pages = self._pages[ino]
        for number in [number for number in pages if number * PAGE >= size]:
            del pages[number]
        number, start = divmod(size, PAGE)
        if number in pages:
            pages[number][start:] = bytes(PAGE - start)

    def remove(self, ino: int) -> None:
        self._pages.pop(ino, None)

    def changed(self) -> None:
        self.changes += 1

    async def sync(self) -> None:
        await trio.lowlevel.checkpoint()
        self.syncs += 1
        if self.during_sync is not None:
            await self.during_sync()
        if self.sync_error is not None:
            raise self.sync_error

    def is_hole(self, ino: int, offset: int) -> bool:
        return offset // PAGE not in self._pages.get(ino, {})

    def allocated(self, ino: int) -> int:
        return len(self._pages.get(ino, {})) * PAGE

    async def has_room(self, size: int) -> bool:
        if self.freed is not None:
            self.free = self.freed
        return size <= self.usable().free

    def usable(self) -> FileSpace:
        used = sum(len(pages) for pages in self._pages.values()) * PAGE
        return FileSpace(total=self._total, free=self._total - used if self.free is None else self.free)

    @property
    def files(self) -> set[int]:
        """Inodes that have bytes."""
        return {ino for ino, pages in self._pages.items() if pages}
