"""Six drives in memory that can be damaged, slowed down and counted, and a pool's view of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import cast

import trio

from ecfs.drive.base import Buffer, Drive
from ecfs.errors import (
    CorruptError,
    DriveError,
    DriveUnreachableError,
    ShardCorruptError,
    ShardExistsError,
    ShardMissingError,
)
from ecfs.geometry import Geometry, stripe_id
from ecfs.shard import ShardHeader, verify_shard
from ecfs.stripes.cache import StripeCache
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.reader import StripeReader
from ecfs.stripes.rebuild import rebuild_shards
from ecfs.stripes.writer import EncodedStripe, encode_stripe, put_shard

POOL_ID = b"this is the pool"


def payload_of(length: int, seed: str = "") -> bytes:
    """`length` bytes that look random and are always the same."""
    return hashlib.shake_128(seed.encode()).digest(length)


class FakeDrive:
    """The part of a Drive that the stripe store uses. `Pool` casts it."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.shards: dict[str, bytes] = {}
        self.error: DriveError | None = None
        self.delay_s = 0.0
        self.unreadable_at: int | None = None
        self.reads: list[list[tuple[int, int]]] = []
        self.bytes_read = 0
        self.batches: list[list[str]] = []

    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        if key in self.shards and not replace:
            raise ShardExistsError("taken", slot=self.slot, key=key)
        self.shards[key] = b"".join(buffers)

    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self.reads.append(list(ranges))
        await trio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        if key not in self.shards:
            raise ShardMissingError("no such shard", slot=self.slot, key=key)
        return [self._cut(key, offset, length) for offset, length in ranges]

    def _cut(self, key: str, offset: int, length: int) -> bytes:
        data = self.shards[key][offset : offset + length]
        if len(data) != length:
            raise ShardCorruptError("shorter than asked", slot=self.slot, key=key)
        if self.unreadable_at is not None and offset <= self.unreadable_at < offset + length:
            raise ShardCorruptError("the disk can't read a part of it", slot=self.slot, key=key)
        self.bytes_read += length
        return data

    async def read_shards(
        self, wanted: Sequence[tuple[str, Sequence[tuple[int, int]]]]
    ) -> Sequence[Sequence[Buffer] | DriveError]:
        self.batches.append([key for key, _ in wanted])
        return await Drive.read_shards(cast("Drive", self), wanted)

    async def get(self, key: str, offset: int = 0, length: int = -1) -> bytes:
        return (await self.read(key, [(offset, length)]))[0]

    async def verify(self, key: str) -> ShardHeader:
        await self.read(key, [])
        try:
            return verify_shard(self.shards[key])
        except CorruptError as error:
            raise ShardCorruptError(str(error), slot=self.slot, key=key) from error

    def unplug(self) -> None:
        self.error = DriveUnreachableError("unplugged", slot=self.slot)


class Pool:
    """n fake drives, the DriveAccess to them, and everything that was reported about them."""

    def __init__(self, k: int = 4, m: int = 2, *, cache: bool = False) -> None:
        self.geometry = Geometry(1, k, m)
        self.drives = [FakeDrive(slot) for slot in range(k + m)]
        self.unreadable: set[int] = set()
        self.failures: list[tuple[int, DriveError]] = []
        self.answers: list[int] = []
        self.bad: list[tuple[int, int, DriveError]] = []
        self.p95_s = 0.001
        self.reader = self.new_reader(cache=cache)

    def new_reader(self, *, cache: bool = False) -> StripeReader:
        """A reader that knows nothing yet; without `cache`, one that keeps headers but no blocks."""
        kept = StripeCache() if cache else StripeCache(block_bytes=0)
        return StripeReader(self, POOL_ID, kept, self.on_bad)

    # ---- DriveAccess ------------------------------------------------------------------------------------

    def readable(self, slot: int) -> Drive | None:
        return None if slot in self.unreadable else self.drive(slot)

    def drive_failed(self, slot: int, error: DriveError) -> None:
        self.failures.append((slot, error))

    def drive_answered(self, slot: int) -> None:
        self.answers.append(slot)

    def latency_p95(self, slot: int) -> float:
        return self.p95_s

    # ---- helpers ----------------------------------------------------------------------------------------

    def drive(self, slot: int) -> Drive:
        return cast(Drive, self.drives[slot])

    def on_bad(self, stripe: int, slot: int, error: DriveError) -> None:
        self.bad.append((stripe, slot, error))

    @property
    def bad_slots(self) -> list[int]:
        return sorted(slot for _, slot, _ in self.bad)

    def encode(self, payload: bytes, counter: int = 7) -> EncodedStripe:
        return encode_stripe(POOL_ID, stripe_id(1, counter), "s", self.geometry, payload)

    async def store(self, payload: bytes, counter: int = 7) -> StripeFact:
        encoded = self.encode(payload, counter)
        for slot in range(self.geometry.n):
            await put_shard(self.drive(slot), encoded, slot)
        return encoded.fact

    async def rebuild(self, fact: StripeFact, *slots: int, avoid: Sequence[int] = ()) -> dict[int, bytes]:
        rebuilt = await rebuild_shards(fact, slots, self, POOL_ID, avoid=avoid, on_bad=self.on_bad)
        return {slot: b"".join(buffers) for slot, buffers in rebuilt.items()}

    def drive_of(self, fact: StripeFact, index: int) -> FakeDrive:
        return self.drives[fact.slot_of(index)]

    def flip(self, fact: StripeFact, index: int, position: int, change: int = 1) -> None:
        """Change one byte of shard `index`; negative positions count from its end."""
        drive = self.drive_of(fact, index)
        data = bytearray(drive.shards[fact.key])
        data[position] ^= change
        drive.shards[fact.key] = bytes(data)

    def reset_counters(self) -> None:
        for drive in self.drives:
            drive.reads.clear()
            drive.bytes_read = 0

    def slots_read(self) -> list[int]:
        return [drive.slot for drive in self.drives if drive.reads]
