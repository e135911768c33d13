"""What only a bucket has: the log that stands in for fence and journal (R24), and stores that break it."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from ecfs.clock import SystemClock
from ecfs.drive.base import Drive, Writer
from ecfs.drive.bucket import BucketDrive
from ecfs.drive.local import LocalDrive
from ecfs.drive.objects import SMALL, Log
from ecfs.drive.s3 import Bucket
from ecfs.errors import (
    DriveFencedError,
    DriveUnreachableError,
    DriveWrongError,
    RefusedError,
    ShardCorruptError,
)
from ecfs.geometry import Geometry, stripe_id
from ecfs.journal.create import create_pool
from ecfs.shard import shard_key

OLD, NEW = Writer(2, "a" * 32), Writer(3, "b" * 32)
SEGMENT = "j/00000002.000000"
KEY = shard_key("s", stripe_id(2, 1))


class Careless(Bucket):
    """Creates a name twice, as stores do that don't know If-None-Match."""

    def create(self, name: str, data: bytes) -> str:
        return self.write(name, data)


class SaysSo(Bucket):
    """Refuses what it does not know, as OpenStack Swift's S3 interface does."""

    def create(self, name: str, data: bytes) -> str:
        raise OSError(errno.EOPNOTSUPP, "Conditional object PUTs are not supported.")


class LosesAnswers(Bucket):
    """Stores, and then behaves as if the request had to be sent again."""

    def create(self, name: str, data: bytes) -> str:
        super().create(name, data)
        return super().create(name, data)


