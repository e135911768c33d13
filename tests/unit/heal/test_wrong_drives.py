"""Drives that must not be trusted: old copies of themselves, copies that lived on, strangers."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from ecfs.drive.base import Drive, Location
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.errors import DriveUnreachableError, EcfsError, NotEnoughDrivesError
from ecfs.meta import Outcome
from ecfs.shard import shard_key
from tests.memory_pool import MemoryPool
from tests.unit.heal.conftest import Hospital, Patient, data, put_back, snapshot

HERE = Location("ext4:1", "/mnt/disk", "ecfs")
ELSEWHERE = Location("ext4:root", "/", "mnt/disk/ecfs")


# ---- R11: stale and diverged copies -----------------------------------------------------------------------------


@pytest.mark.parametrize("crash", [False, True])
async def test_r11_an_old_copy_of_a_drive_is_unknown_until_verified(hospital: Hospital, crash: bool) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
    old = snapshot(hospital.pool.stores[2])
    async with hospital.open(run=False) as patient:
        await patient.write(8, data(900_000, 2))
        await patient.write(7, data(900_000, 3))
    put_back(hospital.pool.stores[2], old)
    if crash:  # an opening that ends before anything says what the drive lacks must not hide it
        with pytest.raises(RuntimeError):
            await open_and_die(hospital)
    async with hospital.open(run=False, clean=False) as patient:
        assert patient.counts()[1] > 0
        patient.assert_honest()
        await patient.check()
    hospital.pool.crash()
    async with hospital.open(run=False) as patient:
        assert patient.counts()[1] > 0
        report = await patient.scrub()
        assert report.exit_status == 0
        assert patient.counts() == (0, 0, 0, 0)
        await patient.check()
        hospital.pool.stores[0].wipe()
        hospital.pool.stores[1].wipe()
        await patient.check()


async def open_and_die(hospital: Hospital) -> None:
    """An opening that is killed when it has completed the journals and is about to append its open record."""
    handles = hospital.pool.handles()

    def on_operation(name: str, key: str) -> None:
        if name == "append":
            raise RuntimeError("killed")

    handles[0].on_operation = on_operation
    hospital.pool.handles = lambda: handles  # type: ignore[method-assign]
    try:
        await hospital.pool.open()
    finally:
        del hospital.pool.handles
        hospital.pool.crash()


async def test_r11_an_old_copy_that_is_plugged_in_while_mounted(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(900_000))
        old = snapshot(hospital.pool.stores[2])
        await patient.write(8, data(900_000, 2))
        hospital.pool.stores[2].vanish()
        await trio.sleep(3)
        await patient.write(9, data(300_000, 2))
        put_back(hospital.pool.stores[2], old)
        hospital.pool.stores[2].come_back()
        await patient.check()
        await patient.until_whole()
        hospital.pool.stores[0].wipe()
        hospital.pool.stores[1].wipe()
        await patient.check()
        assert any(event.kind == "rolled-back" for event in patient.engine.pool.members.events)


@pytest.mark.parametrize("clean", [False, True], ids=["crash", "unmounted"])
async def test_r11_a_copy_from_just_before_the_last_commit_that_is_away_at_the_opening(
    hospital: Hospital, autojump_clock: MockClock, clean: bool
) -> None:
    """A drive that is away need not show the newest record when it comes back: it may have been lost in the crash. So
    the shards of that commit must not be counted on."""
    store = hospital.pool.stores[2]
    async with hospital.open(clean=clean) as patient:
        await patient.write(7, data(900_000))
        old = snapshot(store)
        await patient.write(8, data(900_000, 2))
    if not clean:
        hospital.pool.crash()
    put_back(store, old)
    store.vanish()
    async with hospital.open(clean=False) as patient:
        store.come_back()
        await patient.until_whole()
        hospital.pool.stores[0].wipe()
        hospital.pool.stores[1].wipe()
        await patient.check()
        assert shard_is_there(patient, 2)


def shard_is_there(patient: Patient, slot: int) -> bool:
    """Every stripe's."""
    return all(shard_key("s", stripe) in patient.pool.stores[slot].names for stripe in patient.stripes())


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.soak)])
async def test_r11_a_crash_while_an_old_copy_is_taken_in_does_not_hide_what_it_lacks(
    tmp_path: Path, autojump_clock: MockClock, step: int
) -> None:
    operations = 1
    while True:
        pool = MemoryPool(tmp_path, stripe_size=320 * 1024, inline_at_most=1024)
        await pool.create()
        hospital = Hospital(pool)
        async with hospital.open(clean=False) as patient:
            await patient.write(7, data(300_000))
            old = snapshot(pool.stores[2])
            await patient.write(8, data(300_000, 2))
            pool.stores[2].vanish()
            await trio.sleep(3)
            died = dies_after(hospital, patient, operations)
            put_back(pool.stores[2], old)
            pool.stores[2].come_back()
            with trio.move_on_after(20):
                await died.wait()
        pool.crash()
        async with hospital.open(run=False) as patient:
            patient.assert_honest()
            await patient.check()
        if not died.is_set():
            break
        operations += step
    assert operations > 10


