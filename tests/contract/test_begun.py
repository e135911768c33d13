"""Appends that are begun and waited for together: the same promises as `append`."""

from __future__ import annotations

import pytest
import trio

from ecfs.drive.base import Drive
from ecfs.drive.begun import Gathering
from ecfs.errors import DriveUnreachableError, UsageError

SEGMENT = "j/00000002.000000"


async def append(drive: Drive, offset: int, record: bytes) -> None:
    """As the commit does it."""
    gathering = Gathering()
    begun = drive.begin_append(SEGMENT, offset, record, gathering)
    if begun is None:
        await drive.append(SEGMENT, offset, record)
        return
    with trio.fail_after(20):
        await gathering.wait()
    begun.result()


async def test_a_begun_append_is_one(drive: Drive) -> None:
    await append(drive, 0, b"first,")
    await append(drive, 6, b"second")
    assert await drive.get(SEGMENT) == b"first,second"


async def test_a_begun_append_that_fails_says_so_and_ends_the_segment(drive: Drive) -> None:
    await append(drive, 0, b"first,")
    with pytest.raises(DriveUnreachableError):
        await append(drive, 3, b"second")
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 6, b"second")


async def test_a_begun_append_that_is_given_up_ends_the_segment(drive: Drive) -> None:
    await append(drive, 0, b"first,")
    begun = drive.begin_append(SEGMENT, 6, b"second", Gathering())
    if begun is None:
        return  # giving up is then what cancelling does
    begun.give_up()
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 12, b"third")


async def test_a_begun_append_is_checked_like_any_other(drive: Drive) -> None:
    with pytest.raises(UsageError):
        await append_to("j/../x", drive)


async def append_to(segment: str, drive: Drive) -> None:
    if drive.begin_append(segment, 0, b"data", Gathering()) is None:
        await drive.append(segment, 0, b"data")