class Overflowing(Bucket):
    """Answers more than it was asked for."""

    def ranges(self, name: str, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        return super().ranges(name, [(offset, length + 1) for offset, length in wanted])


class Counting(Bucket):
    """Counts what is fetched."""

    fetched = 0

    def read(self, name: str) -> bytes:
        type(self).fetched += 1
        return super().read(name)

    def ranges(self, name: str, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        type(self).fetched += 1
        return super().ranges(name, wanted)


class Throttled(Bucket):
    """Answers 503 SlowDown to the next `refused` looks at the log."""

    refused = 0

    def read(self, name: str) -> bytes:
        if name.startswith("log/") and type(self).refused:
            type(self).refused -= 1
            raise OSError(errno.EIO, "503 Slow Down")
        return super().read(name)


def handle(store: MemoryStore, kind: type[Bucket] = Bucket) -> BucketDrive:
    return BucketDrive("s3://bucket/p", lambda: kind(store), SystemClock(), slot=3)


async def made(store: MemoryStore) -> BucketDrive:
    drive = handle(store)
    await drive.create({"identity": b"who"})
    await drive.fence(OLD)
    await drive.prepare([2])
    return drive


async def test_two_writers_at_once_collide_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old writer looks, the new one fences, the old one appends: it must not get in between."""
    store = MemoryStore()
    old = await made(store)
    await old.append(SEGMENT, 0, b"first")
    new = handle(store)
    await new.attach(exclusive=True)
    log = Log(Bucket(store), lambda: "newer")
    log.open()
    monkeypatch.setattr(Log, "check", lambda self, writer: log.promise(NEW))
    with pytest.raises(DriveFencedError):
        await old.append(SEGMENT, 5, b"second")
    monkeypatch.undo()
    await new.attach(exclusive=True)
    assert await new.read_fence() == NEW
    assert await new.get(SEGMENT) == b"first"


async def test_an_answer_that_was_lost_is_no_collision() -> None:
    store = MemoryStore()
    await made(store)
    drive = handle(store, LosesAnswers)
    drive._demand_conditional = lambda: None  # type: ignore[method-assign]
    await drive.attach(exclusive=True)
    await drive.fence(NEW)
    await drive.prepare([2])
    await drive.append(SEGMENT, 0, b"first")
    await drive.append(SEGMENT, 5, b"second")
    await drive.put("s/00000002/00000000", [b"data"])
    assert await drive.get(SEGMENT) == b"firstsecond"


@pytest.mark.parametrize("kind", [Careless, SaysSo])
async def test_a_store_without_conditional_create_is_refused(kind: type[Bucket]) -> None:
    store = MemoryStore()
    drive = handle(store, kind)
    with pytest.raises(DriveWrongError, match="conditional create"):
        await drive.create({"identity": b"who"})
    with pytest.raises(DriveWrongError, match="conditional create"):
        await drive.is_vacant()
    assert list(Bucket(store).list("")) == []


async def test_a_pool_with_such_a_store_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    drives: list[Drive] = [LocalDrive(tmp_path / "d0"), LocalDrive(tmp_path / "d1"), handle(MemoryStore(), SaysSo)]
    with pytest.raises(RefusedError, match=r"conditional create.*nothing was changed"):
        await create_pool(drives, Geometry(id=0, k=2, m=1), clock=SystemClock(), scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_creation_that_crashed_leaves_the_place_vacant() -> None:
    store = MemoryStore()
    Log(Bucket(store), lambda: "one").begin()
    Bucket(store).write("superblock", b"half")
    drive = handle(store)
    assert await drive.is_vacant()
    await drive.create({"identity": b"who"})
    assert not await drive.is_vacant()


async def test_the_end_of_the_log_outlives_its_segment() -> None:
    """The last number must stay known, or an old writer could take it again."""
    store = MemoryStore()
    drive = await made(store)
    await drive.append(SEGMENT, 0, b"first")
    await drive.append("j/00000002.000001", 0, b"second")
    await drive.delete(SEGMENT)
    await drive.delete("j/00000002.000001")
    assert [entry async for entry in drive.list("j/")] == []
    await drive.append("j/00000002.000002", 0, b"third")
    await drive.attach(exclusive=True)
    assert await drive.get("j/00000002.000002") == b"third"
    assert await drive.read_fence() == OLD


async def test_a_foreign_object_in_the_log_is_named() -> None:
    store = MemoryStore()
    drive = await made(store)
    Bucket(store).write("log/zzz", b"hello")
    with pytest.raises((DriveWrongError, DriveUnreachableError)):
        await drive.attach(exclusive=True)


async def fetches_of(store: MemoryStore, kind: type[Counting], ranges: Sequence[tuple[int, int]]) -> tuple[int, bytes]:
    """(requests, bytes) of a process that opens the journal anew and reads this much of its one segment."""
    drive = handle(store, kind)
    await drive.attach(exclusive=True)
    assert [entry.key async for entry in drive.list("j/")] == [SEGMENT]
    before = kind.fetched
    data = b"".join(await drive.read(SEGMENT, ranges))
    return (kind.fetched if ranges == [(0, -1)] else kind.fetched - before), data


async def test_a_journal_of_small_records_is_read_with_one_request_each() -> None:
    """Opening a pool waits for all of them."""

    class Here(Counting): ...

    store = MemoryStore()
    drive = await made(store)
    for number in range(40):
        await drive.append(SEGMENT, 4 * number, b"%04d" % number)
    fetched, data = await fetches_of(store, Here, [(0, -1)])
    assert data == b"".join(b"%04d" % number for number in range(40))
    assert 40 <= fetched <= 44


async def test_a_stretch_of_a_segment_costs_only_the_objects_that_hold_it() -> None:
    """Replaying reads record by record: with the whole segment each time that would grow with the square."""

    class Here(Counting): ...

    store = MemoryStore()
    drive = await made(store)
    size = SMALL + 1
    for number in range(8):
        await drive.append(SEGMENT, size * number, bytes([number]) * size)
    assert await fetches_of(store, Here, [(size * 3, size)]) == (1, bytes([3]) * size)
    assert await fetches_of(store, Here, [(size * 4 - 5, 10)]) == (2, bytes([3] * 5 + [4] * 5))
    with pytest.raises(ShardCorruptError):
        await fetches_of(store, Here, [(size * 8 - 5, 10)])


@pytest.mark.parametrize(("kind", "asked"), [(Bucket, 11), (Overflowing, 4)])
async def test_an_answer_of_another_length_is_not_believed(kind: type[Bucket], asked: int) -> None:
    store = MemoryStore()
    drive = await made(store)
    await drive.put(KEY, [b"ten bytes."])
    await drive.close()
    other = handle(store, kind)
    await other.attach(exclusive=True)
    with pytest.raises(ShardCorruptError):
        await other.read(KEY, [(0, asked)])
    await other.close()


async def test_a_journal_that_could_not_be_read_is_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown as empty, the drive would have been taken for one that was rolled back."""
    store = MemoryStore()
    first = await made(store)
    await first.append(SEGMENT, 0, b"first")
    drive = handle(store, Throttled)
    await drive.attach(exclusive=True)
    monkeypatch.setattr(Throttled, "refused", 1)
    with pytest.raises(DriveUnreachableError):
        await anext(drive.list("j/"))
    assert [entry.key async for entry in drive.list("j/")] == [SEGMENT]
    assert await drive.get(SEGMENT) == b"first"
