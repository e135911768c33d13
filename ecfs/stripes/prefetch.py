"""Blocks of many stripes at once, one call to each drive: for readers that know what they will want next.

Nobody's answer depends on it. What did not come, in time and verified, is not in the cache, and whoever wants it reads
it by `reading`, past every error. So nothing is tried twice here, and nothing is reported: that read will meet it too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from ecfs.drive.base import Drive
from ecfs.errors import CorruptError, DriveError, FormatTooNewError
from ecfs.geometry import blocks_covering
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.fetch import Source
from ecfs.stripes.reading import ReadContext

SHARDS_AT_ONCE = 32
"""Of one call: a few MiB at most."""


@dataclass(frozen=True)
class Wish:
    """Parts (offset, length) of a stripe's payload that somebody will want soon. avoid: slots known to lack theirs."""

    fact: StripeFact
    parts: Sequence[tuple[int, int]]
    avoid: Collection[int] = ()


@dataclass
class _Batch:
    """What one drive is asked for: shards and the numbers of their blocks, ascending."""

    drive: Drive
    shards: list[tuple[Source, list[int]]] = field(default_factory=list)


class Prefetch:
    """Fills the cache of verified blocks."""

    def __init__(self, context: ReadContext) -> None:
        self._context = context

    async def fetch(self, wishes: Sequence[Wish]) -> None:
        """Return when every drive answered, or is late. Never fails."""
        batches: dict[int, _Batch] = {}
        for wish in wishes:
            self._add(wish, batches)
        async with trio.open_nursery() as nursery:
            for slot, batch in batches.items():
                nursery.start_soon(self._fetch_from, slot, batch)

    # ---- deciding ---------------------------------------------------------------------------------------

    def _add(self, wish: Wish, batches: dict[int, _Batch]) -> None:
        sources = self._sources(wish)
        asked: dict[int, set[int]] = {}
        for row, index in self._blocks(wish, sources):
            if self._context.cache.block(wish.fact, index, row) is None:
                asked.setdefault(index, set()).add(row)
        for index, rows in asked.items():
            source = sources[index]
            batch = batches.setdefault(source.slot, _Batch(source.drive))
            batch.shards.append((source, sorted(rows)))

    def _sources(self, wish: Wish) -> dict[int, Source]:
        """By index, the shards that there is no reason not to ask."""
        found = {index: self._context.source(wish.fact, index, wish.avoid) for index in range(wish.fact.geometry.n)}
        return {index: source for index, source in found.items() if source is not None}

    def _blocks(self, wish: Wish, known: Collection[int]) -> Iterator[tuple[int, int]]:
        """(row, index) of the blocks to have: where one can't be read, those of k others, to decode it from."""
        sources = list(known)[: wish.fact.geometry.k]
        for offset, length in wish.parts:
            for piece in wish.fact.geometry.pieces(offset, length, wish.fact.length):
                for row in blocks_covering(piece.offset, piece.length):
                    for index in (piece.index,) if piece.index in known else sources:
                        yield row, index

    # ---- asking -----------------------------------------------------------------------------------------

    async def _fetch_from(self, slot: int, batch: _Batch) -> None:
        for at in range(0, len(batch.shards), SHARDS_AT_ONCE):
            shards = batch.shards[at : at + SHARDS_AT_ONCE]
            with trio.move_on_after(len(shards) * self._context.hedge.patience(slot)) as scope:
                if not await self._ask(slot, batch.drive, shards):
                    return
            if scope.cancelled_caught:
                self._context.hedge.was_late(slot)
                return

    async def _ask(self, slot: int, drive: Drive, shards: Sequence[tuple[Source, list[int]]]) -> bool:
        """False if the drive failed."""
        cache = self._context.cache
        headers = [cache.header(source.fact, source.index) for source, _ in shards]
        wanted = [
            (source.fact.key, source.ranges(numbers, header))
            for (source, numbers), header in zip(shards, headers, strict=True)
        ]
        try:
            answers = await drive.read_shards(wanted)
        except DriveError:
            return False
        self._context.access.drive_answered(slot)
        for (source, numbers), header, answer in zip(shards, headers, answers, strict=True):
            if isinstance(answer, DriveError):
                continue
            with suppress(CorruptError, DriveError, FormatTooNewError):
                fetched = source.judge(numbers, header, answer)
                cache.put_header(source.fact, fetched.header)
                for number, data in fetched.blocks.items():
                    cache.put_block(source.fact, source.index, number, data)
        return True
