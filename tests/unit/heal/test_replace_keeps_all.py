"""A new drive for a slot while two others are away: what the old one has is not given up before the new one has it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from ecfs.drive.base import Buffer
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.errors import DriveTimeoutError
from ecfs.pool.identity import MEMBER, decode_identity
from ecfs.shard import shard_key
from tests.unit.heal.conftest import Hospital, Patient, data


async def without_drives(patient: Patient, *slots: int) -> None:
    for slot in slots:
        patient.pool.stores[slot].vanish()
    await patient.until(*["absent" if slot in slots else "online" for slot in range(6)])


@pytest.mark.parametrize("prefix", ["c/", "j/"], ids=["checkpoints", "journal"])
async def test_what_is_committed_when_the_new_drive_was_filled(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    """Its shard on the old drive is one of the last four. That the payload is in memory for a while saves none of it
    from a crash, nor more of it than there is room for."""
    new = hospital.spare["new"] = MemoryStore()
    put, append, written = MemoryDrive.put, MemoryDrive.append, 0
    async with hospital.open() as patient:
        patient.engine.sealed.limit = 0
        await patient.write(7, data(600_000))
        await without_drives(patient, 0, 1)

        async def beside(store: MemoryStore, key: str) -> None:
            nonlocal written
            on_its_way = patient.engine.pool.members[3].url != "memory:new" and not patient.engine.commit_lock.locked()
            if store is new and on_its_way and key.startswith(prefix) and written < 3:
                written += 1
                await patient.write(100 + written, data(600_000, written))

        async def watched_put(self: MemoryDrive, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
            await beside(self.store, key)
            await put(self, key, buffers, replace=replace)

        async def watched_append(self: MemoryDrive, segment: str, offset: int, record: Buffer) -> None:
            await append(self, segment, offset, record)
            await beside(self.store, segment)

        monkeypatch.setattr(MemoryDrive, "put", watched_put)
        monkeypatch.setattr(MemoryDrive, "append", watched_append)
        report = await patient.healer.replace(3, "memory:new")
        assert report.exit_status == 0, report.findings
        assert written
        await patient.check()


@pytest.mark.parametrize("bad", [2, 3], ids=["another drive", "the one replaced"])
async def test_a_shard_of_what_can_not_be_decoded_now(hospital: Hospital, autojump_clock: MockClock, bad: int) -> None:
    """With a third drive's shard bad, three are left. When one of those that are away is back, all four are needed.
    Whoever lacks the shard, it is said that the stripe can't be decoded."""
    hospital.spare["new"] = MemoryStore()
    async with hospital.open() as patient:
        await patient.write(7, data(300_000))
        await without_drives(patient, 0, 1)
        (stripe,) = patient.stripes()
        del hospital.pool.stores[bad].names[shard_key("s", stripe)]
        report = await patient.healer.replace(3, "memory:new")
        assert [(each.stripe, each.state) for each in report.findings if each.kind != "drive"] == [(stripe, "lost")]
        hospital.pool.stores[0].come_back()
        await trio.sleep(10)
        await patient.check()


async def test_a_fallback_checkpoint_that_can_not_be_read_forbids_no_new_drive(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """Both were written while a drive was away, which is back; two others die. The newest holds it all."""
    hospital.spare["new"] = MemoryStore()
    async with hospital.open() as patient:
        await patient.write(7, data(600_000))
        await without_drives(patient, 5)
        for ino in (8, 9):
            patient.engine.request_checkpoint()
            await patient.write(ino, data(600_000))
            await trio.sleep(1)
        hospital.pool.stores[5].come_back()
        await patient.until_whole()
        await trio.sleep(1)
        await without_drives(patient, 0, 1)
        report = await patient.healer.replace(0, "memory:new")
        assert report.exit_status == 0, report.findings
        await patient.check()


async def test_a_drive_that_has_the_slot_is_called_member_although_nobody_waits(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """Called joining, it would count for nothing at the next opening, although commits rely on it."""
    new = hospital.spare["new"] = MemoryStore()
    async with hospital.open() as patient:
        await patient.write(7, data(600_000))
        member = patient.engine.pool.members[3]
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(patient.healer.replace, 3, "memory:new")
                while member.url != "memory:new":
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        await trio.sleep(5)
        assert member.url == "memory:new"
        assert member.in_w
        assert decode_identity(bytes(new.raw("identity"))).state == MEMBER
        hospital.pool.stores[3] = new  # where slot 3 lies now
        await patient.until_whole()


async def test_a_slow_new_drive_holds_up_programs_for_its_deadline_only(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it gets at last, it gets while no commit is on its way."""
    new = hospital.spare["new"] = MemoryStore()
    put, append, appended, slow = MemoryDrive.put, MemoryDrive.append, 0, trio.Event()

    async def watched_put(self: MemoryDrive, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        if self.store is new and slow.is_set():
            await trio.sleep(self.capabilities.deadline_s * 0.8)
        await put(self, key, buffers, replace=replace)

    async with hospital.open() as patient, trio.open_nursery() as nursery:

        async def watched_append(self: MemoryDrive, segment: str, offset: int, record: Buffer) -> None:
            nonlocal appended
            await append(self, segment, offset, record)
            if self.store is new:
                appended += 1
                if appended <= 2:  # the history, and what was committed while it was copied
                    for number in range(10):
                        await patient.write(100 * appended + number, data(20_000, number))
                if appended == 2:
                    slow.set()

        async def replace() -> None:
            with pytest.raises(DriveTimeoutError):
                await patient.healer.replace(3, "memory:new")

        await patient.write(7, data(20_000))
        deadline = patient.engine.pool.members[3].drive.capabilities.deadline_s  # type: ignore[union-attr]
        monkeypatch.setattr(MemoryDrive, "put", watched_put)
        monkeypatch.setattr(MemoryDrive, "append", watched_append)
        nursery.start_soon(replace)
        await slow.wait()
        await trio.sleep(0.1)
        with trio.fail_after(deadline * 1.5):
            await patient.write(8, data(20_000))
        assert patient.engine.pool.members[3].url == "memory:3"
