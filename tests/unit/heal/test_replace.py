"""A new drive for a slot."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ecfs.drive.base import Buffer
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.errors import EcfsError, RefusedError
from ecfs.heal.replace import stored_replacement
from ecfs.heal.report import ScrubProgress
from ecfs.shard import shard_key
from tests.unit.heal.conftest import Hospital, Patient, data


@pytest.mark.parametrize("alive", [True, False])
async def test_replace_under_io(hospital: Hospital, autojump_clock: MockClock, alive: bool) -> None:
    async with hospital.open() as patient:
        for ino in range(7, 17):
            await patient.write(ino, data(600_000, ino))
        hospital.spare["new"] = MemoryStore()
        if not alive:
            hospital.pool.stores[3].wipe()
            await trio.sleep(3)
        done = False

        async def io() -> None:
            number = 100
            while not done:
                number += 1
                await patient.write(number, data(200_000, number), sync=number % 3 == 0)
                if number > 110:
                    await patient.remove(number - 5)
                await patient.check()
                await trio.sleep(0.01)  # lets the clock go on

        async with trio.open_nursery() as nursery:
            nursery.start_soon(io)
            report = await patient.healer.replace(3, "memory:new")
            done = True
        assert report.exit_status == 0, report.findings
        await patient.until_whole()
        assert patient.engine.pool.members[3].url == "memory:new"
        await patient.assert_clean()
        old = hospital.pool.stores[3]
        hospital.pool.stores[0].wipe()
        hospital.pool.stores[1].wipe()
        await patient.check()
        await trio.sleep(3)
        assert patient.states()[3] == "online"
        assert old.holder is None
    hospital.pool.stores[3] = hospital.spare["new"]
    async with hospital.open() as patient:
        await patient.check()


@pytest.mark.parametrize("later", [0, 0.5])
@pytest.mark.parametrize("at", ["prepare", "append"])
async def test_a_drive_on_its_way_in_is_turned_away_when_its_slot_is_replaced(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, at: str, later: float
) -> None:
    """It comes back, is slow about it, and by then another drive has its slot and its journal. later: seconds, in which
    a checkpoint is written and a new segment begun."""
    old, operation, released = hospital.pool.stores[3], getattr(MemoryDrive, at), trio.Event()
    waiting = trio.Event()

    async def slow(self: MemoryDrive, *args: object) -> None:
        if self.store is old:
            waiting.set()
            await released.wait()
        await operation(self, *args)

    async with hospital.open() as patient:
        hospital.spare["new"] = MemoryStore()
        await patient.write(7, data(600_000))
        old.vanish()
        await patient.until("online", "online", "online", "absent", "online", "online")
        await patient.write(8, data(600_000, 8))
        monkeypatch.setattr(MemoryDrive, at, slow)
        old.come_back()
        await waiting.wait()
        with trio.fail_after(1):  # the old one would be given up after 2 s
            report = await patient.healer.replace(3, "memory:new")
        assert report.exit_status == 0
        await trio.sleep(later)
        released.set()
        await trio.sleep(3)
        assert patient.states() == ["online"] * 6
        assert patient.engine.pool.members[3].url == "memory:new"
        assert old.holder is None
        await patient.assert_clean()
        hospital.pool.stores[0].wipe()
        hospital.pool.stores[1].wipe()
        await patient.check()


async def test_no_two_write_the_superblock_of_a_drive_at_once(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory takes the one of two that is slower for a drive whose files somebody exchanges, and is taken down."""
    write, under_way, most = MemoryDrive.write_blob, 0, 0
    new = hospital.spare["new"] = MemoryStore()

    async def slow(self: MemoryDrive, name: str, data: bytes) -> None:
        nonlocal under_way, most
        if self.store is not new or name != "superblock":
            return await write(self, name, data)
        under_way += 1
        most = max(most, under_way)
        await trio.sleep(0.5)
        await write(self, name, data)
        under_way -= 1

    async def checkpoints() -> None:
        while True:
            patient.engine.request_checkpoint()
            await patient.write(8, data(100_000, 8))
            await trio.sleep(0.1)

    async with hospital.open() as patient, trio.open_nursery() as nursery:
        await patient.write(7, data(600_000))
        monkeypatch.setattr(MemoryDrive, "write_blob", slow)
        nursery.start_soon(checkpoints)
        report = await patient.healer.replace(3, "memory:new")
        nursery.cancel_scope.cancel()
    assert report.exit_status == 0, report.findings
    assert most == 1


