"""Writes that are begun and waited for together: the same promises as `put` and `append`."""

from __future__ import annotations

import pytest
import trio

from ecfs.drive.base import Drive
from ecfs.drive.begun import Gathering
from ecfs.errors import DriveError, DriveUnreachableError, UsageError

SEGMENT = "j/00000002.000000"


KEY = "s/00000002/00000001"


async def put(drive: Drive, data: bytes, *, replace: bool = False) -> None:
    """As the commit does it."""
    gathering = Gathering()
    begun = drive.begin_put(KEY, [data[:1], data[1:]], gathering, replace=replace)
    if begun is None:
        await drive.put(KEY, [data], replace=replace)
        return
    with trio.fail_after(20):
        await gathering.wait()
    begun.result()


async def test_a_begun_put_is_one(drive: Drive) -> None:
    await drive.prepare([2])
    await put(drive, b"first")
    await drive.sync()
    assert await drive.get(KEY) == b"first"
    await put(drive, b"second", replace=True)
    await drive.sync()
    assert await drive.get(KEY) == b"second"


async def test_a_begun_put_that_fails_says_so(drive: Drive) -> None:
    await drive.prepare([2])
    await put(drive, b"first")
    with pytest.raises(DriveError):
        await put(drive, b"second")  # the name is taken
    assert await drive.get(KEY) == b"first"


async def test_a_begun_put_that_is_given_up_can_be_made_again(drive: Drive) -> None:
    await drive.prepare([2])
    begun = drive.begin_put(KEY, [b"first"], Gathering())
    if begun is None:
        return  # giving up is then what cancelling does
    begun.give_up()
    await put(drive, b"second", replace=True)
    await drive.sync()
    assert await drive.get(KEY) == b"second"


async def test_a_begun_put_is_checked_like_any_other(drive: Drive) -> None:
    with pytest.raises(UsageError):
        await put_at("s/../x", drive)


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


async def put_at(key: str, drive: Drive) -> None:
    if drive.begin_put(key, [b"data"], Gathering()) is None:
        await drive.put(key, [b"data"])


async def append_to(segment: str, drive: Drive) -> None:
    if drive.begin_append(segment, 0, b"data", Gathering()) is None:
        await drive.append(segment, 0, b"data")
