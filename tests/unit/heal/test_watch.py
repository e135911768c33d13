"""Drives that go away and come back."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
from trio.testing import MockClock

from ecfs.drive.base import Drive
from ecfs.drive.memory import MemoryDrive
from ecfs.journal import history
from ecfs.journal.segments import Collected, collect
from tests.unit.heal.conftest import Hospital, Patient, data

ONLINE = ["online"] * 6


async def test_a_deleted_drive_shows_within_two_seconds_without_any_io(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        await trio.sleep(1)
        assert patient.states() == ONLINE
        hospital.pool.stores[2].wipe()
        await trio.sleep(2)
        assert patient.states() == ["online", "online", "absent", "online", "online", "online"]
        assert not patient.engine.pool.members[2].in_w


async def test_a_drive_that_comes_back_is_caught_up_with_what_it_missed(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        hospital.pool.stores[2].vanish()
        await trio.sleep(2)
        await patient.write(8, data(1_500_000, 2))
        assert patient.counts()[0] > 0
        hospital.pool.stores[2].come_back()
        await patient.until_whole()
        await assert_whole_without_others(hospital, patient)


async def assert_whole_without_others(hospital: Hospital, patient: Patient) -> None:
    """What came back is complete: two other drives may go, and everything still reads."""
    for slot in (0, 1):
        hospital.pool.stores[slot].vanish()
    await patient.check()
    for slot in (0, 1):
        hospital.pool.stores[slot].come_back()
    await patient.until_whole()
    await patient.assert_clean()


async def test_programs_do_not_wait_while_old_history_is_read_for_a_drive_that_is_back(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the commit lock held only what was committed in the last moment is read, however long the journal is."""
    whole_under_lock: list[bool] = []
    async with hospital.open() as patient:

        async def watched(found: Collected, slot: int, drive: Drive, pool_id: bytes, *since: Mapping[str, int]) -> None:
            if patient.engine.commit_lock.locked():
                whole_under_lock.append(not since)
            await collect(found, slot, drive, pool_id, *since)
            await trio.sleep(0.3)  # commits go on meanwhile

        async def go_on() -> None:
            for number in range(100, 200):
                await patient.write(number, data(3_000, number))
                await trio.sleep(0.05)

        monkeypatch.setattr(history, "collect", watched)
        await patient.write(7, data(900_000))
        hospital.pool.stores[2].vanish()
        await trio.sleep(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on)
            await trio.sleep(1)
            hospital.pool.stores[2].come_back()
        await patient.until_whole()
        assert whole_under_lock
        assert not any(whole_under_lock)
        await assert_whole_without_others(hospital, patient)


async def test_a_drive_that_was_away_over_an_unmount_is_caught_up(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
    hospital.pool.stores[4].vanish()
    async with hospital.open() as patient:
        await patient.write(8, data(900_000, 2))
    async with hospital.open() as patient:
        await patient.write(9, data(900_000, 3))
        hospital.pool.stores[4].come_back()
        await patient.until_whole()
        hospital.pool.stores[0].wipe()
        hospital.pool.stores[1].wipe()
        await patient.check()


@pytest.mark.parametrize("back", [0, 1, 2])
@pytest.mark.parametrize("apart_s", [0.0, 3.0])
async def test_three_drives_vanish_and_one_comes_back(
    hospital: Hospital, autojump_clock: MockClock, back: int, apart_s: float
) -> None:
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(900_000))
        for slot in (0, 1, 2):
            hospital.pool.stores[slot].vanish()
            await trio.sleep(apart_s)
        await trio.sleep(3)
        assert patient.states()[:3] == ["absent"] * 3
        assert patient.engine.stalled
        hospital.pool.stores[back].come_back()
        with trio.fail_after(30):
            while patient.engine.stalled:
                await patient.engine.pool.members.wait_change(0.1)
        await patient.check()
        await patient.write(8, data(900_000, 2))
        await patient.check()
        for slot in {0, 1, 2} - {back}:
            hospital.pool.stores[slot].come_back()
        await patient.until_whole()
        await patient.check()
    hospital.pool.crash()
    async with hospital.open() as patient:
        await patient.check()
        assert patient.counts() == (0, 0, 0, 0)


async def test_r05_what_two_late_drives_lack_is_rebuilt_from_memory_when_a_third_drive_is_lost(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """The commit was answered with four shards; one of them is lost before the late drives have theirs."""
    async with hospital.open(clean=False) as patient:
        for slot in (1, 2):
            hospital.pool.stores[slot].vanish()
        await patient.until("online", "absent", "absent", "online", "online", "online")
        await patient.write(8, data(900_000, 2))
        hospital.pool.stores[3].wipe()
        await patient.until("online", "absent", "absent", "absent", "online", "online")
        await patient.check()
        for slot in (1, 2):
            hospital.pool.stores[slot].come_back()
        await patient.until("online", "online", "online", "absent", "online", "online")
    hospital.pool.crash()
    async with hospital.open(clean=False) as patient:
        await patient.check()


async def test_r05_payloads_of_short_stripes_are_bounded_and_let_go_when_all_drives_have_them(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    async with hospital.open() as patient:
        sealed = patient.engine.sealed
        await patient.write(7, data(900_000))
        assert sealed.kept == 0
        hospital.pool.stores[1].vanish()
        await patient.until("online", "absent", *["online"] * 4)
        for ino in range(8, 52):
            await patient.write(ino, data(900_000, ino))
        assert 0 < sealed.kept <= patient.engine.pool.settings.sealed_limit
        await patient.remove(51)
        for ino in range(8, 46):
            await patient.remove(ino)
        await patient.engine.reaper.drain()
        assert sealed.kept == 5 * 900_000
        hospital.pool.stores[1].come_back()
        await patient.until_whole()
        assert sealed.kept == 0


async def test_a_drive_that_comes_back_when_all_commits_have_ended_is_not_tried_without_a_pause(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try writes its superblock and its identity, durably."""
    written: list[str] = []
    really_write = MemoryDrive.write_blob

    async def counted(drive: MemoryDrive, name: str, content: bytes) -> None:
        written.append(name)
        await really_write(drive, name, content)
        await trio.sleep(0.01)

    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(900_000))
        hospital.pool.stores[2].vanish()
        await trio.sleep(2)
        patient.engine.give_up("internal error")
        monkeypatch.setattr(MemoryDrive, "write_blob", counted)
        hospital.pool.stores[2].come_back()
        await trio.sleep(30)
        assert len(written) < 60
        await patient.check()
