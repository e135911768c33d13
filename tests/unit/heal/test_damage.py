"""One damaged file of each kind: never wrong bytes, one scrub repairs it, the next finds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import trio
from trio.testing import MockClock

from ecfs.control.protocol import line
from ecfs.control.service import report_json
from ecfs.drive.base import Buffer
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.errors import StalledError
from ecfs.heal.mend import Job, Mended, Mender
from ecfs.meta import Outcome
from ecfs.shard import shard_key, verify_shard
from tests.unit.heal.conftest import Hospital, data

SLOT = 3
Break = Callable[[MemoryStore, list[str]], None]


def flip(at: int) -> Break:
    def damage(store: MemoryStore, keys: list[str]) -> None:
        raw = store.raw(keys[0])
        raw[at if at >= 0 else len(raw) + at] ^= 0x10

    return damage


def truncate(store: MemoryStore, keys: list[str]) -> None:
    raw = store.raw(keys[0])
    del raw[len(raw) // 2 :]


def empty(store: MemoryStore, keys: list[str]) -> None:
    store.raw(keys[0]).clear()


def lengthen(store: MemoryStore, keys: list[str]) -> None:
    store.raw(keys[0]).extend(b"more")


def delete(store: MemoryStore, keys: list[str]) -> None:
    del store.names[keys[0]], store.durable_names[keys[0]]


def swap(store: MemoryStore, keys: list[str]) -> None:
    one, other = store.raw(keys[0]), store.raw(keys[1])
    one[:], other[:] = bytes(other), bytes(one)


SHARD_DAMAGES: dict[str, Break] = {
    **{
        f"header byte {at}": flip(at)
        for at in (0, 8, 10, 12, 16, 32, 33, 34, 36, 40, 48, 56, 60, 64, 96, 112, 116, 120)
    },
    "header's zeros": flip(2000),
    "header's hash": flip(3990),
    "fragment header": flip(4020),
    "first block": flip(4096),
    "second block": flip(4096 + 65536),
    "last byte": flip(-1),
    "truncated": truncate,
    "emptied": empty,
    "lengthened": lengthen,
    "deleted": delete,
    "two swapped": swap,
}


@pytest.mark.parametrize("name", SHARD_DAMAGES)
async def test_a_damaged_shard(hospital: Hospital, name: str) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(1_200_000))
        store = hospital.pool.stores[SLOT]
        keys = sorted(key for key in store.names if key.startswith("s/"))
        SHARD_DAMAGES[name](store, keys)
        await patient.check()
        report = await patient.scrub()
        assert report.exit_status == 0
        assert report.repaired == (2 if name == "two swapped" else 1), report.findings
        assert report.drives[SLOT].repaired == report.repaired
        await patient.assert_clean()
        await patient.check()


FILE_DAMAGES: dict[str, Break] = {
    "first byte": flip(0),
    "middle": flip(150),
    "last byte": flip(-2),
    "truncated": truncate,
    "emptied": empty,
    "lengthened": lengthen,
    "deleted": delete,
}


def keys_of(store: MemoryStore, kind: str) -> list[str]:
    if kind in ("superblock", "identity"):
        return [kind]
    return sorted((key for key in store.names if key.startswith(kind)), reverse=kind == "j/")


@pytest.mark.parametrize("mounted", [True, False])
@pytest.mark.parametrize("kind", ["superblock", "identity", "c/", "j/"])
@pytest.mark.parametrize("name", FILE_DAMAGES)
async def test_a_damaged_file_that_an_opening_needs(
    hospital: Hospital, autojump_clock: MockClock, kind: str, name: str, mounted: bool
) -> None:
    store = hospital.pool.stores[SLOT]
    async with hospital.open(clean=False) as patient:
        for ino in range(7, 12):
            await patient.write(ino, data(300_000, ino))
        if mounted:
            FILE_DAMAGES[name](store, keys_of(store, kind))
            await patient.check()
            report = await patient.scrub()
            harmless = kind == "j/" and name == "lengthened"  # looks like an append that was cut short
            assert harmless or report.repaired >= 1, report.findings
            assert report.exit_status == 0, report.findings
            await patient.assert_clean()
    if not mounted:
        FILE_DAMAGES[name](store, keys_of(store, kind))
    hospital.pool.crash()
    async with hospital.open() as patient:
        await patient.check()
        report = await patient.scrub()
        assert report.exit_status == 0, report.findings
        await patient.until_whole()
        await patient.assert_clean()
        await patient.check()


async def test_every_byte_of_a_record_in_the_middle_of_the_journal(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        for ino in range(7, 12):
            await patient.write(ino, data(300_000, ino))
        store = hospital.pool.stores[SLOT]
        for at in range(0, 1500, 97):
            flip(at)(store, keys_of(store, "j/"))
            report = await patient.scrub()
            assert [(f.kind, f.state) for f in report.findings] == [("journal", "repaired")], at
            await patient.assert_clean()


async def test_damage_on_every_drive_of_one_stripe_within_parity(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(240_000))
        key = next(key for key in hospital.pool.stores[0].names if key.startswith("s/"))
        for one in range(6):
            for other in range(one):
                for slot in (one, other):
                    hospital.pool.stores[slot].raw(key)[5000 + slot] ^= 1
                await patient.check()
                report = await patient.scrub()
                assert (report.exit_status, report.repaired) == (0, 2)
        await patient.assert_clean()


async def test_a_shard_found_bad_by_a_read_is_right_again_without_a_scrub(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(1_200_000))
        for slot, store in enumerate(hospital.pool.stores[:2]):
            for key in [key for key in store.names if key.startswith("s/")]:
                store.raw(key)[4096 + slot] ^= 1
        await patient.check()
        await trio.sleep(5)
        assert patient.healer.quick_pending == 0
        assert patient.healer.repaired > 0
        await patient.check()  # whatever was not needed by the first read is reported by none
        report = await patient.scrub()
        assert report.exit_status == 0
        await patient.assert_clean()


async def test_a_shard_that_cant_be_repaired_at_once_is_recorded_as_missing(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """Healthy means known: the damage outlives a crash in the ledger, until it is repaired."""
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(240_000))
        stripe = patient.stripes()[0]
        for slot in (0, 1):
            hospital.pool.stores[slot].vanish()
        await trio.sleep(3)
        store = hospital.pool.stores[2]
        key = next(key for key in store.names if key.startswith("s/"))
        good = bytes(store.raw(key))
        store.raw(key)[4096] ^= 1
        patient.healer.repairer.note_bad(stripe, 2, None)  # type: ignore[arg-type]
        await trio.sleep(3)
        assert stripe in patient.healer.set_aside
        assert 2 in patient.engine.db.ledger.missing_slots(stripe)
        store.raw(key)[:] = good
        for slot in (0, 1):
            hospital.pool.stores[slot].come_back()
        await patient.until_whole()
        assert not patient.healer.set_aside


async def test_what_was_found_bad_is_known_until_its_repair_is_durable(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the put of a repaired shard and its sync, opened anew, then the power goes: what only the cache
    had is gone, and no scrub that found it good meanwhile may make anybody believe that all is well."""

    async def never(self: Mender, results: list[Mended]) -> None:
        await trio.sleep_forever()

    store = hospital.pool.stores[SLOT]
    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(300_000))
        (key,) = [key for key in store.names if key.startswith("s/")]
        flip(5000)(store, [key])
        with monkeypatch.context() as patch, trio.move_on_after(5):
            patch.setattr(Mender, "_sync", never)
            await patient.scrub()
        verify_shard(bytes(store.raw(key)))
    store.pending.clear()  # the kernel forgot it, as after a sync that failed
    async with hospital.open(run=False, clean=False) as patient:
        assert patient.counts()[0] == 1
        await patient.scrub()
        assert patient.counts() == (0, 0, 0, 0)
    hospital.pool.crash()
    verify_shard(bytes(store.raw(key)))


