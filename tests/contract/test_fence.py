"""Who may write (R2)."""

from __future__ import annotations

import pytest

from ecfs.drive.base import Drive, Writer
from ecfs.errors import DriveFencedError, UsageError
from tests.contract.conftest import WRITER
from tests.contract.places import Place
from tests.contract.test_places import changes

NEWER = Writer(3, "b" * 32)


async def test_a_new_drive_is_promised_to_nobody(place: Place) -> None:
    drive = place.open()
    await drive.create({"identity": b"who"})
    assert await drive.read_fence() == Writer(0, "")
    await drive.close()


async def test_fence_is_kept_and_may_be_repeated(drive: Drive) -> None:
    assert await drive.read_fence() == WRITER
    await drive.fence(WRITER)
    await drive.attach(exclusive=True)
    assert await drive.read_fence() == WRITER


@pytest.mark.parametrize("writer", [Writer(1, "f" * 32), Writer(2, "b" * 32), Writer(2, "0" * 32)])
async def test_older_epoch_and_other_nonce_are_refused(drive: Drive, writer: Writer) -> None:
    with pytest.raises(DriveFencedError):
        await drive.fence(writer)
    assert await drive.read_fence() == WRITER


@pytest.mark.parametrize("writer", [Writer(0, ""), Writer(1, "A" * 32), Writer(1, "a"), Writer(1 << 31, "a" * 32)])
async def test_a_writer_that_could_not_be_stored_is_bad_usage(drive: Drive, writer: Writer) -> None:
    with pytest.raises(UsageError):
        await drive.fence(writer)


@pytest.mark.parametrize("number", range(7))
async def test_an_older_writer_changes_nothing_once_another_has_the_fence(
    place: Place, drive: Drive, number: int
) -> None:
    await take_over(place, drive)
    with pytest.raises(DriveFencedError) as caught:
        await changes(drive)[number]()
    assert caught.value.slot == 3
    assert [entry async for entry in drive.list("s/")] == []
    assert [entry async for entry in drive.list("j/")] == []


async def take_over(place: Place, drive: Drive) -> None:
    """Another handle fences the place; where drives are locked, by letting this one go for a moment."""
    other = place.open()
    if drive.capabilities.lockable:
        await drive.close()
    await other.attach(exclusive=True)
    await other.fence(NEWER)
    await other.close()
    if drive.capabilities.lockable:
        await drive.attach(exclusive=True)


async def test_the_newer_writer_goes_on(place: Place, drive: Drive) -> None:
    await drive.fence(NEWER)
    await drive.put("s/00000002/00000000", [b"data"])
    await drive.sync()
    assert await drive.read_fence() == NEWER


async def test_a_drive_made_anew_by_the_same_handle_is_promised_to_nobody(place: Place, drive: Drive) -> None:
    place.destroy()
    await drive.create({"identity": b"new"})
    assert await drive.read_fence() == Writer(0, "")
    await drive.write_blob("superblock", b"before the first fence")
    await drive.fence(Writer(1, "c" * 32))
    await drive.write_blob("superblock", b"after it")


async def test_many_openings_leave_the_newest_promise(drive: Drive) -> None:
    for epoch in range(3, 150):
        await drive.fence(Writer(epoch, f"{epoch:032x}"))
    assert await drive.read_fence() == Writer(149, f"{149:032x}")
    await drive.attach(exclusive=True)
    assert await drive.read_fence() == Writer(149, f"{149:032x}")