async def test_a_new_drive_that_hangs_holds_up_no_checkpoint_of_the_old_one(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """The old one's deadline would run meanwhile, and it would leave as late."""
    async with hospital.open() as patient, trio.open_nursery() as nursery:
        pool, old, new = patient.engine.pool, patient.engine.pool.members[3].drive, MemoryDrive(name="new", slot=3)
        assert old is not None
        hung = hospital.slow(new)
        hung.hanging = {"write_blob"}
        nursery.start_soon(pool.write_superblock, 3, hung.inner)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(1):
            await pool.write_superblock(3, old)
        nursery.cancel_scope.cancel()


async def test_reading_gets_no_worse_while_a_drive_is_replaced(hospital: Hospital, autojump_clock: MockClock) -> None:
    """Two drives are away: all four others are needed, at every moment."""
    async with hospital.open() as patient:
        for ino in range(7, 17):
            await patient.write(ino, data(600_000, ino))
        for slot in (0, 1):
            hospital.pool.stores[slot].vanish()
        await trio.sleep(3)
        hospital.spare["new"] = MemoryStore()
        done = False

        async def read() -> None:
            while not done:
                await patient.check()
                await trio.sleep(0.01)
                await trio.sleep(0.01)  # lets the clock go on

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await patient.healer.replace(3, "memory:new")
            done = True
        await patient.check()
        for slot in (0, 1):
            hospital.pool.stores[slot].come_back()
        await patient.until_whole()


async def test_replace_refuses_bad_places(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(600_000))
        hospital.spare["full"] = MemoryStore(exists=True)
        hospital.spare["full"].harden(hospital.spare["full"].replace("identity", b"?"))
        hospital.spare["gone"] = MemoryStore(reachable=False)
        for slot, url in ((3, "memory:4"), (3, "memory:3"), (3, "memory:full"), (3, "memory:gone"), (9, "memory:new")):
            with pytest.raises(EcfsError):
                await patient.healer.replace(slot, url)
        assert patient.states() == ["online"] * 6
        assert patient.healer.running is None
        await patient.assert_clean()


async def test_the_place_of_a_new_drive_is_known_although_a_drive_missed_the_replacement(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its superblock names the old place. Taken from there, the new place, empty since its disk is not mounted, would
    be free for another slot."""
    store = hospital.pool.stores[5]
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(600_000))
        missed = bytes(store.raw("superblock"))
        hospital.spare["new"] = MemoryStore()
        assert (await patient.healer.replace(1, "memory:new")).exit_status == 0
    hospital.pool.crash()
    store.harden(store.replace("superblock", missed))
    hospital.spare["new"].wipe()
    old_places = hospital.pool.handles

    def places_of_the_pool_file() -> list[MemoryDrive]:
        handles = old_places()
        handles[1] = MemoryDrive(hospital.spare["new"], name="new")
        return handles

    monkeypatch.setattr(hospital.pool, "handles", places_of_the_pool_file)
    async with hospital.open(run=False) as patient:
        assert patient.engine.pool.members[1].url == "memory:new"
        with pytest.raises(RefusedError, match="is the place of drive 1"):
            await patient.healer.replace(0, "memory:new")


async def test_no_other_work_is_begun_while_a_scrub_runs(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(3_000_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(patient.scrub)
            healer = patient.healer
            while healer.running is None:
                await trio.lowlevel.checkpoint()
            with pytest.raises(RefusedError, match="running already"):
                await patient.scrub(dry_run=True)
            with pytest.raises(RefusedError, match="running already"):
                await patient.healer.replace(3, "memory:new")
        assert patient.healer.running is None
        assert patient.healer.last is not None


async def test_a_scrub_that_runs_is_given_up_when_the_pool_closes(hospital: Hospital) -> None:
    """It records what it repairs, so the last commit would never be the last one."""
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(3_000_000))
        refused = []

        async def scrub() -> None:
            with pytest.raises(RefusedError, match="being unmounted") as error:
                await patient.healer.scrub(rate=1000)
            refused.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(scrub)
            while patient.healer.running is None or not patient.healer.running.checked:
                await trio.lowlevel.checkpoint()
            patient.healer.stop()
        assert refused
        assert patient.healer.last is None
        assert await patient.engine.close()


async def killed_replacement(patient: Patient, *, checked: int) -> None:
    """Of drive 3, in a pool of 100 stripes, when so many shards of the new one were checked."""
    for ino in range(7, 107):
        await patient.write(ino, data(20_000, ino))
    with trio.CancelScope() as kill:

        def killed(progress: ScrubProgress) -> None:
            if progress.checked >= checked:
                kill.cancel()

        await patient.healer.replace(3, "memory:new", killed)


async def test_a_replacement_that_was_killed_goes_on(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was noted after a sync is verified; what lies beyond is put again, and nothing counts before the end."""
    monkeypatch.setattr("ecfs.heal.replace.SAVE_S", 0.0)
    hospital.spare["new"] = MemoryStore()
    async with hospital.open(clean=False) as patient:
        await killed_replacement(patient, checked=40)
        assert patient.engine.pool.members[3].url == "memory:3"
    hospital.spare["new"].crash()
    async with hospital.open() as patient:
        reached = stored_replacement(patient.engine.db.drives)
        assert reached is not None
        assert (reached.slot, reached.url) == (3, "memory:new")
        assert reached.filled >= patient.stripes()[31]
        assert patient.states() == ["online"] * 6
        put, puts = MemoryDrive.put, list[str]()

        async def counted(self: MemoryDrive, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
            if key.startswith("s/"):
                puts.append(key)
            await put(self, key, buffers, replace=replace)

        monkeypatch.setattr(MemoryDrive, "put", counted)
        report = await patient.healer.replace(3, "memory:new")
        assert report.exit_status == 0
        assert len(puts) <= 100 - 32
        assert report.tally(3).checked >= 100
        await patient.until_whole()
        assert patient.engine.pool.members[3].url == "memory:new"
        await patient.assert_clean()
        assert stored_replacement(patient.engine.db.drives) is None
        for slot in (0, 1):
            hospital.pool.stores[slot].vanish()
        await patient.check()


@pytest.mark.parametrize("alive", [True, False], ids=["old drive alive", "old drive dead"])
async def test_a_new_drive_that_lost_shards_before_its_replacement_goes_on(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """Nobody looks after the files of a drive that counts for nothing yet: what the note says may be gone."""
    monkeypatch.setattr("ecfs.heal.replace.SAVE_S", 0.0)
    store = hospital.spare["new"] = MemoryStore()
    async with hospital.open(clean=False) as patient:
        await killed_replacement(patient, checked=70)
    shards = sorted(key for key in store.names if key.startswith("s/"))
    assert len(shards) > 60
    for key in shards[::2]:
        del store.names[key]
        store.durable_names.pop(key, None)
    if not alive:
        hospital.pool.stores[3].vanish()
    async with hospital.open() as patient:
        report = await patient.healer.replace(3, "memory:new")
        assert report.exit_status == 0
        await patient.until_whole()
        hospital.pool.stores[3] = store  # where slot 3 lies now
        patient.assert_honest()
        await patient.assert_clean()


async def test_the_note_of_a_replacement_that_goes_on_says_nothing_of_what_is_put_again(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed once more before the next sync, it would otherwise be read from a cache and pass for durable."""
    monkeypatch.setattr("ecfs.heal.replace.SAVE_S", 0.0)
    store = hospital.spare["new"] = MemoryStore()
    put = MemoryDrive.put
    async with hospital.open(run=False) as patient:
        for ino in range(7, 107):
            await patient.write(ino, data(20_000, ino))
        first = patient.stripes()[0]
        with trio.CancelScope() as kill:

            def killed(progress: ScrubProgress) -> None:
                if progress.checked >= 70:
                    kill.cancel()

            await patient.healer.replace(3, "memory:new", killed)
        del store.names[shard_key("s", first)]
        noted = list[int]()

        async def watched(self: MemoryDrive, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
            if self.store is store and key == shard_key("s", first):
                reached = stored_replacement(patient.engine.db.drives)
                noted.append(reached.filled if reached is not None else 0)
            await put(self, key, buffers, replace=replace)

        reached = stored_replacement(patient.engine.db.drives)
        assert reached is not None
        assert reached.filled >= first
        monkeypatch.setattr(MemoryDrive, "put", watched)
        await patient.healer.replace(3, "memory:new")
        assert noted == [0]


async def test_a_replacement_that_was_killed_when_the_drive_had_the_slot_is_over(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = MemoryStore(), hospital.pool.stores[3]
    hospital.spare["new"] = new
    async with hospital.open() as patient:
        await patient.write(7, data(200_000))
        write = MemoryDrive.write_blob
        with trio.CancelScope() as kill:

            async def write_blob(self: MemoryDrive, name: str, blob: bytes) -> None:
                await write(self, name, blob)
                if name == "identity" and b'"member"' in blob and self.store is new:
                    kill.cancel()
                    await trio.lowlevel.checkpoint()

            monkeypatch.setattr(MemoryDrive, "write_blob", write_blob)
            await patient.healer.replace(3, "memory:new")
        assert kill.cancelled_caught
        assert stored_replacement(patient.engine.db.drives) is None
        assert old.holder is None
        hospital.pool.stores[3] = new  # where slot 3 lies now
        await patient.until_whole()
        assert [event.kind for event in patient.engine.pool.members.events if event.slot == 3].count("absent") == 0
        await patient.check()


async def test_a_begun_replacement_of_another_slot_is_no_place_for_a_drive(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(600_000))
        hospital.spare["new"] = MemoryStore()
        joiner = patient.healer._joiner
        drive = hospital.open_drive("memory:new", 2)
        await joiner.create(2, drive)
        await drive.close()
        with pytest.raises(RefusedError, match="is not empty"):
            await patient.healer.replace(3, "memory:new")
        assert patient.states() == ["online"] * 6


@pytest.mark.parametrize("new_first", [False, True])
async def test_of_a_drive_and_the_one_it_replaced_the_new_one_is_taken(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, new_first: bool
) -> None:
    """Both name the same slot and opening, and a pool file that was written by hand lists both. With two others away
    the pool could not be opened without the new one."""
    new = hospital.spare["new"] = MemoryStore()
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(600_000))
        assert (await patient.healer.replace(3, "memory:new")).exit_status == 0
        await patient.write(8, data(600_000))
    handles = hospital.pool.handles

    def both() -> list[MemoryDrive]:
        listed = [*handles(), MemoryDrive(new, name="new")]
        hospital.pool.drives = listed
        return listed[::-1] if new_first else listed

    monkeypatch.setattr(hospital.pool, "handles", both)
    hospital.pool.stores[0].vanish()
    hospital.pool.stores[1].vanish()
    async with hospital.open(run=False) as patient:
        assert patient.engine.pool.members[3].url == "memory:new"
        assert patient.engine.pool.members[3].in_w
        await patient.check()