@pytest.mark.parametrize("at", ["put", "sync"])
async def test_a_checkpoint_found_damaged_is_known_until_its_repair_is_durable(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """As above, for a shard of a checkpoint, of which the ledger knows nothing."""

    async def never(self: MemoryDrive, *args: object, **options: object) -> None:
        if at == "put":
            await put(self, *args, **options)  # type: ignore[arg-type]
        await trio.sleep_forever()

    put, store = MemoryDrive.put, hospital.pool.stores[SLOT]
    async with hospital.open() as patient:
        await patient.write(7, data(300_000))
    key = keys_of(store, "c/")[-1]
    whole = bytes(store.raw(key))
    async with hospital.open(clean=False) as patient:
        flip(5000)(store, [key])
        with monkeypatch.context() as patch, trio.move_on_after(1):
            patch.setattr(MemoryDrive, at, never)
            await patient.scrub()
        assert bytes(store.raw(key)) == whole
    store.pending.clear()  # the kernel forgot it, as after a sync that failed
    async with hospital.open(run=False, clean=False) as patient:
        report = await patient.scrub()
        assert [(finding.kind, finding.slot) for finding in report.findings] == [("checkpoint", SLOT)]
        await patient.assert_clean()
    hospital.pool.crash()
    assert bytes(store.raw(key)) == whole


async def test_what_a_read_reported_outlives_a_pass_that_was_interrupted(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read reports a shard once. After a stall of a moment the ledger would not have heard of it before a scrub."""
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(300_000))
        store, repairer = hospital.pool.stores[SLOT], patient.healer.repairer
        delete(store, [key for key in store.names if key.startswith("s/")])
        await patient.check()

        async def stalled(jobs: Iterable[Job]) -> list[Mended]:
            raise StalledError(f"{len(list(jobs))} stripes, and three drives are away")

        with monkeypatch.context() as patch:
            patch.setattr(repairer.mender, "mend", stalled)
            with pytest.raises(StalledError):
                await repairer.quick_pass()
        await repairer.quick_pass()
        assert repairer.quick_pending == 0
        assert repairer.repaired == 1
        await patient.assert_clean()


async def test_a_lost_file_is_named_although_its_name_is_no_text(hospital: Hospital) -> None:
    """Names are bytes: with one in Latin-1 the report of a scrub could not be sent, nor be stored."""
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
        with patient.engine.db.atomic():
            patient.engine.db.names.unlink(1, b"f7")
            patient.engine.db.names.link(1, "Stra\xdfe".encode("latin-1"), 7)
        patient.engine.changed()
        await patient.engine.sync()
        for store in hospital.pool.stores[:3]:
            for key in [key for key in store.names if key.startswith("s/")]:
                delete(store, [key])
        report = await patient.scrub()
        assert report.exit_status == 3
        assert b"/Stra\\\\xdfe" in line("result", report_json(report))


async def test_a_disk_that_hangs_while_its_journal_is_mended_holds_up_nobody_for_long(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appends have no deadline of their own, and this one keeps the commit lock."""
    append, hangs, begun = MemoryDrive.append, False, trio.Event()

    async def hung(self: MemoryDrive, segment: str, offset: int, record: Buffer) -> None:
        if hangs and self.slot == SLOT:
            begun.set()
            await trio.sleep_forever()
        await append(self, segment, offset, record)

    async with hospital.open() as patient, trio.open_nursery() as nursery:
        await patient.write(7, data(300_000))
        store = hospital.pool.stores[SLOT]
        for key in [key for key in store.names if key.startswith("j/")]:
            store.raw(key)[len(store.raw(key)) // 2] ^= 1
        monkeypatch.setattr(MemoryDrive, "append", hung)
        hangs = True
        nursery.start_soon(patient.scrub)
        await begun.wait()
        with trio.fail_after(100):
            await patient.write(8, data(10_000))
        nursery.cancel_scope.cancel()


async def test_a_shard_known_to_be_missing_whose_name_is_taken_is_replaced(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """A put that was given up, or a crash before the sync, leaves something there."""
    async with hospital.open() as patient:
        await patient.write(7, data(300_000))
        (stripe,) = patient.stripes()
        store = hospital.pool.stores[SLOT]
        key = shard_key("s", stripe)
        truncate(store, [key])
        await patient.engine.record(Outcome(missing=[(stripe, SLOT)]))
        await patient.scrub()
        verify_shard(bytes(store.raw(key)))
        assert not patient.engine.pool.db.ledger.is_missing(stripe, SLOT)
        assert patient.engine.pool.members[SLOT].up
