"""Whole shards made anew from k others, and proven before anybody may store them.

Rebuilding is the one operation that can turn a readable stripe into a wrong one: it writes. So it never starts from
an unverified byte, and what it computed must have the content hash of the stripe's row. If verified shards contradict
each other (a parity shard whose checksums are right and whose bytes never were), other sets of k are tried.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

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
from ecfs.shard import FRAGMENT_HEADER, Buffer, block_crcs
from ecfs.stripes.access import DriveAccess, OnBad, ignore_bad
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.fetch import Source
from ecfs.stripes.verdict import Mark, judge, subsets
from ecfs.stripes.writer import EncodedStripe, encode_stripe


async def check_shard(drive: Drive, fact: StripeFact, slot: int, pool_id: bytes) -> None:
    """Check every byte of the shard on `slot` where it lies, and that it is this stripe's.

    Raises ShardMissingError, ShardCorruptError, or what `Drive.verify` says about the drive.
    """
    header = await drive.verify(fact.key)
    try:
        fact.check_header(header, pool_id, fact.index_of(slot))
    except CorruptError as error:
        raise ShardCorruptError(str(error), slot=slot, key=fact.key) from error


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
    """
    encoded = await restore_stripe(fact, access, pool_id, avoid={*avoid, *wanted}, on_bad=on_bad)
    return {slot: encoded.buffers(fact.index_of(slot)) for slot in wanted}


async def restore_stripe(
    fact: StripeFact,
    access: DriveAccess,
    pool_id: bytes,
    *,
    avoid: Collection[int] = (),
    on_bad: OnBad = ignore_bad,
) -> EncodedStripe:
    """The whole stripe from any k shards that together have the row's content hash. Raises StripeLostError.

    Needs memory for up to 2n shards (12 MiB for a stripe of 4 MiB); the caller bounds how many run at once.
    """
    gathering = _Gathering(fact, access, pool_id, frozenset(avoid), on_bad)
    for count in range(fact.geometry.k, fact.geometry.n + 1):
        sources = await gathering.gather(count)
        # Only sets with the newest shard are new; the others have been tried in the round before.
        for chosen in subsets(fact.geometry.k, sources):
            if sources[-1] not in chosen:
                continue
            encoded = gathering.prove(chosen)
            if encoded is not None:
                gathering.accuse(encoded)
                return encoded
    raise gathering.lost()


class _Gathering:
    """Collects verified whole shards of one stripe, in parallel, going on past every bad one."""

    def __init__(
        self, fact: StripeFact, access: DriveAccess, pool_id: bytes, avoid: frozenset[int], on_bad: OnBad
    ) -> None:
        self.fact = fact
        self.data: dict[int, memoryview] = {}
        self._access = access
        self._pool_id = pool_id
        self._avoid = avoid
        self._on_bad = on_bad
        self._marks = [Mark.UNASKED] * fact.geometry.n
        self._reasons: dict[int, str] = {}
        self._codec = Codec(fact.geometry.k, fact.geometry.m)

    async def gather(self, count: int) -> Sequence[int]:
        """Indexes of `count` verified shards, those of earlier calls first. Raises StripeLostError."""
        while len(self.data) < count:
            verdict = judge(count, self._marks, self._order())
            if verdict.lost:
                raise self.lost()
            async with trio.open_nursery() as nursery:
                for index in verdict.ask:
                    nursery.start_soon(self._fetch, index)
        return tuple(self.data)[:count]

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
            _, data = await Source(drive, self.fact, self._pool_id, slot).whole()
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
            self.data[index] = data
            self._marks[index] = Mark.GOOD

    def _reject(self, index: int, why: str) -> None:
        self._marks[index] = Mark.BAD
        self._reasons[self.fact.slot_of(index)] = why

    def prove(self, chosen: Sequence[int]) -> EncodedStripe | None:
        """The stripe that these k shards make, or None if it is not the one of the row."""
        fact, geometry = self.fact, self.fact.geometry
        blocks = {index: self.data[index] for index in chosen}
        runs = self._codec.rebuild(blocks, fact.fragment_length, range(geometry.k))
        payload = b"".join(runs.values())[: fact.length]
        encoded = encode_stripe(self._pool_id, self._codec, fact.id, fact.space, geometry, payload)
        return encoded if encoded.fact == fact else None

    def accuse(self, proven: EncodedStripe) -> None:
        """Report shards that are sound in themselves but not what they should be. The k that made it all fit."""
        if len(self.data) == self.fact.geometry.k:
            return
        for index, data in self.data.items():
            if block_crcs(data) != block_crcs(memoryview(proven.fragments[index])[FRAGMENT_HEADER:]):
                slot = self.fact.slot_of(index)
                error = ShardCorruptError("contradicts the stripe's content hash", slot=slot, key=self.fact.key)
                self._on_bad(self.fact.id, slot, error)

    def lost(self) -> StripeLostError:
        """Why there are not k shards that fit together, per slot."""
        contradicting = {}
        if len(self.data) >= self.fact.geometry.k:
            contradicting = {self.fact.slot_of(index): "contradicts the other shards" for index in self.data}
        return StripeLostError(self.fact.id, contradicting | self._reasons)
