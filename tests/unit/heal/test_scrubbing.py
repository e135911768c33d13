"""Scrubs that are joined, paused, resumed, cancelled, and that go on after a remount where they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from ecfs.errors import RefusedError
from ecfs.heal.report import ScrubReport
from ecfs.shard import shard_key
from tests.unit.heal.conftest import Hospital, Patient, data

SLOW = 200_000.0
"""Bytes/s: a scrub of what `ill` writes then takes about two minutes."""


async def ill(patient: Patient) -> None:
    """150 stripes: more than two pages."""
    for ino in range(7, 157):
        await patient.write(ino, data(20_000, ino))
    await patient.engine.sync()


@asynccontextmanager
async def scrubbing(patient: Patient, rate: float | None = SLOW) -> AsyncIterator[list[ScrubReport | str]]:
    """A scrub that somebody waits for; what came of it is put into the list."""
    heard: list[ScrubReport | str] = []

    async def watch() -> None:
        try:
            heard.append(await patient.healer.scrub(rate=rate))
        except RefusedError as error:
            heard.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await patient.healer.scrubbing.until(running=True)
        yield heard


async def judged(patient: Patient, stripes: int) -> int:
    """Wait until so many stripes were judged; bytes that were verified then."""
    ids = patient.stripes()
    while True:
        kept = patient.healer.scrubbing.kept()
        if kept is not None and kept.after >= ids[stripes - 1]:
            return kept.bytes
        await trio.sleep(0.5)


async def test_a_paused_scrub_goes_on_where_it_was(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await ill(patient)
        async with scrubbing(patient) as heard:
            done = await judged(patient, 64)
            patient.healer.scrubbing.pause()
        assert heard == ["the scrub was paused; to go on from there: ecfs scrub --resume"]
        kept = patient.healer.scrubbing.kept()
        assert kept is not None
        assert (kept.state, kept.bytes) == ("paused", done)
        with pytest.raises(RefusedError, match="no scrub is running"):
            patient.healer.scrubbing.pause()
        began = trio.current_time()
        patient.healer.scrubbing.resume()
        await patient.healer.scrubbing.until(running=True)
        assert patient.healer.running is not None
        await trio.sleep(1)
        assert patient.healer.running.bytes_done >= done
        await patient.healer.scrubbing.until(running=False)
        assert trio.current_time() - began < 150 / SLOW * 50_000 * 0.7  # less than from the beginning
        assert patient.healer.last is not None
        assert patient.healer.last.resumed
        assert patient.healer.last.checked >= 150 * 6
        assert patient.healer.scrubbing.kept() is None


@pytest.mark.parametrize("clean", [True, False])
async def test_a_scrub_goes_on_after_a_remount(hospital: Hospital, autojump_clock: MockClock, clean: bool) -> None:
    """By itself, and not from zero; after a crash at most ten seconds of work are done again."""
    async with hospital.open(clean=clean) as patient:
        await ill(patient)
        with trio.move_on_after(1e6) as scope:
            async with scrubbing(patient):
                await judged(patient, 64)
                await trio.sleep(11)
                done = await judged(patient, 128)
                if clean:
                    patient.healer.stop()
                else:
                    assert patient.healer.scrubbing.run is not None
                    patient.healer.scrubbing.run.position = None  # a crash leaves no note
                    scope.cancel()
    async with hospital.open(run=False) as patient:
        kept = patient.healer.scrubbing.kept()
        assert kept is not None
        assert kept.bytes >= done / 2 if not clean else kept.bytes == done
        checked = kept.checked
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: patient.healer.run(go_on=True))
            await patient.healer.scrubbing.until(running=True)
            await patient.healer.scrubbing.until(running=False)
            nursery.cancel_scope.cancel()
        assert patient.healer.last is not None
        assert patient.healer.last.resumed
        assert patient.healer.last.checked - checked < 150 * 6


async def test_a_paused_scrub_stays_paused_over_a_remount(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await ill(patient)
        async with scrubbing(patient):
            await judged(patient, 64)
            patient.healer.scrubbing.pause()
    async with hospital.open(run=False) as patient, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: patient.healer.run(go_on=True))
        await trio.sleep(30)
        assert patient.healer.scrubbing.run is None
        kept = patient.healer.scrubbing.kept()
        assert kept is not None
        assert kept.state == "paused"
        nursery.cancel_scope.cancel()


async def test_a_cancelled_scrub_begins_anew(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await ill(patient)
        async with scrubbing(patient) as heard:
            await judged(patient, 64)
            patient.healer.scrubbing.cancel()
        assert "cancelled" in str(heard[0])
        await patient.engine.sync()
        assert patient.healer.scrubbing.kept() is None
        with pytest.raises(RefusedError, match="paused or interrupted"):
            patient.healer.scrubbing.cancel()
        with pytest.raises(RefusedError, match="start one with"):
            patient.healer.scrubbing.resume()
        report = await patient.scrub()
        assert not report.resumed


async def test_a_paused_scrub_can_be_cancelled(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await ill(patient)
        async with scrubbing(patient):
            await judged(patient, 64)
            patient.healer.scrubbing.pause()
        patient.healer.scrubbing.cancel()
        await patient.engine.sync()
        assert patient.healer.scrubbing.kept() is None


async def test_who_asks_for_a_second_scrub_watches_the_first(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await ill(patient)
        seen = []
        async with scrubbing(patient, rate=1000) as heard:
            await trio.sleep(5)
            with pytest.raises(RefusedError, match="running already"):
                await patient.healer.scrub(dry_run=True)
            with pytest.raises(RefusedError, match="a scrub is running already"):
                await patient.healer.drill()
            report = await patient.healer.scrub(rate=1e9, progress=lambda progress: seen.append(progress.bytes_done))
        assert heard == [report]
        assert seen
        assert report.exit_status == 0


async def test_a_watcher_hears_why_it_ended(hospital: Hospital, autojump_clock: MockClock) -> None:
    """Who only watches ends nothing by leaving; when the one who began it leaves, it ends, and keeps its place."""
    async with hospital.open() as patient:
        await ill(patient)
        beginner = trio.CancelScope()

        async def begin() -> None:
            with beginner:
                await patient.healer.scrub(rate=SLOW)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await patient.healer.scrubbing.until(running=True)
            with trio.move_on_after(3):
                await patient.healer.scrub()
            assert patient.healer.scrubbing.run is not None
            async with scrubbing(patient, rate=None) as heard:
                await judged(patient, 64)
                beginner.cancel()
        assert heard == ["the scrub was stopped by whoever began it; the next one goes on from there"]
        kept = patient.healer.scrubbing.kept()
        assert kept is not None
        assert kept.state == "stopped"
        assert (await patient.scrub()).resumed


async def test_what_was_found_before_the_pause_is_in_the_report(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        await ill(patient)
        hospital.pool.stores[2].names.pop(shard_key("s", patient.stripes()[3]))
        async with scrubbing(patient):
            await judged(patient, 64)
            patient.healer.scrubbing.pause()
        report = await patient.scrub()
        assert (report.found, report.repaired) == (1, 1)


@pytest.mark.parametrize("between", ["one that only looks", "one that is refused"])
async def test_a_paused_scrub_is_not_forgotten_for_another(
    hospital: Hospital, autojump_clock: MockClock, between: str
) -> None:
    async with hospital.open() as patient:
        await ill(patient)
        async with scrubbing(patient):
            await judged(patient, 64)
            patient.healer.scrubbing.pause()
        kept = patient.healer.scrubbing.kept()
        if between == "one that only looks":
            await patient.scrub(dry_run=True)
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: patient.healer.drill(rate=SLOW))
                await trio.sleep(1)
                with pytest.raises(RefusedError, match="a drill is running"):
                    await patient.scrub()
                nursery.cancel_scope.cancel()
        assert kept is not None
        assert patient.healer.scrubbing.kept() == kept
        patient.healer.scrubbing.resume()
        await patient.healer.scrubbing.until(running=True)
        await patient.healer.scrubbing.until(running=False)
        assert patient.healer.last is not None
        assert patient.healer.last.resumed


@pytest.mark.parametrize("remount", [False, True])
async def test_what_a_scrub_could_not_see_is_told_after_a_pause(
    hospital: Hospital, autojump_clock: MockClock, remount: bool
) -> None:
    """The drive is back when the scrub goes on, and nobody looks at the first stripes again."""
    async with hospital.open() as patient:
        await ill(patient)
        async with scrubbing(patient):
            await trio.sleep(1)
            hospital.pool.stores[2].vanish()
            await judged(patient, 64)
            patient.healer.scrubbing.pause()
        hospital.pool.stores[2].come_back()
        await patient.until_whole()
        report = None if remount else await patient.scrub()
    async with hospital.open() as patient:
        report = report or await patient.scrub()
        assert report.resumed
        assert report.exit_status == 1
        assert [(each.kind, each.slot) for each in report.findings] == [("drive", 2)]
        assert (await patient.scrub()).exit_status == 0


async def test_recreated_drives_are_online_once_they_have_all_their_shards(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    """Any two may die again then. The scrub goes on for hours on large drives, and whoever looks must not worry."""
    async with hospital.open() as patient:
        await ill(patient)
        hospital.pool.stores[0].wipe()
        hospital.pool.stores[3].wipe()
        async with scrubbing(patient):
            await judged(patient, 64)
            assert patient.healer.scrubbing.run is not None
            assert patient.states() == ["online"] * 6
            assert patient.counts() == (0, 0, 0, 0)
            patient.healer.scrubbing.cancel()
