"""One read of one stripe: which blocks to ask whom for, what came, and what must be decoded.

Everything is decided per *row*, the same block of all n shards. A row is read from its data shards alone. As soon as
one of them is bad, late or better not asked, blocks of that row are fetched from as many others as k still needs, past
every error, until k are verified or too few are left. Nothing unverified ever reaches the decoder (promise 4).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import trio

from ecfs.codec import Codec
from ecfs.errors import (
    CorruptError,
    DriveError,
    FormatTooNewError,
    ShardCorruptError,
    ShardMissingError,
    StripeLostError,
)
from ecfs.geometry import BLOCK_SIZE, Piece, blocks_covering
from ecfs.shard import DATA_OFFSET, Buffer, ShardHeader, check_block
from ecfs.stripes.access import DriveAccess
from ecfs.stripes.bad import BadShards
from ecfs.stripes.blocks import Blocks
from ecfs.stripes.cache import StripeCache
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.fetch import Fetched, Source
from ecfs.stripes.hedge import Hedge
from ecfs.stripes.rebuild import rebuild_shards
from ecfs.stripes.verdict import Mark, judge


@dataclass(frozen=True)
class ReadContext:
    """What all reads of a pool share."""

    access: DriveAccess
    pool_id: bytes
    cache: StripeCache
    hedge: Hedge
    bad: BadShards

    def is_welcome(self, fact: StripeFact, slot: int, avoid: Collection[int]) -> bool:
        """True if there is no reason to ask others before the shard on this slot."""
        known_bad = slot in avoid or self.bad.is_known(fact.id, slot)
        return not known_bad and not self.hedge.is_shunned(slot)

    def source(self, fact: StripeFact, index: int, avoid: Collection[int]) -> Source | None:
        """Shard `index`, if its drive can be read and there is no reason not to ask it."""
        slot = fact.slot_of(index)
        drive = self.access.readable(slot)
        if drive is None or not self.is_welcome(fact, slot, avoid):
            return None
        return Source(drive, fact, self.pool_id, slot)


@dataclass(eq=False)
class _Request:
    """Blocks of one shard that a drive was asked for. late_at: when it should have answered, seconds. late: it has
    not, or is known not to give all of them; its rows are asked of others meanwhile."""

    index: int
    numbers: Sequence[int]
    late_at: float
    late: bool = False


class Reading:
    """The state of one read. Only `gather` and `decode` wait; every verdict is made in one step without an await."""

    def __init__(self, context: ReadContext, fact: StripeFact, pieces: Sequence[Piece], avoid: frozenset[int]) -> None:
        self._context = context
        self._fact = fact
        self._avoid = avoid
        self._blocks = Blocks(context.cache, fact, pieces)
        self._bad: dict[int, str] = {}  # index -> why nothing of it can be used
        self._bad_blocks: dict[tuple[int, int], str] = {}
        self._requests: set[_Request] = set()
        self._news = trio.Event()
        self._is_calm = True  # all that was asked answers in time and well: no row needs another shard meanwhile
        self._order: list[int] = []
        self._rows: dict[int, list[int]] = {}  # row -> data shards of which it is needed
        for piece in pieces:
            for row in blocks_covering(piece.offset, piece.length):
                indexes = self._rows.setdefault(row, [])
                if piece.index not in indexes:  # small pieces lie side by side in one block
                    indexes.append(piece.index)
        self._open = dict(self._rows)  # those that may still need something

    # ---- deciding ---------------------------------------------------------------------------------------

    def _mark(self, index: int, row: int) -> Mark:
        if self._blocks.get(index, row) is not None:
            return Mark.GOOD
        if index in self._bad or (index, row) in self._bad_blocks:
            return Mark.BAD
        asked = [request.late for request in self._requests if request.index == index and row in request.numbers]
        if not asked:
            return Mark.UNASKED
        return Mark.LATE if all(asked) else Mark.ASKED

    def _marks(self, row: int) -> list[Mark]:
        return [self._mark(index, row) for index in range(self._fact.geometry.n)]

    def _step(self) -> tuple[dict[int, list[int]], bool]:
        """What to ask now (index → rows), and whether anything is still to be waited for."""
        ask: dict[int, list[int]] = {}
        for row in tuple(self._open):
            indexes, done = self._step_row(row)
            if done:
                del self._open[row]  # for good: nothing that is verified is forgotten
            for index in indexes:
                ask.setdefault(index, []).append(row)
        return ask, bool(self._open)

    def _step_row(self, row: int) -> tuple[Collection[int], bool]:
        """Which indexes to ask for this row, and whether it is done: readable, decodable or lost."""
        unread = [index for index in self._rows[row] if self._blocks.get(index, row) is None]
        if not unread:
            return (), True
        marks = {index: self._mark(index, row) for index in unread}
        direct = [index for index, mark in marks.items() if mark is Mark.UNASKED and self._is_welcome(index)]
        if direct:
            return direct, False
        if all(mark in (Mark.GOOD, Mark.ASKED) for mark in marks.values()):
            return (), False
        verdict = judge(self._fact.geometry.k, self._marks(row), self._preference())
        return verdict.ask, bool(verdict.sources) or verdict.lost

    def _is_welcome(self, index: int) -> bool:
        return self._context.is_welcome(self._fact, self._fact.slot_of(index), self._avoid)

    def _preference(self) -> list[int]:
        """All indexes, those to ask first first. Data before parity: its blocks may be wanted again soon."""
        if not self._order:
            self._order = sorted(range(self._fact.geometry.n), key=lambda index: (not self._is_welcome(index), index))
        return self._order

    def is_direct(self) -> bool:
        """Whether, as far as is known now, nothing must be decoded."""
        readable = self._context.access.readable
        wanted = {index for indexes in self._rows.values() for index in indexes}
        away = [i for i in wanted if not self._is_welcome(i) or readable(self._fact.slot_of(i)) is None]
        return all(self._blocks.get(i, row) is not None for i in away for row in self._rows if i in self._rows[row])

    # ---- asking -----------------------------------------------------------------------------------------

    async def gather(self) -> None:
        """Fetch until every row is readable or decodable. Raises StripeLostError if a row is neither."""
        ask, waiting = self._step()
        if not waiting:
            return
        async with trio.open_nursery() as nursery:
            while waiting:
                if not ask or self._ask(nursery, ask):
                    await self._wait()
                ask, waiting = self._step()
            nursery.cancel_scope.cancel()  # whoever is late is not needed any more

    def _ask(self, nursery: trio.Nursery, ask: dict[int, list[int]]) -> bool:
        """Start the requests. False if there is more to decide, because some can't be asked."""
        all_asked = True
        for index, rows in ask.items():
            slot = self._fact.slot_of(index)
            drive = self._context.access.readable(slot)
            if drive is None:
                self._bad[index], all_asked = "the drive can't be read now", False
                continue
            request = _Request(index, sorted(rows), trio.current_time() + self._context.hedge.patience(slot))
            self._requests.add(request)
            nursery.start_soon(self._fetch, request, Source(drive, self._fact, self._context.pool_id, slot))
        return all_asked

    async def _wait(self) -> None:
        """Return when there may be something to decide: all have answered, one not well, or a drive became late."""
        late_at = min((request.late_at for request in self._requests if not request.late), default=math.inf)
        with trio.move_on_at(late_at) as scope:
            await self._news.wait()
        if scope.cancelled_caught:
            # Somebody may have held up the event loop, not the drive: let answers in that are here already.
            await trio.lowlevel.checkpoint()
        self._news = trio.Event()
        for request in self._requests:
            if not request.late and trio.current_time() >= request.late_at:
                request.late, self._is_calm = True, False
                self._context.hedge.was_late(self._fact.slot_of(request.index))

    async def _fetch(self, request: _Request, source: Source) -> None:
        header = self._context.cache.header(self._fact, request.index)
        try:
            fetched = await self._fetch_blocks(request, source, header)
        except FormatTooNewError as error:
            self._bad[request.index], self._is_calm = str(error), False
        except DriveError as error:
            self._reject(request, source.slot, error)
        else:
            self._accept(request, source.slot, fetched)
        self._requests.discard(request)
        if not (self._is_calm and self._requests):
            self._news.set()

    async def _fetch_blocks(self, request: _Request, source: Source, header: ShardHeader | None) -> Fetched:
        try:
            return await source.blocks(request.numbers, header)
        except ShardCorruptError as error:
            if len(request.numbers) == 1:
                raise
            # Told now, and others asked now: what follows takes a request for each block. Who reads does not wait for
            # that, and may take back the request before it ends; then nobody would ever hear of the damage, and the
            # drive, which answered at once, would be shunned as late.
            self._report(source.slot, error)
            request.late, self._is_calm = True, False
            self._news.set()
            return await source.one_by_one(request.numbers, header, error)

    # ---- judging what came ------------------------------------------------------------------------------

    def _accept(self, request: _Request, slot: int, fetched: Fetched) -> None:
        self._context.access.drive_answered(slot)
        self._context.cache.put_header(self._fact, fetched.header)
        for row, data in fetched.blocks.items():
            self._blocks.put(request.index, row, data)
        if fetched.run is not None:
            self._blocks.put_run(request.index, request.numbers[0], fetched.run)
        if not request.late:
            self._context.hedge.answered(slot)
        if fetched.flaw is not None:
            self._is_calm = False
            rows = [row for row in request.numbers if row not in fetched.blocks]
            self._bad_blocks.update({(request.index, row): fetched.flaw.args[0] for row in rows})
            self._report(slot, fetched.flaw)

    def _reject(self, request: _Request, slot: int, error: DriveError) -> None:
        self._bad[request.index], self._is_calm = error.args[0], False
        if isinstance(error, ShardMissingError | ShardCorruptError):
            self._report(slot, error)
        else:
            self._context.access.drive_failed(slot, error)

    def _report(self, slot: int, error: DriveError) -> None:
        if slot not in self._avoid:
            self._context.bad.report(self._fact.id, slot, error)

    # ---- decoding ---------------------------------------------------------------------------------------

    async def decode(self) -> None:
        """Compute what could not be read. Raises StripeLostError."""
        alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
        for row in sorted(self._rows):
            lost = tuple(index for index in self._rows[row] if self._blocks.get(index, row) is None)
            if lost:
                alike.setdefault((self._sources(row), lost), []).append(row)
        for (sources, lost), rows in alike.items():
            await self._decode_rows(rows, sources, lost)

    def _sources(self, row: int) -> tuple[int, ...]:
        """The k indexes to decode a row from. Raises StripeLostError."""
        sources = judge(self._fact.geometry.k, self._marks(row), self._preference()).sources
        if not sources:
            raise StripeLostError(self._fact.id, self._reasons(row))
        return sources

    async def _decode_rows(self, rows: Sequence[int], sources: Sequence[int], lost: Sequence[int]) -> None:
        """At once, for all rows that lack the same: the code works byte by byte."""
        runs = {index: self._blocks.joined(index, rows) for index in sources}
        codec = Codec(self._fact.geometry.k, self._fact.geometry.m)
        rebuilt = codec.rebuild(runs, len(runs[sources[0]]), lost)
        blocks = {
            (index, row): memoryview(run)[place * BLOCK_SIZE : (place + 1) * BLOCK_SIZE]
            for index, run in rebuilt.items()
            for place, row in enumerate(rows)
        }
        wrong = {row for (index, row), data in blocks.items() if not self._is_plausible(index, row, data)}
        for (index, row), data in blocks.items():
            if row not in wrong:
                self._blocks.put(index, row, data)
        for row in sorted(wrong):
            await self._restore_row(row, lost)
        if not wrong and rows[-1] - rows[0] == len(rows) - 1:
            for index, run in rebuilt.items():
                self._blocks.put_run(index, rows[0], run)

    def _is_plausible(self, index: int, row: int, data: Buffer) -> bool:
        """False if the lost shard's own header is known and its checksum says that this is not what was lost."""
        header = self._context.cache.header(self._fact, index)
        if header is None:
            return True  # all sources carry the stripe's content hash, so no generations are mixed
        try:
            check_block(header, row, data)
        except CorruptError:
            return False
        return True

    async def _restore_row(self, row: int, lost: Sequence[int]) -> None:
        """Verified shards contradict each other: find the k that have the content hash. Raises StripeLostError."""
        slots = {self._fact.slot_of(index): index for index in lost}
        access, pool_id = self._context.access, self._context.pool_id
        whole = await rebuild_shards(
            self._fact, slots, access, pool_id, avoid=self._avoid, on_bad=self._context.bad.report
        )
        start = DATA_OFFSET + row * BLOCK_SIZE
        for slot, index in slots.items():
            self._blocks.put(index, row, b"".join(whole[slot])[start : start + BLOCK_SIZE])

    def _reasons(self, row: int) -> dict[int, str]:
        """Per slot, why its block of this row can't be used."""
        why = {index: text for (index, number), text in self._bad_blocks.items() if number == row} | self._bad
        return {self._fact.slot_of(index): text for index, text in why.items()}

    def answer(self, pieces: Iterable[Piece]) -> list[Buffer]:
        """The bytes of some of the pieces, as consecutive buffers."""
        return self._blocks.answer(pieces)
