"""Whole shards made anew from k others, and proven before anybody may store them.

Rebuilding is the one operation that can turn a readable stripe into a wrong one: it writes. So it never starts from
an unverified byte, and what it computed must have the content hash of the stripe's row. If verified shards contradict
each other (a parity shard whose checksums are right and whose bytes never were), other sets of k are tried.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import trio

from ecfs.codec import Codec
from ecfs.drive.base import Drive
from ecfs.errors import (
    CorruptError,
    DriveError,
    FormatTooNewError,
    ShardCorruptError,
    ShardMissingError,
    StripeLostError,
)
from ecfs.geometry import FRAGMENT_HEADER
from ecfs.shard import Buffer, block_crcs, content_hash
from ecfs.stripes.access import DriveAccess, OnBad, ignore_bad
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.fetch import Source
from ecfs.stripes.verdict import Mark, judge, subsets
from ecfs.stripes.writer import shard_header


async def check_shard(drive: Drive, fact: StripeFact, slot: int, pool_id: bytes) -> None:
    """Check every byte of the shard on `slot` where it lies, and that it is this stripe's.

    Raises ShardMissingError, ShardCorruptError, or what `Drive.verify` says about the drive.
    """
    header = await drive.verify(fact.key)
    try:
        fact.check_header(header, pool_id, fact.index_of(slot))
    except CorruptError as error:
        raise ShardCorruptError(str(error), slot=slot, key=fact.key) from error


async def copied_shard(drive: Drive, fact: StripeFact, slot: int, pool_id: bytes) -> list[Buffer]:
    """The whole shard as it lies on `slot`, every byte checked, as buffers for `Drive.put`. For a stripe that can't be
    decoded: nothing proves it but itself. Raises as `Source.whole`."""
    header, fragment = await Source(drive, fact, pool_id, slot).whole()
    return [shard_header(pool_id, fact, header.index, fragment, header.block_crcs), fragment]


async def rebuild_shards(
    fact: StripeFact,
    wanted: Collection[int],
    access: DriveAccess,
    pool_id: bytes,
    *,
    avoid: Collection[int] = (),
    on_bad: OnBad = ignore_bad,
) -> dict[int, list[Buffer]]:
    """Complete shards for the slots `wanted`, as buffers for `Drive.put`; each proven by the row's content hash.

    avoid: slots known not to have theirs. Those and the wanted ones are asked last. Raises StripeLostError.
    Needs memory for up to 2n shards (12 MiB for a stripe of 4 MiB); the caller bounds how many run at once.
    """
    indexes = [fact.index_of(slot) for slot in wanted]
    gathering = _Gathering(fact, access, pool_id, frozenset({*avoid, *wanted}), on_bad)
    await gathering.solve(indexes)
    return {slot: gathering.buffers(index) for slot, index in zip(wanted, indexes, strict=True)}


async def data_fragments(
    fact: StripeFact, access: DriveAccess, pool_id: bytes, *, avoid: Collection[int], on_bad: OnBad
) -> tuple[Buffer, ...]:
    """The k data fragments, each with the erasure library's 80 bytes, proven as in `rebuild_shards`."""
    gathering = _Gathering(fact, access, pool_id, frozenset(avoid), on_bad)
    await gathering.solve(())
    return tuple(gathering.fragment(index) for index in range(fact.geometry.k))


@dataclass(frozen=True)
class _Fragment:
    """data: with the erasure library's 80 bytes. crcs: of its blocks."""

    data: Buffer
    crcs: tuple[int, ...]


