"""Reading a file's bytes: dirty → sealed → inline → stripe; what none covers is a hole (design §6).

What to read is decided in one synchronous step; stripes are pinned from there on, so that a commit which frees
one can't pull it away under the read (R13).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

from ecfs.commit.dirty import Dirty
from ecfs.commit.readahead import SMALL, Passing, ReadAhead, first_blocks, is_fragmented
from ecfs.commit.sealed import SealedStripes
from ecfs.commit.tasks import few_at_a_time
from ecfs.errors import CorruptError, StripeLostError
from ecfs.geometry import Geometry
from ecfs.journal.opened import OpenedPool
from ecfs.meta import Extent
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.prefetch import Wish
from ecfs.stripes.reader import Part

RUNS_LOOKED_AT = 256
"""For st_blocks: about a millisecond."""
STRIPES_AT_ONCE = 12
"""Of one read. Everything at once would queue up at the drives, which would look late and have others asked as well."""
FACTS_KEPT = 4096
"""A few hundred bytes each."""


@dataclass
class Load:
    """What is wanted of one stripe, in the file's order."""

    fact: StripeFact
    parts: list[Part] = field(default_factory=list)


class FileReader:
    """Reads what the file system shows now, committed or not."""

    def __init__(self, pool: OpenedPool, dirty: Dirty, sealed: SealedStripes) -> None:
        self._pool = pool
        self._dirty = dirty
        self._sealed = sealed
        self._geometries: dict[int, Geometry] = {}
        self._facts: dict[int, StripeFact] = {}
        self._ahead = ReadAhead(self._warm)
        self._passing = Passing()

    async def read(self, ino: int, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises StripeLostError, CorruptError (inline data)."""
        file = self._dirty.file(ino)
        overlay = list(file.pieces(offset, offset + length)) if file is not None else []
        if len(overlay) == 1 and len(overlay[0][1]) == length:
            return overlay[0][1]
        extents = self._pool.db.files.extents(ino, offset, offset + length)
        if not overlay and len(extents) == 1 and (at_hand := self._at_hand(extents[0], length)) is not None:
            return at_hand
        with ExitStack() as pins:
            loads, here = self._plan(extents, offset, pins)
            if not overlay and not here and len(loads) == 1 and loads[0].parts[0][1] == length:
                # One source for all of it, the common case: nothing to put together.
                return await self._whole(loads[0])
            answer = bytearray(length)
            for into, payload in here:
                answer[into : into + len(payload)] = payload
            left = self._from_cache(loads, answer)
            in_order = self._ahead.is_in_order(ino, offset, length)
            if in_order and is_fragmented(sum(len(load.parts) for load in left), length):
                with suppress(StripeLostError, CorruptError):  # of bytes further on: not the answer to this read
                    await self._ahead.fetch(ino, offset)
                left = self._from_cache(left, answer)
            await self._load_all(left, answer)
        for at, piece in overlay:
            answer[at - offset : at - offset + len(piece)] = piece
        return bytes(answer)

    def _plan(
        self, extents: Iterable[Extent], start: int, pins: ExitStack
    ) -> tuple[list[Load], list[tuple[int, bytes]]]:
        """What must be fetched, by stripe and pinned, and what is in memory, with its place in the answer, which begins
        at `start` of the file. No await between looking up the extents and this."""
        loads: dict[int, Load] = {}
        here = []
        for extent in extents:
            _, offset, length, source, source_offset = extent
            load = loads.get(source)
            if load is None:
                payload = self._in_memory(extent)
                if payload is not None:
                    here.append((offset - start, payload))
                    continue
                pins.enter_context(self._pool.pins.pin(source))
                load = loads[source] = Load(self.fact(source))
            load.parts.append((source_offset, length, offset - start))
        return list(loads.values()), here

    def _from_cache(self, loads: Iterable[Load], answer: bytearray | None = None) -> list[Load]:
        """Copy what is in the cache of verified blocks; what is left to be fetched."""
        from_cache = self._pool.reader.from_cache
        left = [Load(load.fact, from_cache(load.fact, load.parts, answer)) for load in loads]
        return [load for load in left if load.parts]

    def _at_hand(self, extent: Extent, length: int) -> bytes | None:
        """`length` bytes if the extent has them and they are in one piece in memory: a small file beside others that
        were read just now. Nothing to pin, since nothing is waited for."""
        if extent.length != length:
            return None
        payload = self._in_memory(extent)
        if payload is None:
            payload = self._pool.reader.at_hand(self.fact(extent.source), extent.source_offset, length)
        return payload

    def _in_memory(self, extent: Extent) -> bytes | None:
        if extent.source < 0:
            data: bytes | None = self._pool.db.files.inline_data(-extent.source)
        else:
            data = self._sealed.payload(extent.source)
        return None if data is None else data[extent.source_offset : extent.source_offset + extent.length]

    def fact(self, stripe: int) -> StripeFact:
        """What is known of a committed stripe. Raises StripeLostError if nothing is: never zeros instead."""
        known = self._facts.get(stripe)  # facts never change, and ids are never reused (R3)
        if known is not None:
            return known
        row = self._pool.db.ledger.fact(stripe)
        if row is None:
            raise StripeLostError(stripe, {})
        if len(self._facts) >= FACTS_KEPT:
            self._facts.clear()
        fact = self._facts[stripe] = StripeFact(stripe, "s", self._geometry(row.geometry), row.length, row.hash)
        return fact

    def _geometry(self, number: int) -> Geometry:
        if number not in self._geometries:
            self._geometries.update(self._pool.db.drives.geometries())
        if number not in self._geometries:
            raise CorruptError(f"geometry {number} is not in the metadata")
        return self._geometries[number]

    def is_hole(self, ino: int, offset: int) -> bool:
        """Whether neither dirty data nor an extent covers that byte."""
        file = self._dirty.file(ino)
        dirty = file is not None and file.covers(offset)
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

    def _avoid(self, fact: StripeFact) -> frozenset[int]:
        """Slots that are known to lack their shard; heal is told that somebody wants the stripe."""
        avoid = self._pool.db.ledger.missing_slots(fact.id)
        if avoid and self._pool.on_wanted is not None:
            self._pool.on_wanted(fact.id)
        return avoid

    async def _whole(self, load: Load) -> bytes:
        (offset, length, _), fact = load.parts[0], load.fact
        window = self._passing.window(fact.id, offset, length)
        if window:
            soon = (offset, min(window, fact.length - offset))
            await self._pool.reader.warm([Wish(fact, [soon], self._avoid(fact))])
        return await self._pool.reader.read(fact, offset, length, self._avoid(fact))

    async def gather(self, ino: int, lo: int, hi: int) -> tuple[list[Extent], bytearray]:
        """The extents in [lo, hi), and its bytes as they say, without what is dirty. Raises as `read` does."""
        await self._warm(ino, lo, hi)
        extents, data = self._pool.db.files.extents(ino, lo, hi), bytearray(hi - lo)
        with ExitStack() as pins:
            loads, here = self._plan(extents, lo, pins)
            for into, payload in here:
                data[into : into + len(payload)] = payload
            await self._load_all(self._from_cache(loads, data), data)
        return extents, data

    async def _load_all(self, loads: Sequence[Load], answer: bytearray) -> None:
        await few_at_a_time(STRIPES_AT_ONCE, [partial(self._load_into, load, answer) for load in loads])

    async def _load_into(self, load: Load, answer: bytearray) -> None:
        await self._pool.reader.read_parts(load.fact, load.parts, answer, self._avoid(load.fact))

    async def _warm(self, ino: int, lo: int, hi: int) -> int:
        """Fetch the small pieces of [lo, hi) into the cache of verified blocks, as far as they are not there. Returns
        where it stopped."""
        with ExitStack() as pins:
            extents = [each for each in self._pool.db.files.extents(ino, lo, hi) if each.length < SMALL]
            count = first_blocks(extents)
            loads, _ = self._plan(extents[:count], lo, pins)
            await self._pool.reader.warm([self._wish(load) for load in self._from_cache(loads)])
        return hi if count == len(extents) else extents[count].offset

    def _wish(self, load: Load) -> Wish:
        return Wish(load.fact, [(offset, length) for offset, length, _ in load.parts], self._avoid(load.fact))

    async def read_stripe(self, stripe: int) -> bytes:
        """A whole payload, for the compactor, which has pinned the stripe: one read instead of one per extent."""
        payload = self._sealed.payload(stripe)
        if payload is not None:
            return payload
        fact = self.fact(stripe)
        return await self._pool.reader.read(fact, 0, fact.length, self._avoid(fact))

    def read_inline(self, extent: Extent) -> bytes:
        """The bytes of an extent into an inline blob. Raises CorruptError."""
        data = self._pool.db.files.inline_data(-extent.source)
        return data[extent.source_offset : extent.source_offset + extent.length]
