"""Reading a file's bytes: dirty → sealed → inline → stripe; what none covers is a hole (design §6).

What to read is decided in one synchronous step; stripes are pinned from there on, so that a commit which frees
one can't pull it away under the read (R13).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from ecfs.commit.dirty import Dirty
from ecfs.commit.sealed import SealedStripes
from ecfs.commit.settle import together
from ecfs.errors import CorruptError, StripeLostError
from ecfs.geometry import Geometry
from ecfs.journal.opened import OpenedPool
from ecfs.meta import Extent
from ecfs.stripes.fact import StripeFact

RUNS_LOOKED_AT = 256
"""For st_blocks: about a millisecond."""


@dataclass
class _Load:
    """A piece that lies in a stripe: `into` bytes from the start of the answer."""

    fact: StripeFact
    offset: int
    length: int
    into: int


class FileReader:
    """Reads what the file system shows now, committed or not."""

    def __init__(self, pool: OpenedPool, dirty: Dirty, sealed: SealedStripes) -> None:
        self._pool = pool
        self._dirty = dirty
        self._sealed = sealed
        self._geometries: dict[int, Geometry] = {}

    async def read(self, ino: int, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises StripeLostError, CorruptError (inline data)."""
        file = self._dirty.file(ino)
        overlay = list(file.pieces(offset, offset + length)) if file is not None else []
        if len(overlay) == 1 and len(overlay[0][1]) == length:
            return overlay[0][1]
        with ExitStack() as pins:
            loads, here = self._plan(ino, offset, length, pins)
            if not overlay and len(loads) + len(here) == 1:
                # One source for all of it, the common case: nothing to put together.
                if here and len(here[0][1]) == length:
                    return here[0][1]
                if loads and loads[0].length == length:
                    return await self._load(loads[0])
            answer = bytearray(length)
            for into, payload in here:
                answer[into : into + len(payload)] = payload
            await together(partial(self._load_into, load, answer) for load in loads)
        for at, piece in overlay:
            answer[at - offset : at - offset + len(piece)] = piece
        return bytes(answer)

    def _plan(self, ino: int, offset: int, length: int, pins: ExitStack) -> tuple[list[_Load], list[tuple[int, bytes]]]:
        """What must be fetched, pinned, and what is in memory, with its place in the answer. No await."""
        loads, here = [], []
        for extent in self._pool.db.files.extents(ino, offset, offset + length):
            into = extent.offset - offset
            payload = self._in_memory(extent)
            if payload is None:
                pins.enter_context(self._pool.pins.pin(extent.source))
                loads.append(_Load(self.fact(extent.source), extent.source_offset, extent.length, into))
            else:
                here.append((into, payload))
        return loads, here

    def _in_memory(self, extent: Extent) -> bytes | None:
        if extent.source < 0:
            data: bytes | None = self._pool.db.files.inline_data(-extent.source)
        else:
            data = self._sealed.payload(extent.source)
        return None if data is None else data[extent.source_offset : extent.source_offset + extent.length]

    def fact(self, stripe: int) -> StripeFact:
        """What is known of a committed stripe. Raises StripeLostError if nothing is: never zeros instead."""
        row = self._pool.db.ledger.fact(stripe)
        if row is None:
            raise StripeLostError(stripe, {})
        return StripeFact(stripe, "s", self._geometry(row.geometry), row.length, row.hash)

    def _geometry(self, number: int) -> Geometry:
        if number not in self._geometries:
            self._geometries.update(self._pool.db.drives.geometries())
        if number not in self._geometries:
            raise CorruptError(f"geometry {number} is not in the metadata")
        return self._geometries[number]

    def is_hole(self, ino: int, offset: int) -> bool:
        """Whether neither dirty data nor an extent covers that byte."""
        file = self._dirty.file(ino)
        dirty = file is not None and file.covers(offset, offset + 1)
        return not dirty and not self._pool.db.files.extents(ino, offset, offset + 1)

    def allocated(self, ino: int) -> int:
        """Bytes that take space. Many dirty runs are not looked at one by one: what they replace counts twice then."""
        file, files = self._dirty.file(ino), self._pool.db.files
        kept = files.mapped_bytes(ino)
        if file is None:
            return kept
        if kept and len(file) <= RUNS_LOOKED_AT:
            kept -= sum(each.length for lo, hi in file.ranges() for each in files.extents(ino, lo, hi))
        return kept + file.size

    async def _load(self, load: _Load) -> bytes:
        avoid = self._pool.db.ledger.missing_slots(load.fact.id)
        if avoid and self._pool.on_wanted is not None:
            self._pool.on_wanted(load.fact.id)
        return await self._pool.reader.read(load.fact, load.offset, load.length, avoid)

    async def _load_into(self, load: _Load, answer: bytearray) -> None:
        answer[load.into : load.into + load.length] = await self._load(load)

    async def read_stripe(self, stripe: int) -> bytes:
        """A whole payload, for the compactor, which has pinned the stripe: one read instead of one per extent."""
        payload = self._sealed.payload(stripe)
        if payload is not None:
            return payload
        fact = self.fact(stripe)
        return await self._load(_Load(fact, 0, fact.length, 0))

    def read_inline(self, extent: Extent) -> bytes:
        """The bytes of an extent into an inline blob. Raises CorruptError."""
        data = self._pool.db.files.inline_data(-extent.source)
        return data[extent.source_offset : extent.source_offset + extent.length]
