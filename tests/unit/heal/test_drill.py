"""The drill says "proven" only of what it has shown, and finds what no checksum of one shard can."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ecfs.control.status import build_status
from ecfs.drive.memory import MemoryDrive
from ecfs.errors import RefusedError
from ecfs.geometry import counter_of
from ecfs.heal import drill
from ecfs.heal.report import LOST, PENDING, REPAIRED, ScrubProgress
from ecfs.meta import Outcome
from ecfs.shard import DATA_OFFSET, HEADER_LENGTH, block_crcs, build_header, parse_header, shard_key
from tests.unit.heal.conftest import Hospital, Patient, data


def shown(patient: Patient) -> dict[str, Any]:
    return dict(build_status(patient.engine.pool, usable=None)["drill"])


async def test_a_whole_pool_is_proven(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        assert shown(patient)["proven"] is None
        await patient.write(7, data(3_000_000))
        report = await patient.healer.drill()
        assert (report.exit_status, report.findings, report.sets) == (0, [], 15)
        assert report.proven == report.stripes == len(patient.stripes())
        assert report.proven_bytes == report.bytes == 3_000_000
        assert 1 <= report.decoded < report.stripes
        assert shown(patient)["proven"] == 1.0
    async with hospital.open(run=False) as patient:
        assert shown(patient)["proven"] == 1.0
        assert shown(patient)["decoded"] == report.decoded


async def test_full_decodes_every_stripe(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(1_500_000))
        report = await patient.healer.drill(full=True)
        assert report.decoded == report.stripes > 3


async def test_what_is_written_later_is_not_proven(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(1_000_000))
        await patient.healer.drill()
        await patient.write(8, data(3_000_000))
        assert shown(patient)["proven"] == 0.25
        await patient.remove(7)
        await patient.engine.reaper.drain()
        await patient.write(9, data(2000))  # its commit records that the stripes are gone
        assert shown(patient)["proven"] == 0.0


async def test_a_damaged_shard_is_no_proof_and_is_repaired(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(1_000_000))
        hospital.pool.stores[2].raw(shard_key("s", patient.stripes()[1]))[5000] ^= 1
        report = await patient.healer.drill()
        assert (report.exit_status, report.pending, report.proven) == (1, 1, report.stripes - 1)
        assert report.findings[0].slot == 2
        assert 0 < shown(patient)["proven"] < 1
        await trio.sleep(5)
        again = await patient.healer.drill()
        assert again.findings == []
        assert shown(patient)["proven"] == 1.0


def forge(hospital: Hospital, stripe: int, slot: int) -> None:
    """Other data in a shard, with every checksum right."""
    raw = hospital.pool.stores[slot].raw(shard_key("s", stripe))
    raw[DATA_OFFSET + 100] ^= 0x40
    header = parse_header(bytes(raw[:HEADER_LENGTH]))
    raw[:HEADER_LENGTH] = build_header(replace(header, block_crcs=tuple(block_crcs(raw[DATA_OFFSET:]))))


@pytest.mark.parametrize("index", range(6))
async def test_a_shard_whose_checksums_are_right_and_whose_bytes_never_were(hospital: Hospital, index: int) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(1_000_000))
        stripe = patient.stripes()[2]
        slot = patient.engine.pool.geometry.slot_of(counter_of(stripe), index)
        forge(hospital, stripe, slot)
        report = await patient.healer.drill()
        assert {finding.stripe for finding in report.findings} == {stripe}
        assert report.proven == report.stripes - 1
        assert not report.lost
        if index >= 4:  # parity: no read and no scrub can notice it, and the drill puts it right
            assert [(f.slot, f.state) for f in report.findings] == [(slot, REPAIRED)]
            assert (await patient.healer.drill()).findings == []


async def test_a_forged_shard_is_known_until_its_repair_is_durable(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the put of the right shard and its sync: what the next drill reads from a cache proves nothing."""

    async def never(self: MemoryDrive) -> None:
        await trio.sleep_forever()

    async with hospital.open(clean=False) as patient:
        await patient.write(7, data(200_000))
        (stripe,) = patient.stripes()
        slot = patient.engine.pool.geometry.slot_of(counter_of(stripe), 4)
        raw = hospital.pool.stores[slot].raw
        whole = bytes(raw(shard_key("s", stripe)))
        forge(hospital, stripe, slot)
        with monkeypatch.context() as patch, trio.move_on_after(1):
            patch.setattr(MemoryDrive, "sync", never)
            await patient.healer.drill()
        assert bytes(raw(shard_key("s", stripe))) == whole
    hospital.pool.stores[slot].pending.clear()  # the kernel forgot it, as after a sync that failed
    async with hospital.open(run=False, clean=False) as patient:
        assert patient.counts()[0] == 1
        await patient.scrub()
        assert patient.counts() == (0, 0, 0, 0)
        assert (await patient.healer.drill()).findings == []
    hospital.pool.crash()
    assert bytes(raw(shard_key("s", stripe))) == whole


