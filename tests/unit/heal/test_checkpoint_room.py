"""R8 on full drives: what a superblock may name stays, what none will ever name goes, and two losses are survived."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from ecfs.drive.base import Buffer
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.errors import DriveFullError
from ecfs.journal import segments
from ecfs.shard import shard_key
from tests.unit.heal.conftest import Hospital, Patient, data


async def attempt(patient: Patient) -> None:
    """One more checkpoint, finished or failed."""
    engine = patient.engine
    newest, failed = engine.pool.checkpoints[0], failures(patient)
    await patient.write(500, data(900, engine.pool.seq))
    engine.request_checkpoint()
    while (engine.pool.checkpoints[0] == newest and failures(patient) == failed) or engine.checkpointer.lock.locked():
        await trio.sleep(0.1)


def failures(patient: Patient) -> int:
    return [event.kind for event in patient.engine.pool.members.events].count("checkpoint-failed")


def named(patient: Patient) -> set[str]:
    return {shard_key("c", row[0]) for each in patient.engine.pool.checkpoints for row in each.stripes}


def stored(store: MemoryStore) -> set[str]:
    return {key for key in store.names if key.startswith("c/")}


@pytest.fixture
def no_superblock(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether drives have no room left for a superblock."""
    full, write = False, MemoryDrive.write_blob

    async def write_blob(self: MemoryDrive, name: str, blob: bytes) -> None:
        if full and name == "superblock":
            raise DriveFullError("no space", slot=self.slot)
        await write(self, name, blob)

    def switch(to: bool) -> None:
        nonlocal full
        full = to

    monkeypatch.setattr(MemoryDrive, "write_blob", write_blob)
    return switch


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Slots without room for a shard of a checkpoint."""
    slots: set[int] = set()
    original = MemoryDrive.put

    async def put(self: MemoryDrive, key: str, buffers: list[Buffer], *, replace: bool = False) -> None:
        if self.slot in slots and key.startswith("c/"):
            raise DriveFullError("no space", slot=self.slot, key=key)
        await original(self, key, buffers, replace=replace)

    monkeypatch.setattr(MemoryDrive, "put", put)
    return slots


async def test_r08_what_superblocks_that_found_no_room_name_is_no_orphan(
    hospital: Hospital, autojump_clock: MockClock, no_superblock: Callable[[bool], None]
) -> None:
    """A disk that others fill to its last block, just when the superblocks are written; scrubs; the power goes."""
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(600_000, 7))
        await attempt(patient)
        await attempt(patient)
        needed = named(patient)
        no_superblock(True)
        for _ in range(3):
            await attempt(patient)
        assert failures(patient) == 3
        assert patient.states() == ["online"] * 6
        for _ in range(2):
            await patient.scrub()
        for drive in patient.pool.drives:
            await drive.sync()
        assert all(needed <= stored(store) for store in hospital.pool.stores)
    hospital.pool.crash()
    no_superblock(False)
    async with hospital.open() as patient:
        await patient.check()


async def test_r08_superblocks_that_found_no_room_are_written_before_anything_else_is_stored(
    hospital: Hospital, autojump_clock: MockClock, no_superblock: Callable[[bool], None]
) -> None:
    async with hospital.open() as patient:
        pool = patient.engine.pool
        await patient.write(7, data(600_000, 7))
        await attempt(patient)
        before = pool.checkpoints
        no_superblock(True)
        await attempt(patient)
        late = pool.checkpoints[0]
        assert pool.checkpoints == [late, *before]
        assert pool.named == [late, before[0]]
        shards = [stored(store) for store in hospital.pool.stores]
        for _ in range(5):
            await attempt(patient)
        assert pool.checkpoints == [late, *before]
        assert [stored(store) for store in hospital.pool.stores] == shards
        no_superblock(False)
        await attempt(patient)
        while len(pool.checkpoints) > 2 or patient.engine.checkpointer.lock.locked():
            await trio.sleep(0.1)
        assert pool.named == pool.checkpoints == [pool.checkpoints[0], late]
        assert [stored(store) for store in hospital.pool.stores] == [named(patient)] * 6
        await patient.assert_clean()


async def test_r08_a_checkpoint_that_fails_leaves_nothing_behind(
    hospital: Hospital, autojump_clock: MockClock, full: set[int]
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(600_000, 7))
        await attempt(patient)
        before = [stored(store) for store in hospital.pool.stores]
        full |= {3, 4, 5}
        for _ in range(5):
            await attempt(patient)
        assert failures(patient) == 5
        assert [stored(store) for store in hospital.pool.stores] == before
        full.clear()


async def test_r08_the_older_checkpoint_that_is_kept_is_one_that_the_most_drives_have(
    hospital: Hospital, autojump_clock: MockClock, full: set[int]
) -> None:
    """Two full drives, and then two others die: the two newest checkpoints would have four shards each, two of them
    gone."""
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(600_000, 7))
        await attempt(patient)
        whole = patient.engine.pool.checkpoints[0]
        full |= {0, 1}
        for _ in range(3):
            await attempt(patient)
            assert patient.engine.pool.checkpoints[1] == whole
        await patient.engine.sync()
    hospital.pool.stores[2].wipe()
    hospital.pool.stores[3].wipe()
    full.clear()
    async with hospital.open() as patient:
        await patient.check()
        await attempt(patient)
        await attempt(patient)
        assert whole not in patient.engine.pool.checkpoints


async def test_r08_pruning_of_a_slow_drive_spares_the_one_that_replaces_it(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slot gets the new drive between two deletions: segments of the same names hold other records there."""
    monkeypatch.setattr(segments, "SEGMENT_LIMIT", 900)
    old, new = hospital.pool.stores[3], MemoryStore()
    hospital.spare["new"] = new
    joining, blocked, go_on = False, trio.Event(), trio.Event()
    delete, append = MemoryDrive.delete, MemoryDrive.append

    async with hospital.open(clean=False) as patient:
        engine = patient.engine
        bring_up = engine.pool.members.bring_up

        async def slow_delete(self: MemoryDrive, key: str) -> None:
            if joining and self.store is old and key.startswith("j/") and not blocked.is_set():
                blocked.set()
                await go_on.wait()
            await delete(self, key)

        async def slow_append(self: MemoryDrive, key: str, offset: int, payload: Buffer) -> None:
            nonlocal joining
            if self.store is new and not joining:
                joining = True
                engine.request_checkpoint()
                await blocked.wait()
            await append(self, key, offset, payload)

        def noticed(slot: int, drive: MemoryDrive, state: str) -> None:
            bring_up(slot, drive, state)
            go_on.set()  # the old drive has answered at last

        for ino in range(7, 15):
            await patient.write(ino, data(2000, ino))
        await attempt(patient)
        for ino in range(15, 40):
            await patient.write(ino, data(2000, ino))
        monkeypatch.setattr(MemoryDrive, "delete", slow_delete)
        monkeypatch.setattr(MemoryDrive, "append", slow_append)
        monkeypatch.setattr(engine.pool.members, "bring_up", noticed)
        await patient.healer.replace(3, "memory:new")
        assert blocked.is_set()
        await patient.until_whole()
        report = await patient.scrub()
        assert [finding for finding in report.findings if finding.kind == "journal"] == []


async def test_a_last_checkpoint_that_finds_no_room_is_no_loss(
    hospital: Hospital, autojump_clock: MockClock, full: set[int]
) -> None:
    """Whoever unmounted was told that the last changes could not be made durable; all of them were."""
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(600_000, 7))
        full |= set(range(6))
        await patient.write(8, data(20_000, 8), sync=False)
        assert await patient.engine.close()
        assert failures(patient) == 1
    full.clear()
    hospital.pool.crash()
    async with hospital.open() as patient:
        await patient.check()
