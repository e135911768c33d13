"""Beyond parity, hung drives, full drives, ranges, progress, and looking without touching."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from ecfs.drive.base import Buffer
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.drive.wrapper import DriveWrapper
from ecfs.errors import DriveTimeoutError, EcfsError, StripeLostError
from ecfs.heal.report import ScrubProgress
from ecfs.meta import Outcome
from ecfs.shard import shard_key
from tests.unit.heal.conftest import Hospital, Patient, data


def damage(hospital: Hospital, patient: Patient, stripe: int, slots: tuple[int, ...]) -> None:
    fact = patient.healer._ctx.fact(stripe)
    assert fact is not None
    for slot in slots:
        hospital.pool.stores[slot].raw(fact.key)[4100] ^= 1


async def test_what_cant_be_decoded_is_named_and_set_aside(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(200_000))
        await patient.write(8, data(200_000, 2))
        lost, fine = patient.stripes()
        damage(hospital, patient, lost, (0, 1, 2))
        damage(hospital, patient, fine, (0, 1))
        report = await patient.scrub()
        assert report.exit_status == 3
        assert [(f.stripe, f.paths) for f in report.findings if f.state == "lost"] == [(lost, ("/f7",))]
        assert report.repaired == 2
        assert await patient.engine.read(8, 0, 200_000) == patient.files[8]
        with pytest.raises(StripeLostError):
            await patient.engine.read(7, 0, 200_000)
        committed = patient.engine.committed
        await trio.sleep(300)
        assert patient.engine.committed <= committed + 1  # nothing loops
        assert patient.counts()[:3] == (0, 0, 1)
        second = await patient.scrub()
        assert second.exit_status == 3
        await patient.remove(7)
        await trio.sleep(5)
        assert (await patient.scrub()).exit_status == 0


async def test_three_drives_gone_names_every_file_and_changes_nothing(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    async with hospital.open(clean=False) as patient:
        for ino in range(7, 10):
            await patient.write(ino, data(500_000, ino))
        for slot in (3, 4, 5):
            hospital.pool.stores[slot].vanish()
        report = await patient.scrub()
        assert report.exit_status == 3
        assert {path for f in report.findings for path in f.paths} == {"/f7", "/f8", "/f9"}
        with pytest.raises(StripeLostError):
            await patient.engine.read(7, 0, 500_000)
        with pytest.raises(EcfsError):
            await patient.write(11, data(500_000))
        patient.files.pop(11, None)
        hospital.pool.stores[4].come_back()
        await trio.sleep(5)
        await patient.check()


async def test_dry_run_changes_nothing(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
        damage(hospital, patient, patient.stripes()[0], (2,))
        hospital.pool.stores[5].wipe()
        hospital.pool.stores[1].raw("superblock")[70] ^= 1
        before = [{key: bytes(f.data) for key, f in store.names.items()} for store in hospital.pool.stores]
        seq = patient.engine.pool.seq
        report = await patient.scrub(dry_run=True)
        assert report.exit_status == 1
        assert report.repaired == 0
        assert {f.kind for f in report.findings} == {"corrupt-shard", "drive", "superblock"}
        after = [{key: bytes(f.data) for key, f in store.names.items()} for store in hospital.pool.stores]
        assert [sorted(names) for names in after] == [
            sorted(names) for names in before
        ] or patient.engine.pool.seq > seq
        assert all(before[slot][key] == after[slot][key] for slot in range(5) for key in before[slot] if key[0] != "j")
        assert not hospital.pool.stores[5].names


class Liar(DriveWrapper):
    """Says that it stored a shard, and stored something else."""

    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        await self.inner.put(key, [b"?", b"".join(buffers)[1:]], replace=replace)


async def test_a_repair_that_did_not_arrive_is_not_called_one(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(200_000))
        (stripe,) = patient.stripes()
        damage(hospital, patient, stripe, (2,))
        member = patient.engine.pool.members[2]
        assert member.drive is not None
        honest, member.drive = member.drive, Liar(member.drive)
        report = await patient.scrub()
        assert (report.repaired, report.pending, report.exit_status) == (0, 1, 1)
        assert patient.engine.db.ledger.missing_slots(stripe) == {2}
        member.drive = honest
        assert (await patient.scrub()).exit_status == 0
        await patient.assert_clean()


@pytest.mark.parametrize("operation", ["verify", "read", "alive", "list", "put", "sync", "append", "read_blob"])
async def test_a_hung_drive_hangs_no_scrub(hospital: Hospital, autojump_clock: MockClock, operation: str) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        damage(hospital, patient, patient.stripes()[0], (2, 3))
        member = patient.engine.pool.members[2]
        assert member.drive is not None
        faulty = hospital.slow(member.drive)
        member.drive = faulty
        faulty.hanging = {operation}
        with trio.fail_after(120):
            report = await patient.scrub()
        assert report.exit_status in (0, 1)
        faulty.release()
        await patient.until_whole()
        await patient.check()
        await patient.scrub()
        await patient.assert_clean()


async def test_a_hung_drive_delays_the_notice_of_no_other(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(900_000))
        member = patient.engine.pool.members[2]
        assert member.drive is not None
        faulty = hospital.slow(member.drive, 30.0)
        member.drive = faulty
        faulty.hanging = {"alive"}
        await trio.sleep(2)
        hospital.pool.stores[4].wipe()
        await trio.sleep(2)
        assert patient.states()[4] == "absent"
        assert patient.states()[2] == "online"
        await trio.sleep(40)
        slots = [event.slot for event in patient.engine.pool.members.events if event.kind == "absent"]
        assert slots.index(4) < slots.index(2)
        faulty.release()


async def test_r18_a_wiped_drive_is_one_range_whose_end_moves(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        for ino in range(7, 80):
            await patient.write(ino, data(100_000, ino))
        seen: list[int] = []
        ledger = patient.engine.db.ledger
        real = ledger.set_gaps

        def set_gaps(slot: int, ranges: list) -> None:  # type: ignore[type-arg]
            seen.append(len(ranges))
            real(slot, ranges)

        ledger.set_gaps = set_gaps  # type: ignore[method-assign]
        hospital.pool.stores[2].wipe()
        hospital.pool.stores[3].wipe()
        assert (await patient.scrub()).exit_status == 0
        assert len(seen) >= 6
        assert max(seen) == 1
        assert patient.engine.db.store.value("SELECT count(*) FROM missing") == 0


async def test_progress_is_honest(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(6_000_000))
        hospital.pool.stores[2].wipe()
        seen: list[tuple[str, int, int, float | None]] = []

        def progress(now: ScrubProgress) -> None:
            seen.append((now.phase, now.bytes_done, now.bytes_total, now.eta_s))

        # Slowly, since nothing is said of the time left in the first half minute.
        began = trio.current_time()
        await patient.healer.scrub(rate=100_000, progress=progress)
        took = trio.current_time() - began
        assert [done for _, done, _, _ in seen] == sorted(done for _, done, _, _ in seen)
        assert all(done <= total for phase, done, total, _ in seen if phase not in ("starting", "drives"))
        assert seen[-1][1] == pytest.approx(seen[-1][2], rel=0.1)
        assert took == pytest.approx(seen[-1][1] / 100_000, rel=0.2)
        phases = list(dict.fromkeys(phase for phase, *_ in seen))
        assert phases == ["drives", "rebuilding", "stripes", "checkpoints", "journals", "leftovers", "metadata"]
        assert seen[0][3] is None
        assert any(eta is not None and 0 <= eta < 2 * took for *_, eta in seen)


async def test_a_scrub_leaves_its_figures_in_the_pool(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
        report = await patient.scrub()
    async with hospital.open(run=False) as patient:
        setting = patient.engine.db.drives.setting("scrub")
        assert setting["checked"] == report.checked > 0
        assert setting["last_finished"] == report.finished_ns
        assert (setting["repaired"], setting["lost"]) == (0, 0)


@pytest.mark.parametrize("how", ["scrubbed", "deleted"])
async def test_what_was_set_aside_and_is_whole_or_gone_is_shown_no_more(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(200_000))
        await patient.write(8, data(200_000, 1))
        stripe = patient.stripes()[0]
        read, late = MemoryDrive.read, True

        async def slow(self: MemoryDrive, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
            if late and key == shard_key("s", stripe) and self.slot in (1, 2, 3):
                raise DriveTimeoutError("late", slot=self.slot, key=key)
            return await read(self, key, ranges)

        monkeypatch.setattr(MemoryDrive, "read", slow)
        await patient.engine.record(Outcome(missing=[(stripe, 0)]))
        await trio.sleep(5)
        assert stripe in patient.healer.set_aside
        late = False
        if how == "scrubbed":
            await patient.scrub()
            assert patient.counts() == (0, 0, 0, 0)
        else:
            await patient.remove(7)
            await trio.sleep(300)
        assert patient.healer.set_aside == {}


async def test_replace_says_what_is_lost(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(200_000))
        await patient.write(8, data(200_000, 1))
        lost = patient.stripes()[0]
        hospital.spare["new"] = MemoryStore()
        damage(hospital, patient, lost, (0, 1, 2))
        report = await patient.healer.replace(3, "memory:new")
        assert [(found.stripe, found.paths) for found in report.findings if found.state == "lost"] == [(lost, ("/f7",))]
        assert report.exit_status == 3


async def test_a_drive_that_hangs_over_deletions_does_not_keep_a_mount_from_its_end(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """Four at a time, each to its deadline, and nobody watches the drives any more: hours, for a large file."""
    async with hospital.open(run=False) as patient:
        member = patient.engine.pool.members[3]
        assert member.drive is not None
        member.drive = slow = hospital.slow(member.drive, 30.0)
        slow.hanging.add("delete")
        await patient.write(7, data(320 * 1024 * 40))
        await patient.remove(7)
        began = trio.current_time()
        assert await patient.engine.close()
        assert trio.current_time() - began < 120
        slow.release()


async def test_a_read_that_failed_once_leaves_no_stripe_set_aside_for_good(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drive was busy just when its shard was one of the last four. All drives stay: none will ever come back."""
    read, busy = MemoryDrive.read, False

    async def late(self: MemoryDrive, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        if busy and self.slot == 2:
            raise DriveTimeoutError("no answer within 30 s", slot=2, key=key)
        return await read(self, key, ranges)

    async with hospital.open() as patient:
        patient.engine.sealed.limit = 0
        hospital.pool.stores[5].vanish()
        await patient.until("online", "online", "online", "online", "online", "absent")
        await patient.write(7, data(300_000))
        hospital.pool.stores[0].vanish()
        await patient.until("absent", "online", "online", "online", "online", "absent")
        monkeypatch.setattr(MemoryDrive, "read", late)
        busy = True
        hospital.pool.stores[5].come_back()
        while not patient.healer.set_aside:
            await trio.sleep(0.1)
        busy = False
        await patient.until("absent", "online", "online", "online", "online", "online", seconds=900)
        assert patient.counts()[:3] == (0, 0, 0)
        assert not patient.healer.set_aside
