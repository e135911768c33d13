"""The drive in memory loses exactly what was not synced, and can be broken in every way a test needs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecfs.drive.base import Drive, Location, Writer
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.errors import (
    DriveFencedError,
    DriveFullError,
    DriveUnreachableError,
    ShardCorruptError,
    ShardMissingError,
)

SEGMENT = "j/00000002.000000"
WRITER = Writer(2, "a" * 32)


def key(number: int) -> str:
    return f"s/00000002/{number:08x}"


async def ready(drive: MemoryDrive) -> MemoryDrive:
    await drive.create({"identity": b"who"})
    await drive.fence(WRITER)
    await drive.prepare([2])
    return drive


@pytest.fixture
async def drive() -> AsyncIterator[MemoryDrive]:
    drive = await ready(MemoryDrive(slot=3))
    yield drive
    await drive.close()


async def reopened(drive: MemoryDrive) -> MemoryDrive:
    again = MemoryDrive(drive.store, slot=3)
    await again.attach(exclusive=True)
    return again


async def keys(drive: Drive) -> list[str]:
    return [entry.key for prefix in ("s/", "c/", "j/") async for entry in drive.list(prefix)]


# ---- crashes --------------------------------------------------------------------------------------------------------


async def test_a_crash_takes_unsynced_puts_and_leaves_synced_ones(drive: MemoryDrive) -> None:
    await drive.put(key(0), [b"data"])
    await drive.sync()
    await drive.put(key(1), [b"data"])
    drive.crash()
    with pytest.raises(DriveUnreachableError):
        await drive.alive()
    assert await keys(await reopened(drive)) == [key(0)]


async def test_a_crash_leaves_what_was_durable_on_return(drive: MemoryDrive) -> None:
    await drive.append(SEGMENT, 0, b"first")
    await drive.append(SEGMENT, 5, b"second")
    await drive.write_blob("superblock", b"here")
    drive.crash()
    after = await reopened(drive)
    assert await after.get(SEGMENT) == b"firstsecond"
    assert await after.read_blob("superblock") == b"here"
    assert await after.read_fence() == WRITER
    await after.fence(WRITER)
    await after.put(key(0), [b"epoch 2 is still prepared"])


async def test_a_delete_without_a_sync_may_come_back(drive: MemoryDrive) -> None:
    await drive.put(key(0), [b"data"])
    await drive.sync()
    await drive.delete(key(0))
    drive.crash()
    assert await keys(await reopened(drive)) == [key(0)]


async def test_a_replaced_shard_is_the_old_or_the_new_one_never_a_mix(drive: MemoryDrive) -> None:
    await drive.put(key(0), [b"old"])
    await drive.sync()
    await drive.put(key(0), [b"new one"], replace=True)
    drive.crash()
    assert await (await reopened(drive)).get(key(0)) == b"old"


async def test_a_crash_may_keep_a_prefix_torn_at_any_byte() -> None:
    """Name and bytes of the first shard, then of the second: 1 + 4 + 1 + 4 units."""
    seen = []
    for kept in range(11):
        drive = await ready(MemoryDrive())
        await drive.put(key(0), [b"abcd"])
        await drive.put(key(1), [b"efgh"])
        drive.crash(lambda size, kept=kept: kept)  # type: ignore[misc]
        after = await reopened(drive)
        seen.append([await after.get(found) for found in await keys(after)])
    assert seen[:4] == [[], [b""], [b"a"], [b"ab"]]
    assert seen[5:8] == [[b"abcd"], [b"abcd", b""], [b"abcd", b"e"]]
    assert seen[10] == [b"abcd", b"efgh"]


async def test_a_process_that_was_only_killed_loses_nothing(drive: MemoryDrive) -> None:
    await drive.put(key(0), [b"data"])
    await drive.delete(key(0))
    await drive.put(key(1), [b"data"])
    drive.crash(lambda size: size)
    assert await keys(await reopened(drive)) == [key(1)]


async def test_an_append_can_be_torn_by_crashing_before_its_flush(drive: MemoryDrive) -> None:
    await drive.append(SEGMENT, 0, b"first")

    def power_cut(operation: str, key: str) -> None:
        if operation == "append:flush":
            drive.crash(lambda size: 2)

    drive.on_operation = power_cut
    with pytest.raises(DriveUnreachableError):
        await drive.append(SEGMENT, 5, b"second")
    assert await (await reopened(drive)).get(SEGMENT) == b"firstse"


async def test_voided_puts_can_be_read_but_no_later_sync_saves_them(drive: MemoryDrive) -> None:
    await drive.put(key(0), [b"data"])
    drive.on_operation = failing_sync
    with pytest.raises(DriveUnreachableError):
        await drive.sync()
    drive.on_operation = None
    await drive.put(key(1), [b"data"])
    await drive.sync()
    assert await drive.get(key(0)) == b"data"
    drive.crash()
    assert await keys(await reopened(drive)) == [key(1)]


def failing_sync(operation: str, key: str) -> None:
    if operation == "sync":
        raise OSError(5, "Input/output error")


@given(st.lists(st.sampled_from(["put", "sync", "append", "delete"]), max_size=30), st.floats(0, 1))
async def test_whatever_was_synced_survives_any_crash(steps: list[str], kept: float) -> None:
    drive = await ready(MemoryDrive())
    safe: set[str] = set()
    put: set[str] = set()
    length = 0
    for number, step in enumerate(steps):
        if step == "put":
            await drive.put(key(number), [b"data"])
            put.add(key(number))
        elif step == "sync":
            await drive.sync()
            safe |= put
        elif step == "append":
            await drive.append(SEGMENT, length, b"record")
            length += 6
        elif put:
            gone = min(put)
            put.discard(gone)
            safe.discard(gone)
            await drive.delete(gone)
    drive.crash(lambda size: int(size * kept))
    after = await reopened(drive)
    for name in safe:
        assert await after.get(name) == b"data"
    assert not length or len(await after.get(SEGMENT)) == length


# ---- other ways to break it -----------------------------------------------------------------------------------------


async def test_unplugged_nothing_answers_and_plugged_in_again_all_is_there(drive: MemoryDrive) -> None:
    await drive.put(key(0), [b"data"])
    drive.vanish()
    for call in (drive.alive, drive.sync, drive.is_vacant, drive.space):
        with pytest.raises(DriveUnreachableError):
            await call()
    with pytest.raises(DriveUnreachableError):
        await MemoryDrive(drive.store).attach(exclusive=False)
    drive.come_back()
    assert await drive.get(key(0)) == b"data"


async def test_wiped_it_is_vacant_and_can_be_made_anew(drive: MemoryDrive) -> None:
    await drive.put(key(0), [b"data"])
    await drive.sync()
    drive.wipe()
    successor = MemoryDrive(drive.store)
    assert await successor.is_vacant()
    await ready(successor)
    assert await keys(successor) == []
    drive.crash()
    assert await (await reopened(successor)).read_blob("identity") == b"who"


async def test_damage_in_place_survives_a_crash(drive: MemoryDrive) -> None:
    await drive.put(key(0), [b"data"])
    await drive.sync()
    drive.raw(key(0))[0] ^= 1
    drive.raw_blob("identity")[:] = b"???"
    drive.crash()
    after = await reopened(drive)
    assert await after.get(key(0)) == b"eata"
    assert await after.read_blob("identity") == b"???"
    with pytest.raises(ShardCorruptError):
        await after.verify(key(0))


async def test_a_full_drive_keeps_what_it_has_and_takes_more_once_there_is_room() -> None:
    drive = await ready(MemoryDrive(MemoryStore(capacity=100)))
    await drive.put(key(0), [bytes(50)])
    for call in (
        drive.put(key(1), [bytes(60)]),
        drive.append(SEGMENT, 0, bytes(60)),
        drive.write_blob("superblock", bytes(60)),
    ):
        with pytest.raises(DriveFullError):
            await call
    assert (await drive.space()).free == 100 - 50 - len(b"who")
    with pytest.raises(ShardMissingError):
        await drive.get(key(1))
    await drive.delete(key(0))
    await drive.put(key(1), [bytes(60)])
    drive.crash()
    assert await (await reopened(drive)).read_blob("identity") == b"who"


async def test_two_writers_on_one_node_are_told_apart_by_the_fence_alone() -> None:
    store = MemoryStore(lockable=False)
    old, new = await ready(MemoryDrive(store)), MemoryDrive(store)
    await new.attach(exclusive=True)
    await old.put(key(0), [b"data"])
    await new.fence(Writer(3, "b" * 32))
    with pytest.raises(DriveFencedError):
        await old.put(key(1), [b"data"])
    with pytest.raises(DriveFencedError):
        await old.sync()
    await new.sync()


async def test_the_hook_sees_each_operation_before_it_happens_and_may_fail_it(drive: MemoryDrive) -> None:
    seen = []
    drive.on_operation = lambda operation, key: seen.append((operation, key))
    await drive.put(key(0), [b"data"])
    await drive.sync()
    await drive.append(SEGMENT, 0, b"record")
    assert seen == [("put", key(0)), ("sync", ""), ("sync:flush", ""), ("append", SEGMENT), ("append:flush", SEGMENT)]
    drive.on_operation = failing_put
    with pytest.raises(DriveUnreachableError) as caught:
        await drive.put(key(1), [b"data"])
    assert (caught.value.slot, caught.value.key) == (3, key(1))
    with pytest.raises(ShardMissingError):
        await drive.get(key(1))


def failing_put(operation: str, key: str) -> None:
    if operation == "put":
        raise OSError(5, "Input/output error")


async def test_space_and_location_are_what_the_test_says() -> None:
    where = Location("ext4:1", "/mnt/disk1", "ecfs")
    drive = await ready(MemoryDrive(MemoryStore(capacity=1000, device="disk1", location=where)))
    assert await drive.location() == where
    assert (await drive.space()).device == "disk1"


# ---- two processes at one node --------------------------------------------------------------------------------------


async def test_what_another_handle_voided_is_not_called_durable() -> None:
    """A medium that cannot be locked, as a node: what one handle's sync failed for is gone for the other one, too."""
    one = await ready(MemoryDrive(MemoryStore(lockable=False)))
    other = MemoryDrive(one.store)
    await other.attach(exclusive=True)
    await other.fence(WRITER)
    await one.put(key(0), [b"data"])
    other.on_operation = failing_flush
    with pytest.raises(DriveUnreachableError):
        await other.sync()
    with pytest.raises(DriveUnreachableError):
        await one.sync()
    await one.put(key(1), [b"data"])
    await one.sync()
    one.crash()
    assert await keys(await reopened(one)) == [key(1)]


async def test_a_sync_that_is_refused_voids_nothing() -> None:
    old = await ready(MemoryDrive(MemoryStore(lockable=False)))
    new = MemoryDrive(old.store)
    await new.attach(exclusive=True)
    await new.fence(Writer(3, "b" * 32))
    await new.put(key(0), [b"data"])
    with pytest.raises(DriveFencedError):
        await old.sync()
    await new.sync()
    new.crash()
    assert await keys(await reopened(new)) == [key(0)]


def failing_flush(operation: str, key: str) -> None:
    if operation == "sync:flush":
        raise DriveUnreachableError("fsync failed: Input/output error")


async def test_without_room_for_the_shards_of_an_epoch_it_is_not_alive(drive: MemoryDrive) -> None:
    await drive.alive()
    drive.store.epochs.clear()
    with pytest.raises(DriveUnreachableError):
        await drive.alive()