async def test_r11_a_copy_that_lived_on_elsewhere_is_refused(
    hospital: Hospital, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
    other = MemoryPool(tmp_path, stripe_size=320 * 1024)
    other.pool_id, other.stores = hospital.pool.pool_id, [snapshot(store) for store in hospital.pool.stores]
    async with Hospital(other).open(run=False) as patient:
        await patient.write(8, data(100_000))
    async with hospital.open() as patient:
        hospital.pool.stores[4].vanish()
        await trio.sleep(3)
        diverged = other.stores[4]
        before = copy.deepcopy(diverged.names)
        put_back(hospital.pool.stores[4], diverged)
        hospital.pool.stores[4].come_back()
        await trio.sleep(15)
        assert patient.states()[4] == "wrong"
        assert "diverged" in patient.engine.pool.members[4].reason
        report = await patient.scrub()
        assert report.exit_status == 1
        assert {key: file.data for key, file in hospital.pool.stores[4].names.items()} == {
            key: file.data for key, file in before.items()
        }
        await patient.check()


async def test_a_drive_of_another_pool_is_refused(
    hospital: Hospital, tmp_path: Path, autojump_clock: MockClock
) -> None:
    other = MemoryPool(tmp_path)
    await other.create()
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        hospital.pool.stores[4].vanish()
        await trio.sleep(3)
        put_back(hospital.pool.stores[4], other.stores[4])
        hospital.pool.stores[4].come_back()
        await trio.sleep(15)
        assert patient.states()[4] == "wrong"
        assert "another pool" in patient.engine.pool.members[4].reason
        report = await patient.scrub()
        assert report.exit_status == 1
        assert hospital.pool.stores[4].raw("identity") == other.stores[4].raw("identity")


async def test_two_drives_swapped_by_name_while_mounted(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        stores = hospital.pool.stores
        one, other = snapshot(stores[0]), snapshot(stores[5])
        put_back(stores[0], other)
        put_back(stores[5], one)
        await trio.sleep(3)
        await patient.until_whole()
        assert patient.engine.pool.members[0].url == "memory:5"
        await patient.check()
        await patient.assert_clean()


# ---- R7: a new drive does not vote --------------------------------------------------------------------------------


def dies_after(hospital: Hospital, patient: Patient, operations: int) -> trio.Event:
    """From the n-th operation on new handles on, they all fail; the event tells."""
    count = 0
    died = trio.Event()

    def hook(operation: str, key: str) -> None:
        nonlocal count
        count += 1
        if count >= operations:
            died.set()
            raise DriveUnreachableError("the power is gone")

    def open_drive(url: str, slot: int) -> Drive:
        handle = hospital.open_drive(url, slot)
        assert isinstance(handle, MemoryDrive)
        handle.on_operation = hook
        return handle

    patient.healer._ctx.open_drive = open_drive
    return died


async def crash_after(hospital: Hospital, patient: Patient, operations: int) -> bool:
    """Scrub, and stop everything at the n-th operation on a new handle. False if the scrub ended before."""
    died = dies_after(hospital, patient, operations)
    async with trio.open_nursery() as nursery:

        async def scrub() -> None:
            with suppress(EcfsError):
                await patient.scrub()
            nursery.cancel_scope.cancel()

        nursery.start_soon(scrub)
        await died.wait()
        nursery.cancel_scope.cancel()
    return died.is_set()


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.soak)])
async def test_r7_a_crash_at_any_step_of_recreating_two_drives(tmp_path: Path, step: int) -> None:
    """After each step: the two don't count, the pool opens with the others, and nothing needs them."""
    operations = 1
    while True:
        pool = MemoryPool(tmp_path, stripe_size=320 * 1024, inline_at_most=1024)
        await pool.create()
        hospital = Hospital(pool)
        async with hospital.open(run=False, clean=False) as patient:
            await patient.write(7, data(300_000))
            pool.stores[1].wipe()
            pool.stores[4].wipe()
            await patient.write(8, data(300_000, 2))
            died = await crash_after(hospital, patient, operations)
        pool.crash()
        new_drives_are_members = [b'"member"' in bytes(pool.stores[slot].raw("identity"))
                                  for slot in (1, 4) if "identity" in pool.stores[slot].names]  # fmt: skip
        if not all(new_drives_are_members) or len(new_drives_are_members) < 2:
            pool.stores[0].vanish()
            if not any(new_drives_are_members):
                with pytest.raises(NotEnoughDrivesError):  # three of six, and two empty ones that don't vote
                    await pool.open()
            pool.stores[0].come_back()
        async with hospital.open(run=False) as patient:
            await patient.check()
            report = await patient.scrub()
            assert report.exit_status == 0, (operations, report.findings)
            assert patient.states() == ["online"] * 6
            pool.stores[2].wipe()
            pool.stores[3].wipe()
            await patient.check()
        if not died:
            break
        operations += step
    assert operations > 20


