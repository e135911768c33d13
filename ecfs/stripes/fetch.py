"""Pieces of one shard, from one drive, verified against the stripe's row before anybody sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecfs.drive.base import Buffer, Drive
from ecfs.errors import CorruptError, ShardCorruptError
from ecfs.geometry import BLOCK_SIZE, FRAGMENT_HEADER
from ecfs.shard import (
    DATA_OFFSET,
    HEADER_LENGTH,
    ShardHeader,
    check_block,
    check_fragment,
    parse_header,
)
from ecfs.stripes.fact import StripeFact


@dataclass(frozen=True)
class Fetched:
    """What a shard gave. blocks: number → verified data. flaw: why others of the asked blocks are not among them.
    run: if the blocks are consecutive, and all there, their bytes as the drive gave them and no others; else None."""

    header: ShardHeader
    blocks: dict[int, memoryview]
    flaw: ShardCorruptError | None
    run: Buffer | None = None


@dataclass(frozen=True)
class Source:
    """The shard of a stripe on one drive. Both fetches raise what `Drive.read` raises, ShardCorruptError for a
    shard that does not fit to the row, and FormatTooNewError."""

    drive: Drive
    fact: StripeFact
    pool_id: bytes
    slot: int

    @property
    def index(self) -> int:
        return self.fact.index_of(self.slot)

    async def blocks(self, numbers: Sequence[int], header: ShardHeader | None) -> Fetched:
        """The blocks `numbers` (ascending), with one request; the header too if the caller has no verified one.

        ShardCorruptError may be about one of several blocks, a bad sector or a cut-off end: the drive refuses all that
        was asked without saying where. Then there is `one_by_one`.
        """
        return self.judge(numbers, header, await self.drive.read(self.fact.key, self.ranges(numbers, header)))

    def ranges(self, numbers: Sequence[int], header: ShardHeader | None) -> list[tuple[int, int]]:
        """What to ask the drive for: the blocks `numbers` (ascending), and the header first if it is not known."""
        ranges = [self._range(run) for run in _runs(numbers)]
        return ranges if header is not None else [(0, HEADER_LENGTH), *ranges]

    def judge(self, numbers: Sequence[int], header: ShardHeader | None, answers: Sequence[Buffer]) -> Fetched:
        """What a drive answered to `ranges`, as many as there are, verified. Raises ShardCorruptError,
        FormatTooNewError."""
        if header is None:
            header = self._header(memoryview(answers[0]))
            answers = answers[1:]
        return self._check(header, list(_runs(numbers)), answers)

    async def one_by_one(self, numbers: Sequence[int], header: ShardHeader | None, flaw: ShardCorruptError) -> Fetched:
        """What can be had of `numbers`, one request each. Raises ShardCorruptError if not even the header can.

        One bad block does not spoil the others: with three shards damaged in different places, every row still has
        enough good blocks. flaw: what the drive answered to all of them at once.
        """
        if header is None:
            header = self._header(memoryview(await self.drive.get(self.fact.key, 0, HEADER_LENGTH)))
        blocks: dict[int, memoryview] = {}
        for number in numbers:
            try:
                blocks |= (await self.blocks([number], header)).blocks
            except ShardCorruptError:
                continue
        return Fetched(header, blocks, flaw)

    async def whole(self) -> tuple[ShardHeader, bytes]:
        """The header and the fragment, the erasure library's 80 bytes included; every byte of the shard verified.

        Bytes behind its end are not asked for: `Drive.verify` finds those, and no hostile drive can fill memory
        with them."""
        length = FRAGMENT_HEADER + self.fact.fragment_length
        head, fragment = await self.drive.read(self.fact.key, [(0, HEADER_LENGTH), (HEADER_LENGTH, length)])
        header = self._header(memoryview(head))
        try:
            check_fragment(header, fragment)
        except CorruptError as error:
            raise self.corrupt(str(error)) from error
        return header, bytes(fragment)

    def corrupt(self, why: str) -> ShardCorruptError:
        """The error that says so, with slot and key."""
        return ShardCorruptError(why, slot=self.slot, key=self.fact.key)

    def _header(self, data: memoryview) -> ShardHeader:
        try:
            header = parse_header(data)
            self.fact.check_header(header, self.pool_id, self.index)
        except CorruptError as error:
            raise self.corrupt(str(error)) from error
        return header

    def _check(self, header: ShardHeader, runs: Sequence[range], answers: Sequence[Buffer]) -> Fetched:
        blocks: dict[int, memoryview] = {}
        flaw: ShardCorruptError | None = None
        for run, answered in zip(runs, answers, strict=True):
            answer = memoryview(answered)
            for place, number in enumerate(run):
                data = answer[place * BLOCK_SIZE : (place + 1) * BLOCK_SIZE]
                try:
                    check_block(header, number, data)
                    blocks[number] = data
                except CorruptError as error:
                    flaw = flaw or self.corrupt(str(error))
        # Bytes behind the last block were compared with nothing: as part of a run, a program would get them.
        is_run = flaw is None and len(answers) == 1 and len(answers[0]) == self._range(runs[0])[1]
        return Fetched(header, blocks, flaw, answers[0] if is_run else None)

    def _range(self, run: range) -> tuple[int, int]:
        """Where blocks `run` lie in the shard: (offset, length) in bytes."""
        end = min(run.stop * BLOCK_SIZE, self.fact.fragment_length)
        return DATA_OFFSET + run.start * BLOCK_SIZE, end - run.start * BLOCK_SIZE


def _runs(numbers: Sequence[int]) -> Iterator[range]:
    """Ascending numbers as maximal ranges: one disk read each."""
    start = previous = numbers[0]
    for number in numbers[1:]:
        if number != previous + 1:
            yield range(start, previous + 1)
            start = number
        previous = number
    yield range(start, previous + 1)
