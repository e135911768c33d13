"""What survives: sync, append, and what their failures void (R20, R21)."""

from __future__ import annotations

import pytest
import trio

from ecfs.drive.base import Drive, Writer
from ecfs.errors import DriveUnreachableError, ShardExistsError, UsageError
from tests.contract.conftest import WRITER
from tests.contract.places import Place

SEGMENT = "j/00000002.000000"


def key(number: int) -> str:
    return f"s/00000002/{number:08x}"


async def test_put_is_durable_after_sync_its_name_too(place: Place, drive: Drive) -> None:
    await drive.put(key(0), [b"data"])
    await drive.put("c/00000002.00000001", [b"data"])
    await drive.sync()
    assert place.is_durable(key(0))
    assert place.is_durable("c/00000002.00000001")


async def test_what_a_killed_process_left_behind_is_durable_once_the_next_one_has_fenced(
    place: Place, drive: Drive
) -> None:
    """Else it would find such a shard whole and count it, and a power cut may yet take it: the syncs of the next one
    cover what that one puts."""
    await drive.put(key(0), [b"data"])
    await drive.put("c/00000002.00000001", [b"data"])
    await place.kill(drive)
    successor = place.open()
    await successor.attach(exclusive=True)
    await successor.fence(Writer(3, "b" * 32))
    assert place.is_durable(key(0))
    assert place.is_durable("c/00000002.00000001")
    await successor.close()


async def test_whoever_fences_again_has_not_synced(place: Place, drive: Drive) -> None:
    """What a drive has put itself its own syncs cover; its owner may have to fence it once more, for a lost promise."""
    await drive.put(key(0), [b"data"])
    await drive.fence(WRITER)
    assert place.is_durable(key(0)) == place.durable_at_once


async def test_a_fence_that_could_not_make_it_durable_has_failed(place: Place, drive: Drive) -> None:
    await drive.put(key(0), [b"data"])
    await place.kill(drive)
    successor = place.open()
    await successor.attach(exclusive=True)
    with place.failing_syncs(), pytest.raises(DriveUnreachableError):
        await successor.fence(Writer(3, "b" * 32))
    await successor.fence(Writer(3, "b" * 32))
    await successor.prepare([2])
    await successor.put(key(1), [b"data"])
    await successor.sync()
    assert place.is_durable(key(1))
    await successor.close()


async def test_sync_with_nothing_to_do_is_fine(drive: Drive) -> None:
    await drive.sync()
    await drive.sync()


async def test_sync_covers_any_number_of_puts(place: Place, drive: Drive) -> None:
    for number in range(80):
        await drive.put(key(number), [b"data"])
    await drive.sync()
    assert all(place.is_durable(key(number)) for number in range(80))


async def test_puts_and_syncs_at_once_lose_nothing(place: Place, drive: Drive) -> None:
    async def put_and_sync(number: int) -> None:
        await drive.put(key(number), [b"data"])
        await drive.sync()
        assert place.is_durable(key(number))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(put_and_sync, number)


async def test_a_failed_sync_voids_what_was_put_since_the_last_good_one(place: Place, drive: Drive) -> None:
    await drive.put(key(0), [b"data"])
    await drive.sync()
    await drive.put(key(1), [b"data"])
    with place.failing_syncs(), pytest.raises(DriveUnreachableError):
        await drive.sync()
    await drive.put(key(2), [b"data"])
    await drive.sync()
    assert [place.is_durable(key(number)) for number in range(3)] == [True, place.durable_at_once, True]


async def test_a_cancelled_sync_says_nothing_about_later_puts(place: Place, drive: Drive) -> None:
    await drive.put(key(0), [b"data"])
    with trio.CancelScope() as scope:
        scope.cancel()
        await drive.sync()
    await drive.put(key(1), [b"data"])
    await drive.sync()
    assert place.is_durable(key(1))


async def test_deleting_or_replacing_before_the_sync_does_not_fail_it(place: Place, drive: Drive) -> None:
    for number in range(3):
        await drive.put(key(number), [b"data"])
    await drive.delete(key(0))
    await drive.put(key(1), [b"better"], replace=True)
    await drive.sync()
    assert place.is_durable(key(1))
    assert place.is_durable(key(2))


async def test_append_is_durable_on_return_its_name_too(place: Place, drive: Drive) -> None:
    await drive.append(SEGMENT, 0, b"first")
    await drive.append(SEGMENT, 5, bytearray(b"second"))
    await drive.append(SEGMENT, 11, memoryview(b"third"))
    assert await drive.read(SEGMENT, [(0, 5), (5, 6), (11, -1)]) == [b"first", b"second", b"third"]


async def test_two_segments_by_turns(drive: Drive) -> None:
    for number in range(4):
        await drive.append(SEGMENT, number, b"a")
        await drive.append("j/00000002.000001", number, b"b")
    assert await drive.get(SEGMENT) == b"aaaa"


async def test_two_segments_at_once(drive: Drive) -> None:
    async def fill(segment: str) -> None:
        for number in range(20):
            await drive.append(segment, number, b"x")

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(fill, f"j/00000002.{number:06x}")
    assert [entry.size async for entry in drive.list("j/")] == [20] * 4


@pytest.mark.parametrize("offset", [1, 4, 6, 99])
async def test_append_beside_the_end_is_refused_and_seals(drive: Drive, offset: int) -> None:
    await drive.append(SEGMENT, 0, b"first")
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, offset, b"second")
    with pytest.raises(DriveUnreachableError, match="new one"):
        await drive.append(SEGMENT, 5, b"second")
    assert await drive.get(SEGMENT) == b"first"


async def test_append_at_zero_never_overwrites_a_segment(drive: Drive) -> None:
    await drive.append(SEGMENT, 0, b"first")
    await drive.attach(exclusive=True)
    with pytest.raises(ShardExistsError):
        await drive.append(SEGMENT, 0, b"second")
    assert await drive.get(SEGMENT) == b"first"


async def test_append_goes_to_segments_only(drive: Drive) -> None:
    with pytest.raises(UsageError):
        await drive.append(key(0), 0, b"record")


async def test_a_segment_that_was_cut_behind_our_back_takes_no_more(place: Place, drive: Drive) -> None:
    await drive.append(SEGMENT, 0, b"first")
    place.damage(SEGMENT, b"fir")
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 5, b"second")


async def test_after_a_failed_append_only_another_segment_takes_records(place: Place, drive: Drive) -> None:
    await drive.append(SEGMENT, 0, b"first")
    with place.failing_syncs(), pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 5, b"second")
    with pytest.raises(DriveUnreachableError, match="new one"):
        await drive.append(SEGMENT, 5, b"second")
    await drive.append("j/00000002.000001", 0, b"second")
    await drive.attach(exclusive=True)
    with pytest.raises(DriveUnreachableError, match="new one"):
        await drive.append(SEGMENT, 5, b"second")


async def test_a_cancelled_append_has_failed(drive: Drive) -> None:
    await drive.append(SEGMENT, 0, b"first")
    with trio.CancelScope() as scope:
        scope.cancel()
        await drive.append(SEGMENT, 5, b"second")
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 5, b"second")
