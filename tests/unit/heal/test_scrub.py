"""A scrub makes whole what was deleted or damaged."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from ecfs.errors import StalledError
from ecfs.heal.mend import Mended, Mender
from tests.unit.heal.conftest import Hospital, data


async def test_two_deleted_drives_are_recreated_and_then_two_others_may_go(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(3_000_000))
        hospital.pool.stores[0].wipe()
        hospital.pool.stores[3].wipe()
        await patient.write(8, data(1_000_000, 2))
        report = await patient.scrub()
        assert report.exit_status == 0, report.findings
        assert patient.states() == ["online"] * 6
        assert patient.counts() == (0, 0, 0, 0)
        await patient.assert_clean()
        hospital.pool.stores[1].wipe()
        hospital.pool.stores[2].wipe()
        await patient.check()
    async with hospital.open() as patient:
        await patient.check()


async def test_a_scrub_without_the_background_does_the_same(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(3_000_000))
    hospital.pool.stores[5].wipe()
    async with hospital.open(run=False) as patient:
        report = await patient.scrub()
        assert report.exit_status == 0, report.findings
        assert patient.states() == ["online"] * 6


async def test_a_stripe_that_dies_while_it_is_repaired_is_no_finding(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs delete and overwrite files meanwhile, and compaction moves them (R13)."""
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(3_000_000))
        await patient.write(8, data(1_000_000, 2))
    hospital.pool.stores[5].wipe()
    async with hospital.open(run=False) as patient:
        real = Mender._sync

        async def sync(mender: Mender, results: list[Mended]) -> None:
            if 7 in patient.files:
                await patient.remove(7)
            await real(mender, results)

        monkeypatch.setattr(Mender, "_sync", sync)
        report = await patient.scrub()
        assert 7 not in patient.files
        assert report.exit_status == 0, report.findings
        assert report.repaired
        await patient.check()


async def test_a_stall_in_the_background_ends_the_scrub_and_not_the_mount(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Seed 140009: the error came in a group, which nobody caught, and healing ended with all that is beside it."""
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(3_000_000))
    hospital.pool.stores[5].wipe()
    async with hospital.open() as patient:
        real = Mender._sync

        async def sync(mender: Mender, results: list[Mended]) -> None:
            monkeypatch.setattr(Mender, "_sync", real)
            raise StalledError("drives have not answered for 2 s")

        monkeypatch.setattr(Mender, "_sync", sync)
        patient.healer.scrubbing.begin()
        await patient.healer.scrubbing.until(running=True)
        await patient.healer.scrubbing.until(running=False)
        events = [event.text for event in patient.engine.committer.events.newest(50)]
        assert any("drives have not answered for 2 s" in text for text in events), events
        report = await patient.scrub()
        assert report.exit_status == 0, report.findings
