"""R11: an older copy of a drive is counted on for nothing that it does not show by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

from ecfs.drive.base import Buffer
from ecfs.errors import DriveTimeoutError, DriveUnreachableError
from ecfs.meta import Outcome
from ecfs.shard import shard_key
from tests.unit.heal.conftest import Hospital, Patient, data, put_back, snapshot

SLOT = 2


async def older_copy_is_back(hospital: Hospital, *, clean: bool) -> None:
    """Three files were written after the copy of the drive was made that is now in its place."""
    store = hospital.pool.stores[SLOT]
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
    old = snapshot(store)
    async with hospital.open(run=False, clean=clean) as patient:
        await patient.write(8, data(900_000, 2))
        await patient.write(9, data(900_000, 3))
        await patient.write(10, b"x")
    hospital.pool.crash()
    put_back(store, old)


async def mended_and_honest(patient: Patient) -> None:
    with trio.fail_after(120):
        while any(patient.counts()) or set(patient.states()) != {"online"}:
            await trio.sleep(0.5)
    patient.assert_honest()


def at_append(hospital: Hospital, slot: int, act: Callable[[int], None]) -> None:
    """The next opening's handle of a drive calls `act` with the number of each append, from 1, before it."""
    handles = hospital.pool.handles()
    appends = 0

    def on_operation(name: str, key: str) -> None:
        nonlocal appends
        if name == "append":
            appends += 1
            act(appends)

    handles[slot].on_operation = on_operation

    def once() -> object:
        del hospital.pool.handles
        return handles

    hospital.pool.handles = once  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("clean", [False, True])
async def test_r11_what_a_crashed_opening_copied_does_not_hide_a_rollback(
    hospital: Hospital, autojump_clock: MockClock, clean: bool
) -> None:
    """It completes the journal of the older copy and dies before its open record. The next one finds it away."""
    await older_copy_is_back(hospital, clean=clean)

    def die(_: int) -> None:
        raise RuntimeError("killed")

    at_append(hospital, 0 if clean else 5, die)
    with pytest.raises(RuntimeError, match="killed"):
        await hospital.pool.open()
    hospital.pool.crash()
    hospital.pool.stores[SLOT].vanish()
    async with hospital.open(clean=False) as patient:
        hospital.pool.stores[SLOT].come_back()
        await mended_and_honest(patient)


@pytest.mark.parametrize("nth", range(1, 7))
async def test_r11_an_older_copy_that_fails_while_it_is_caught_up(
    hospital: Hospital, autojump_clock: MockClock, nth: int
) -> None:
    await older_copy_is_back(hospital, clean=False)

    def late(append: int) -> None:
        if append == nth:
            raise DriveTimeoutError("late", slot=SLOT)

    at_append(hospital, SLOT, late)
    async with hospital.open(clean=False) as patient:
        await mended_and_honest(patient)


@pytest.mark.parametrize("restart", [False, True])
async def test_r11_a_drive_that_failed_at_the_append_need_not_have_that_commit(
    hospital: Hospital, autojump_clock: MockClock, restart: bool
) -> None:
    """It got the shards and not the record, and leaves by the record after it; a copy from just before comes back."""
    store = hospital.pool.stores[SLOT]
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(900_000))
        old = snapshot(store)

        def unplug(name: str, key: str) -> None:
            if name == "append":
                store.vanish()
                raise DriveUnreachableError("unplugged", slot=SLOT)

        hospital.pool.drives[SLOT].on_operation = unplug
        await patient.write(8, data(900_000, 2))
        assert patient.states()[SLOT] != "online"
        put_back(store, old)
        if not restart:
            store.come_back()
            await mended_and_honest(patient)
            return
    hospital.pool.crash()
    async with hospital.open(clean=False) as patient:
        store.come_back()
        await mended_and_honest(patient)


@pytest.mark.parametrize("at_the_append", [False, True])
async def test_r11_a_repair_told_by_the_record_with_which_the_drive_leaves(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, at_the_append: bool
) -> None:
    """The shard was put back and is durable; before the commit that says so, or at its append, the drive goes. Who
    comes is a copy from before the repair, which shows all that the drive confirmed."""
    store = hospital.pool.stores[SLOT]
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(900_000))
        stripe, copies = patient.stripes()[0], []
        store.names.pop(shard_key("s", stripe))
        store.durable_names.pop(shard_key("s", stripe))
        committer, drive = patient.engine.committer, hospital.pool.drives[SLOT]
        add_outcome, put = committer.add_outcome, drive.put

        async def put_a_copy_aside(key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
            copies.append(snapshot(store))
            await put(key, buffers, replace=replace)

        told = trio.Event()

        def unplug(name: str = "append", key: str = "") -> None:
            if name == "append":
                store.vanish()
                patient.engine.pool.members.take_down(SLOT, "absent", "unplugged")
                told.set()

        def unplug_when_told(more: Outcome) -> None:
            add_outcome(more)
            if (stripe, SLOT) in more.present and not told.is_set():
                if at_the_append:
                    drive.on_operation = unplug
                else:
                    unplug()

        monkeypatch.setattr(drive, "put", put_a_copy_aside)
        monkeypatch.setattr(committer, "add_outcome", unplug_when_told)
        await patient.engine.record(Outcome(missing=[(stripe, SLOT)]))
        with trio.fail_after(60):
            await told.wait()
        await patient.engine.sync()
        put_back(store, copies[0])
        store.come_back()
        await mended_and_honest(patient)