async def test_r7_the_old_id_of_a_recreated_drive_is_retired(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        hospital.pool.stores[4].vanish()
        await trio.sleep(3)
        old = snapshot(hospital.pool.stores[4])
        hospital.pool.stores[4].wipe()
        hospital.pool.stores[4].come_back()
        assert (await patient.scrub()).exit_status == 0
        put_back(hospital.pool.stores[4], old)
        await trio.sleep(15)
        assert patient.states()[4] == "wrong"
        assert "replaced" in patient.engine.pool.members[4].reason


# ---- R10 and R22: where a drive may be made ---------------------------------------------------------------------


@pytest.fixture
async def located(tmp_path: Path) -> Hospital:
    pool = MemoryPool(tmp_path, stripe_size=320 * 1024, inline_at_most=1024)
    for store in pool.stores:
        store.location = HERE
    await pool.create()
    return Hospital(pool)


async def test_r10_the_empty_directory_of_an_unmounted_disk_is_not_filled(
    located: Hospital, autojump_clock: MockClock
) -> None:
    async with located.open() as patient:
        await patient.write(7, data(900_000))
        store = located.pool.stores[4]
        store.wipe()
        store.location = ELSEWHERE
        report = await patient.scrub()
        assert report.exit_status == 1
        (finding,) = [finding for finding in report.findings if finding.kind == "drive"]
        assert finding.state == "pending"
        assert "ext4:1" in finding.text
        assert "replace" in finding.text
        assert not store.names
        store.location = HERE
        assert (await patient.scrub()).exit_status == 0
        assert patient.states() == ["online"] * 6


async def test_r10_a_disk_that_is_unmounted_just_after_the_look_is_not_missed(
    located: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 300056, mix broken: the drive was made on the disk beneath, and that was recorded as its place."""
    store = located.pool.stores[4]
    is_vacant = MemoryDrive.is_vacant

    async def look_and_lose(drive: MemoryDrive) -> bool:
        vacant = await is_vacant(drive)
        if drive.store is store:
            store.location = ELSEWHERE
        return vacant

    async with located.open() as patient:
        await patient.write(7, data(900_000))
        store.wipe()
        monkeypatch.setattr(MemoryDrive, "is_vacant", look_and_lose)
        report = await patient.scrub()
        assert store.location == ELSEWHERE
        assert report.exit_status == 1
        assert not store.names
        monkeypatch.undo()
        store.location = HERE
        assert (await patient.scrub()).exit_status == 0
        assert patient.engine.pool.members[4].location["filesystem"] == HERE.filesystem


async def test_r10_nothing_is_recreated_while_stripes_need_the_drive(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """Three drives moved away: their places stay as they are, and one that is moved back makes all readable."""
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(900_000))
        saved = [snapshot(store) for store in hospital.pool.stores[:3]]
        for store in hospital.pool.stores[:3]:
            store.wipe()
        await trio.sleep(3)
        report = await patient.scrub()
        assert report.exit_status == 3
        assert {path for finding in report.findings for path in finding.paths} == {"/f7"}
        assert not any(store.names for store in hospital.pool.stores[:3])
        put_back(hospital.pool.stores[1], saved[1])
        await trio.sleep(5)
        await patient.check()
        assert not patient.engine.stalled


async def test_r10_a_drive_that_others_need_for_rebuilding_is_not_recreated(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """Enough drives are here to write, but one of them lacks the shards: the deleted ones may have the only copy."""
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(300_000))
        (stripe,) = patient.stripes()
        for store in hospital.pool.stores[:2]:
            store.vanish()
        key = next(key for key in hospital.pool.stores[2].names if key.startswith("s/"))
        del hospital.pool.stores[2].names[key]
        await patient.engine.record(Outcome(missing=[(stripe, 2)]))
        for store in hospital.pool.stores[:2]:
            store.wipe()
            store.come_back()
        report = await patient.scrub()
        assert report.exit_status == 3
        assert not any(store.names for store in hospital.pool.stores[:2])


@pytest.mark.parametrize("lost", ["identity", "identity and superblock", "all but shards"])
async def test_r22_what_is_left_of_a_partly_deleted_drive_is_used(
    hospital: Hospital, autojump_clock: MockClock, lost: str
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        store = hospital.pool.stores[4]
        for key in list(store.names):
            if (
                key == "identity"
                or (key == "superblock" and lost != "identity")
                or (not key.startswith("s/") and lost == "all but shards")
            ):
                del store.names[key], store.durable_names[key]
        await trio.sleep(3)
        assert patient.states()[4] == "wrong"
        assert (await patient.scrub()).exit_status == 0
        await patient.until_whole()
        await patient.assert_clean()
        hospital.pool.stores[0].wipe()
        hospital.pool.stores[1].wipe()
        await patient.check()


async def test_r22_a_place_with_something_else_in_it_is_left_alone(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        store, other = hospital.pool.stores[4], hospital.pool.stores[3]
        key = next(key for key in store.names if key.startswith("s/"))
        store.raw(key)[:] = bytes(other.raw(key))  # a shard of another slot
        del store.names["identity"], store.durable_names["identity"]
        await trio.sleep(3)
        before = {key: bytes(file.data) for key, file in store.names.items()}
        report = await patient.scrub()
        assert report.exit_status == 1
        assert {key: bytes(file.data) for key, file in store.names.items()} == before


# ---- R20: abandoned calls -------------------------------------------------------------------------------------------


async def test_r20_a_drive_with_an_abandoned_call_stays_out_until_it_has_returned(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        drive = hospital.pool.drives[2]
        outstanding = [1]
        monkeypatch.setattr(type(drive), "abandoned", property(lambda self: outstanding[0] if self is drive else 0))
        hospital.pool.stores[2].vanish()
        await trio.sleep(3)
        hospital.pool.stores[2].come_back()
        await trio.sleep(30)
        assert patient.states()[2] == "absent"
        assert "given up" in patient.engine.pool.members[2].reason
        outstanding[0] = 0
        await patient.until_whole()


def test_snapshot_is_a_copy() -> None:
    store = MemoryStore(exists=True)
    store.harden(store.replace("identity", b"x"))
    assert snapshot(store).names["identity"] is not store.names["identity"]
