"""Segments of a local drive: written over zeros that lie ready, which nobody ever sees."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ecfs.drive.base import Entry, Writer
from ecfs.drive.local import LocalDrive
from ecfs.drive.local_segments import AHEAD, SHORT
from ecfs.errors import DriveFullError, DriveUnreachableError, ShardCorruptError
from ecfs.journal.record import OPEN, Flaw, Found, compose, frame, scan

SEGMENT = "j/00000002.000000"
WRITER = Writer(2, "0" * 32)


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[LocalDrive]:
    drive = LocalDrive(tmp_path / "d0")
    await drive.create({"identity": b"who"})
    await drive.fence(WRITER)
    await drive.prepare([2])
    yield drive
    await drive.close()


async def again(drive: LocalDrive) -> LocalDrive:
    """The same directory after a crash: nobody cut the zeros off."""
    await drive.close()
    other = LocalDrive(drive.url)
    await other.attach(exclusive=True)
    await other.fence(Writer(3, "1" * 32))
    return other


def on_disk(drive: LocalDrive) -> bytes:
    return (Path(drive.url) / SEGMENT).read_bytes()


async def test_short_records_are_written_over_zeros(drive: LocalDrive) -> None:
    await drive.append(SEGMENT, 0, b"first")
    assert on_disk(drive) == b"first".ljust(AHEAD, b"\0")
    await drive.append(SEGMENT, 5, b"second")
    assert on_disk(drive) == b"firstsecond".ljust(AHEAD, b"\0")


async def test_the_zeros_are_never_shown(drive: LocalDrive) -> None:
    await drive.append(SEGMENT, 0, b"fir\0st")
    await demand_no_zeros(drive)
    drive = await again(drive)
    await demand_no_zeros(drive)
    await drive.close()


async def demand_no_zeros(drive: LocalDrive) -> None:
    assert await drive.get(SEGMENT) == b"fir\0st"
    assert await drive.read(SEGMENT, [(0, 4), (2, -1), (6, -1)]) == [b"fir\0", b"r\0st", b""]
    assert [entry async for entry in drive.list("j/")] == [Entry(SEGMENT, 6)]
    for offset, length in [(0, 7), (6, 1), (100, 10), (AHEAD - 1, 1), (AHEAD, 1)]:
        with pytest.raises(ShardCorruptError):
            await drive.read(SEGMENT, [(offset, length)])


async def test_a_segment_grows_by_another_step_where_the_zeros_end(drive: LocalDrive) -> None:
    written = b""
    while len(written) <= AHEAD:
        record = b"x" * (SHORT - 7)
        await drive.append(SEGMENT, len(written), record)
        written += record
        assert len(on_disk(drive)) == (AHEAD if len(written) <= AHEAD else 2 * AHEAD)
    assert await drive.get(SEGMENT) == written


async def test_a_long_record_brings_no_zeros(drive: LocalDrive) -> None:
    await drive.append(SEGMENT, 0, b"x" * (SHORT + 1))
    assert len(on_disk(drive)) == SHORT + 1
    await drive.append(SEGMENT, SHORT + 1, b"y")
    assert len(on_disk(drive)) == AHEAD


async def test_after_a_crash_a_segment_ends_where_its_records_end(drive: LocalDrive) -> None:
    await drive.append(SEGMENT, 0, b"first")
    drive = await again(drive)
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 4, b"second")
    drive = await again(drive)
    await drive.append(SEGMENT, 5, b"second")
    assert await drive.get(SEGMENT) == b"firstsecond"
    await drive.close()


async def test_records_that_are_gone_from_a_segment_are_noticed(drive: LocalDrive) -> None:
    await drive.append(SEGMENT, 0, b"first")
    await drive.append(SEGMENT, 5, b"second")
    (Path(drive.url) / SEGMENT).write_bytes(b"first".ljust(AHEAD, b"\0"))
    drive = await again(drive)
    with pytest.raises(DriveUnreachableError, match="does not end"):
        await drive.append(SEGMENT, 11, b"third")
    await drive.close()


async def test_no_record_ends_with_a_zero(drive: LocalDrive) -> None:
    with pytest.raises(ValueError, match="zero"):
        await drive.append(SEGMENT, 0, b"first\0")


def full_above(limit: int) -> Any:
    real = os.pwritev

    def pwritev(descriptor: int, views: list[memoryview], offset: int) -> int:
        room = limit - offset
        if room <= 0:
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, [memoryview(b"".join(views))[:room]], offset)

    return pwritev


async def test_a_disk_without_room_for_the_zeros_still_takes_the_record(
    drive: LocalDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwritev", full_above(8))
    await drive.append(SEGMENT, 0, b"first")
    await drive.append(SEGMENT, 5, b"abc")
    with pytest.raises(DriveFullError):
        await drive.append(SEGMENT, 8, b"d")
    assert await drive.get(SEGMENT) == b"firstabc"


async def test_a_torn_record_before_zeros_is_torn_not_rotten(drive: LocalDrive) -> None:
    """The power went during an append: some of its blocks came through, in any order."""
    pool, nonce = bytes(16), bytes(16)
    first = compose(OPEN, pool, 2, 1, nonce, bytes(32), 0, bytes(16), b"", b"{}")
    second = frame(compose(OPEN, pool, 2, 2, nonce, first.head.hash, 1, bytes(16), b"x" * 9000, b"{}"))
    await drive.append(SEGMENT, 0, frame(first))
    start = len(frame(first))
    for part in (second[:300], second[:5000], bytes(4096) + second[4096:], bytes(4096) + second[4096:8192]):
        (Path(drive.url) / SEGMENT).write_bytes((frame(first) + part).ljust(AHEAD, b"\0"))
        found = list(scan(await drive.get(SEGMENT), pool, 2))
        assert isinstance(found[0], Found)
        assert [flaw.torn for flaw in found[1:] if isinstance(flaw, Flaw)] == [True]
        assert isinstance(found[1], Flaw)
        assert found[1].offset == start


async def test_a_drive_made_anew_in_its_place_has_no_segment_that_was_given_up(drive: LocalDrive) -> None:
    """As a node does, whose directory was deleted and is made again."""
    await drive.append(SEGMENT, 0, b"first")
    shutil.rmtree(drive.url)
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 5, b"second")
    await drive.create({"identity": b"who"})
    await drive.fence(WRITER)
    await drive.append(SEGMENT, 0, b"anew")
    assert await drive.get(SEGMENT) == b"anew"
