"""Reading ahead in a file that lies in many small pieces, because it was overwritten at random.

A stripe keeps its pieces in the file's order, so one block of 64 KiB holds what the next megabytes of the file need as
well. Fetched for each request of the kernel alone, a block would be asked for again and again, and every request would
ask every drive many times for little. So a reader that goes through such a file in order has the pieces of a window
fetched at once, into the cache of verified blocks: nothing there is ever stale, whatever is written meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from ecfs.geometry import BLOCK_SIZE
from ecfs.meta import Extent

MIB = 1 << 20
WINDOW = 8 * MIB
"""Bytes of the file."""
BLOCKS = 256
"""Of stripes; beyond so many the window ends earlier. 16 MiB, which the cache keeps until they are wanted."""
SMALL = 2 * BLOCK_SIZE
"""A file counts as fragmented where pieces are smaller on average. Larger ones are fetched as they are wanted."""
NEAR = 2 * MIB
"""The kernel asks for several parts of what it reads ahead at once, in any order."""
FILES = 64
PASSING = 8 * BLOCK_SIZE
"""Bytes of a stripe that are fetched at once where small files lie that are read one after the other."""


@dataclass(eq=False)
class _Window:
    """Bytes [lo, hi) of a file that are being fetched; hi is where it ended, once it is done."""

    ino: int
    lo: int
    hi: int
    done: trio.Event = field(default_factory=trio.Event)


class ReadAhead:
    """Knows who reads in order, and lets each window be fetched once.

    fetch: (inode, from, to) into the cache; returns how far it got, because it was too much.
    """

    def __init__(self, fetch: Callable[[int, int, int], Awaitable[int]]) -> None:
        self._fetch = fetch
        self._ends: OrderedDict[int, int] = OrderedDict()
        self._running: list[_Window] = []  # as many as requests of the kernel at most

    def is_in_order(self, ino: int, offset: int, length: int) -> bool:
        """Whether this read goes on where one ended a moment ago. To be told of every read of a file in pieces."""
        end = self._ends.pop(ino, 0)
        self._ends[ino] = offset + length
        if len(self._ends) > FILES:
            self._ends.popitem(last=False)
        return abs(offset - end) <= NEAR

    async def fetch(self, ino: int, offset: int) -> None:
        """Return when the window that a read at `offset` begins, or lies in, has been fetched as far as it could be."""
        while (running := self._covering(ino, offset)) is not None:
            await running.done.wait()
            if offset < running.hi:
                return
        window = _Window(ino, offset, offset + WINDOW)
        self._running.append(window)
        try:
            window.hi = await self._fetch(ino, window.lo, window.hi)
        finally:
            self._running.remove(window)
            window.done.set()

    def _covering(self, ino: int, offset: int) -> _Window | None:
        return next((each for each in self._running if each.ino == ino and each.lo <= offset < each.hi), None)


class Passing:
    """Knows whether small files are read in the order in which they lie in a stripe, which is that of their making."""

    def __init__(self) -> None:
        self._fetched = (0, 0)
        """Stripe, and the first block of its payload behind what was fetched last."""

    def window(self, stripe: int, offset: int, length: int) -> int:
        """Bytes from `offset` of the payload to have fetched; 0: just what is asked for. To be told of each read in one
        piece that was not at hand."""
        block = offset // BLOCK_SIZE
        goes_on = length < SMALL and self._fetched[0] == stripe and 0 <= block - self._fetched[1] <= 1
        self._fetched = stripe, block + (PASSING // BLOCK_SIZE if goes_on else 1)
        return PASSING if goes_on else 0


def is_fragmented(pieces: int, length: int) -> bool:
    """Whether so many pieces of so many bytes are small ones."""
    return pieces * SMALL > length


def first_blocks(extents: Sequence[Extent]) -> int:
    """How many of them, from the start, lie in at most `BLOCKS` blocks of stripes."""
    blocks: set[tuple[int, int]] = set()
    for at, extent in enumerate(extents):
        blocks.add((extent.source, extent.source_offset // BLOCK_SIZE))
        if len(blocks) > BLOCKS:
            return at
    return len(extents)