class _Gathering:
    """Collects verified whole shards of one stripe, in parallel, going on past every bad one."""

    def __init__(
        self, fact: StripeFact, access: DriveAccess, pool_id: bytes, avoid: frozenset[int], on_bad: OnBad
    ) -> None:
        self.fact = fact
        self._found: dict[int, _Fragment] = {}
        self._made: dict[int, _Fragment] = {}
        self._access = access
        self._pool_id = pool_id
        self._avoid = avoid
        self._on_bad = on_bad
        self._marks = [Mark.UNASKED] * fact.geometry.n
        self._reasons: dict[int, str] = {}
        self._codec = Codec(fact.geometry.k, fact.geometry.m)

    async def solve(self, wanted: Sequence[int]) -> None:
        """Find k shards that have the row's content hash, and make those that are wanted. Raises StripeLostError."""
        k = count = self.fact.geometry.k
        while True:
            sources = await self._gather(count)
            # Only sets with the newest shard are new; the others have been tried in the round before.
            for chosen in subsets(k, sources):
                if sources[-1] in chosen and self._prove(chosen, wanted):
                    self._accuse(chosen)
                    return
            count += 1

    async def _gather(self, count: int) -> Sequence[int]:
        """Indexes of `count` verified shards, those of earlier calls first. Raises StripeLostError if there are not
        that many."""
        while len(self._found) < count:
            verdict = judge(count, self._marks, self._order())
            if verdict.lost:
                raise self._lost()
            async with trio.open_nursery() as nursery:
                for index in verdict.ask:
                    nursery.start_soon(self._fetch, index)
        return tuple(self._found)[:count]

    def _order(self) -> list[int]:
        """Data shards first: what is read as it is need not be computed."""
        return sorted(range(self.fact.geometry.n), key=lambda index: (self.fact.slot_of(index) in self._avoid, index))

    async def _fetch(self, index: int) -> None:
        slot = self.fact.slot_of(index)
        drive = self._access.readable(slot)
        if drive is None:
            self._reject(index, "the drive can't be read now")
            return
        try:
            header, fragment = await Source(drive, self.fact, self._pool_id, slot).whole()
        except FormatTooNewError as error:
            self._reject(index, str(error))
        except (ShardMissingError, ShardCorruptError) as error:
            self._reject(index, error.args[0])
            self._on_bad(self.fact.id, slot, error)
        except DriveError as error:
            self._reject(index, error.args[0])
            self._access.drive_failed(slot, error)
        else:
            self._access.drive_answered(slot)
            self._found[index] = _Fragment(fragment, header.block_crcs)
            self._marks[index] = Mark.GOOD

    def _reject(self, index: int, why: str) -> None:
        self._marks[index] = Mark.BAD
        self._reasons[self.fact.slot_of(index)] = why

    def _prove(self, chosen: Sequence[int], wanted: Sequence[int]) -> bool:
        """Whether these k shards make the stripe of the row. If so, those that are wanted are made.

        Any k fragments determine all others. The content hash is that of the k data shards, so it is enough to compute
        those of them that are not among the chosen: if they fit, all that is computed from the same k is right.
        """
        fact = self.fact
        self._made = {index: self._found[index] for index in chosen}
        self._make(chosen, (*range(fact.geometry.k), *wanted))
        crcs = (self._made[index].crcs for index in range(fact.geometry.k))
        return content_hash(fact.length, fact.geometry.k, crcs) == fact.content_hash

    def _make(self, chosen: Sequence[int], wanted: Collection[int]) -> None:
        sources = {index: self._found[index].data for index in chosen}
        lost = [index for index in dict.fromkeys(wanted) if index not in self._made]
        for index, data in self._codec.restore(sources, self.fact.length, lost).items():
            self._made[index] = _Fragment(data, block_crcs(memoryview(data)[FRAGMENT_HEADER:]))

    def fragment(self, index: int) -> Buffer:
        """One that is a data fragment or was wanted, once it is proven."""
        return self._made[index].data

    def buffers(self, index: int) -> list[Buffer]:
        """The whole shard `index`, once it is proven."""
        made = self._made[index]
        return [shard_header(self._pool_id, self.fact, index, made.data, made.crcs), made.data]

    def _accuse(self, chosen: Sequence[int]) -> None:
        """Report shards that are sound in themselves but not what they should be. chosen: the k that fit together."""
        if len(self._found) == self.fact.geometry.k:
            return
        self._make(chosen, self._found)
        for index, found in self._found.items():
            if found.crcs != self._made[index].crcs:
                slot = self.fact.slot_of(index)
                error = ShardCorruptError("contradicts the stripe's content hash", slot=slot, key=self.fact.key)
                self._on_bad(self.fact.id, slot, error)

    def _lost(self) -> StripeLostError:
        """Why there are not k shards that fit together, per slot."""
        contradicting = {}
        if len(self._found) >= self.fact.geometry.k:
            contradicting = {self.fact.slot_of(index): "contradicts the other shards" for index in self._found}
        return StripeLostError(self.fact.id, contradicting | self._reasons)
