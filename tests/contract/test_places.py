"""Coming and going: create, attach, locks, places that are deleted or exchanged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from ecfs.drive.base import Drive, Location, Writer
from ecfs.errors import DriveLockedError, DriveUnreachableError, DriveWrongError, ShardMissingError, UsageError
from tests.contract.places import Place

KEY = "s/00000002/00000000"
SEGMENT = "j/00000002.000000"


async def test_a_place_that_does_not_exist_is_vacant(place: Place) -> None:
    assert await place.open().is_vacant()


async def test_attach_needs_something_to_be_there(place: Place) -> None:
    with pytest.raises(DriveUnreachableError):
        await place.open().attach(exclusive=True)


async def test_nothing_works_before_attach(place: Place) -> None:
    with pytest.raises(DriveUnreachableError, match="drive 3: not attached"):
        await place.open().space()


async def test_create_attaches_and_keeps_the_blobs(drive: Drive) -> None:
    await drive.alive()
    assert await drive.read_blob("identity") == b"who"
    assert await drive.read_blob("rescue.py") == b"help"


async def test_create_refuses_a_place_that_is_not_vacant(place: Place, drive: Drive) -> None:
    other = place.open()
    assert not await other.is_vacant()
    with pytest.raises(DriveWrongError):
        await other.create({"identity": b"new"})
    assert place.bytes_of("identity") == b"who"


async def test_create_where_the_place_must_lie_and_nowhere_else(place: Place) -> None:
    """R10: between a look at where a place lies and the making of its drive, its disk may be unmounted."""
    drive = place.open()
    here = await drive.location()
    if here is None:
        return  # a bucket lies where its URL says
    with pytest.raises(DriveWrongError, match="not on another:disk"):
        await drive.create({"identity": b"who"}, filesystem="another:disk")
    assert await place.open().is_vacant()
    await drive.create({"identity": b"who"}, filesystem=here.filesystem)
    await drive.alive()
    await drive.close()


async def test_create_needs_an_identity_or_the_drive_would_count_as_deleted(place: Place) -> None:
    with pytest.raises(UsageError):
        await place.open().create({"superblock": b""})


async def test_create_and_exclusive_attach_lock_others_out_where_a_drive_can(place: Place, drive: Drive) -> None:
    other = place.open()
    if not drive.capabilities.lockable:
        await other.attach(exclusive=True)
        await other.close()
        return
    with pytest.raises(DriveLockedError, match="locked by"):
        await other.attach(exclusive=True)
    await drive.close()
    await other.attach(exclusive=True)
    with pytest.raises(DriveLockedError):
        await drive.attach(exclusive=True)
    await other.close()


async def test_a_reader_attaches_beside_the_writer_and_may_change_nothing(place: Place, drive: Drive) -> None:
    reader = place.open()
    await reader.attach(exclusive=False)
    assert await reader.read_blob("identity") == b"who"
    for change in changes(reader):
        with pytest.raises(DriveLockedError):
            await change()
    await reader.close()


async def test_attach_again_and_close_again_are_fine(drive: Drive) -> None:
    await drive.attach(exclusive=True)
    await drive.alive()
    await drive.close()
    await drive.close()
    with pytest.raises(DriveUnreachableError):
        await drive.alive()


async def test_what_was_stored_is_there_after_attaching_again(drive: Drive) -> None:
    await drive.put(KEY, [b"shard"])
    await drive.sync()
    await drive.append(SEGMENT, 0, b"record")
    await drive.attach(exclusive=True)
    assert await drive.get(KEY) == b"shard"
    await drive.append(SEGMENT, 6, b"next")
    assert await drive.get(SEGMENT) == b"recordnext"


def changes(drive: Drive) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: drive.put(KEY, [b"data"]),
        lambda: drive.put(KEY, [b"data"], replace=True),
        lambda: drive.delete(KEY),
        lambda: drive.sync(),
        lambda: drive.append(SEGMENT, 0, b"record"),
        lambda: drive.write_blob("superblock", b"data"),
        lambda: drive.prepare([9]),
    ]


@pytest.mark.parametrize("number", range(7))
async def test_no_change_counts_on_a_deleted_place(place: Place, drive: Drive, number: int) -> None:
    place.destroy()
    with pytest.raises(DriveUnreachableError):
        await changes(drive)[number]()


async def test_fence_alive_and_read_see_that_the_place_was_deleted(place: Place, drive: Drive) -> None:
    await drive.put(KEY, [b"data"])
    place.destroy()
    with pytest.raises(DriveUnreachableError):
        await drive.alive()
    with pytest.raises(DriveUnreachableError):
        await drive.fence(Writer(3, "b" * 32))
    with pytest.raises(DriveUnreachableError):
        await drive.get(KEY)


async def test_an_open_segment_of_a_deleted_place_takes_no_more_records(place: Place, drive: Drive) -> None:
    await drive.append(SEGMENT, 0, b"record")
    place.destroy()
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 6, b"record")


async def test_a_new_drive_at_the_same_place_is_not_the_one_that_was_attached(place: Place, drive: Drive) -> None:
    place.destroy()
    successor = place.open()
    assert await successor.is_vacant()
    await successor.create({"identity": b"new"})
    with pytest.raises(DriveUnreachableError):
        await drive.alive()
    with pytest.raises(DriveUnreachableError):
        await drive.put(KEY, [b"data"])
    with pytest.raises(DriveUnreachableError):
        await drive.sync()
    await successor.close()


async def test_location_is_none_or_says_where_before_and_after_the_place_exists(place: Place, drive: Drive) -> None:
    before = await drive.location()
    place.destroy()
    assert await place.open().location() == before
    assert before is None or isinstance(before, Location)


async def test_space_counts_bytes_and_names_the_device(drive: Drive) -> None:
    space = await drive.space()
    assert 0 < space.free <= space.total
    assert space.device


async def test_missing_blob_is_missing_and_foreign_names_are_refused(drive: Drive) -> None:
    with pytest.raises(ShardMissingError) as caught:
        await drive.read_blob("superblock")
    assert (caught.value.slot, caught.value.key) == (3, "superblock")
    for name in ("fence", "../identity", "lock", ""):
        with pytest.raises(UsageError):
            await drive.read_blob(name)
        with pytest.raises(UsageError):
            await drive.write_blob(name, b"")


async def test_blob_is_replaced_and_stays(place: Place, drive: Drive) -> None:
    await drive.write_blob("superblock", b"first, and longer")
    await drive.write_blob("superblock", b"second")
    assert await drive.read_blob("superblock") == b"second"
    assert place.is_durable("superblock")
    with place.failing_syncs(), pytest.raises(DriveUnreachableError):
        await drive.write_blob("superblock", b"third")


async def test_nothing_is_given_up_and_nothing_strays(drive: Drive) -> None:
    assert drive.abandoned == 0
    assert await drive.strays() == []