async def test_missing_drives_and_lost_stripes(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(1_000_000))
        stripe = patient.stripes()[0]
        for slot in (0, 1, 3):
            del hospital.pool.stores[slot].names[shard_key("s", stripe)]
        report = await patient.healer.drill()
        assert report.exit_status == 3
        assert [f.state for f in report.findings] == [PENDING] * 3 + [LOST]
        assert report.findings[-1].paths == ("/f7",)
        hospital.pool.stores[5].wipe()
        report = await patient.healer.drill()
        assert report.proven == 0
        assert shown(patient)["proven"] == 0.0


async def test_an_interrupted_drill_goes_on(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(drill, "PAGE", 2)
    monkeypatch.setattr(drill, "SAVE_S", 0.0)
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(3_000_000))
        with trio.move_on_after(10) as scope:
            await patient.healer.drill(rate=300_000)
        assert scope.cancelled_caught
        assert shown(patient)["interrupted"]
        assert shown(patient)["proven"] is None
    async with hospital.open(run=False) as patient:
        report = await patient.healer.drill()
        assert report.resumed
        assert 0 < report.checked < 6 * report.stripes
        assert report.proven == report.stripes == len(patient.stripes())
        assert not shown(patient)["interrupted"]
        assert not (await patient.healer.drill()).resumed


@pytest.mark.parametrize("options", [{"restart": True}, {"full": True}])
async def test_an_interrupted_drill_of_another_kind_begins_anew(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(drill, "SAVE_S", 0.0)
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(4_000_000))
        with trio.move_on_after(10):
            await patient.healer.drill(rate=500_000)
        report = await patient.healer.drill(**options)
        assert not report.resumed
        assert report.checked >= 6 * report.stripes


async def test_it_is_paced_and_alone(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open(run=False) as patient, trio.open_nursery() as nursery:
        await patient.write(7, data(1_000_000))
        began = trio.current_time()
        nursery.start_soon(partial(patient.healer.drill, rate=100_000))
        await trio.sleep(1)
        assert patient.healer.kind == "drill"
        for other in (patient.healer.drill, patient.healer.scrub):
            with pytest.raises(RefusedError, match="running already"):
                await other()
        while patient.healer.running:
            await trio.sleep(0.1)
        assert trio.current_time() - began > 15


async def test_what_was_never_made_durable_proves_nothing(hospital: Hospital) -> None:
    """It can be read, from a cache, although the sync that was to cover it failed (R21)."""
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(1_000_000))
        stripe = patient.stripes()[1]
        await patient.engine.record(Outcome(missing=[(stripe, 2), (stripe, 3), (stripe, 4)]))
        report = await patient.healer.drill()
        assert report.proven == report.stripes - 1
        assert {found.slot for found in report.findings if found.stripe == stripe and found.slot is not None} == {
            2,
            3,
            4,
        }
        assert report.exit_status != 0


async def test_a_checkpoint_in_doubt_proves_nothing(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(1_000_000))
        stripe = patient.engine.pool.checkpoints[0].stripes[0][0]
        await patient.engine.record(Outcome(settings={"checkpoint_doubts": [(stripe, 0)]}))
        report = await patient.healer.drill()
        assert [(found.kind, found.state, found.slot) for found in report.findings] == [("checkpoint", PENDING, 0)]
        assert report.exit_status == 1


async def test_what_a_drill_found_before_it_was_interrupted_is_in_its_verdict(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill, "SAVE_S", 0.0)
    async with hospital.open(clean=False) as patient:
        for ino in range(7, 37):
            await patient.write(ino, data(20_000, ino))
        hospital.pool.stores[2].raw(shard_key("s", patient.stripes()[0]))[5000] ^= 1
        with trio.CancelScope() as kill:

            def killed(progress: ScrubProgress) -> None:
                if progress.checked >= 100:
                    kill.cancel()

            await patient.healer.drill(progress=killed)
        assert kill.cancelled_caught
        await trio.sleep(5)
    async with hospital.open() as patient:
        report = await patient.healer.drill()
        assert report.resumed
        assert report.proven == report.stripes - 1
        assert report.exit_status == 1
