"""Records are read together where they lie side by side, and each from elsewhere where a drive can't give it."""

from __future__ import annotations

from typing import cast

import pytest
import trio

from ecfs.drive.base import Drive
from ecfs.errors import CorruptError, DriveUnreachableError
from ecfs.journal.history import TOGETHER, _in_handfuls
from ecfs.journal.record import COMMIT, GENESIS, Record, compose, frame
from ecfs.journal.segments import Collected, Place, fetch_some

POOL = bytes(range(16))
RECORDS = [
    compose(COMMIT, POOL, 3, seq, POOL, GENESIS, seq - 1, POOL, bytes([seq]) * 700, b"{}") for seq in range(1, 6)
]
HEADS = [record.head for record in RECORDS]
SEGMENT = "j/00000003.000000"


class Shelf:
    """The part of a drive that is asked for records."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.calls = 0
        self.gone = False

    async def get(self, key: str, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        if self.gone:
            raise DriveUnreachableError("gone")
        return self.data[offset : offset + length]


def collected(*layouts: list[Record]) -> tuple[Collected, list[Shelf]]:
    """One drive per list of records, in the order in which they lie on it."""
    found, shelves = Collected(), []
    for slot, records in enumerate(layouts):
        offset = 0
        for record in records:
            found.heads[record.head.hash] = record.head
            found.places.setdefault(record.head.hash, []).append(Place(slot, SEGMENT, offset))
            offset += record.head.framed_length
        shelves.append(Shelf(b"".join(map(frame, records))))
    return found, shelves


async def fetched(found: Collected, shelves: list[Shelf]) -> list[Record]:
    return await fetch_some(found, HEADS, {slot: cast(Drive, shelf) for slot, shelf in enumerate(shelves)})


async def test_neighbours_are_read_with_one_call() -> None:
    found, shelves = collected(RECORDS, RECORDS)
    assert await fetched(found, shelves) == RECORDS
    assert [shelf.calls for shelf in shelves] == [1, 0]


async def test_what_does_not_follow_is_fetched_by_itself() -> None:
    found, shelves = collected([RECORDS[0], RECORDS[1], RECORDS[4], RECORDS[2], RECORDS[3]])
    assert await fetched(found, shelves) == RECORDS
    assert shelves[0].calls == 1 + 3


async def test_a_rotten_record_comes_from_another_drive() -> None:
    found, shelves = collected(RECORDS, RECORDS)
    rotten = bytearray(shelves[0].data)
    rotten[HEADS[0].framed_length + 300] ^= 1
    shelves[0].data = bytes(rotten)
    assert await fetched(found, shelves) == RECORDS
    shelves[1].gone = True
    with pytest.raises(CorruptError, match="commit 2 could be read"):
        await fetched(found, shelves)


async def test_a_drive_that_goes_meanwhile_or_gives_too_little_does_not_matter() -> None:
    found, shelves = collected(RECORDS, RECORDS)
    shelves[0].data = shelves[0].data[:1000]
    assert await fetched(found, shelves) == RECORDS
    shelves[0].gone = True
    assert await fetched(found, shelves) == RECORDS


def test_handfuls_are_in_order_and_bounded() -> None:
    large = compose(COMMIT, POOL, 3, 9, POOL, GENESIS, 8, POOL, bytes(TOGETHER), b"{}").head
    heads = HEADS * 100 + [large] + HEADS
    handfuls = list(_in_handfuls(heads))
    assert [head for handful in handfuls for head in handful] == heads
    assert all(sum(head.framed_length for head in handful) <= TOGETHER or handful == [large] for handful in handfuls)
    assert len(handfuls) <= 5
