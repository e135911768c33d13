"""Shards that belong to nothing (R12), and stripes that die under a scrub (R13)."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from ecfs.geometry import stripe_id
from ecfs.shard import shard_key
from tests.unit.heal.conftest import Hospital, data


def plant(hospital: Hospital, slot: int, epoch: int, counter: int, space: str = "s") -> str:
    """A valid shard of this drive under an id that nothing names."""
    store = hospital.pool.stores[slot]
    key = shard_key(space, stripe_id(epoch, counter))
    source = next(key for key in store.names if key.startswith("s/"))
    store.harden(store.write(key, bytes(store.raw(source))))
    return key


async def test_r12_an_orphan_of_an_old_epoch_is_removed_by_the_second_scrub(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
    async with hospital.open(run=False) as patient:
        await patient.write(8, data(900_000))
        key = plant(hospital, 2, 1, 77)
        report = await patient.scrub()
        assert [(f.kind, f.state, f.slot) for f in report.findings] == [("orphan-shard", "noted", 2)]
        assert key in hospital.pool.stores[2].names
        report = await patient.scrub()
        assert [(f.kind, f.state, f.slot) for f in report.findings] == [("orphan-shard", "repaired", 2)]
        assert key not in hospital.pool.stores[2].names
        await patient.assert_clean()


async def test_r12_nothing_that_may_be_on_its_way_is_an_orphan(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
        pool = patient.engine.pool
        keys = [
            plant(hospital, 2, pool.writer.epoch, pool.next_stripe + 5),
            plant(hospital, 3, pool.writer.epoch + 1, 3),
        ]
        for _ in range(3):
            assert (await patient.scrub()).findings == []
        assert keys[0] in hospital.pool.stores[2].names
        assert keys[1] in hospital.pool.stores[3].names


async def test_r12_too_many_orphans_are_reported_and_kept(hospital: Hospital) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
        keys = [plant(hospital, 2, 1, 100 + number) for number in range(40)]
        for _ in range(3):
            report = await patient.scrub()
            assert [(f.kind, f.state) for f in report.findings] == [("orphan-shard", "noted")]
        assert all(key in hospital.pool.stores[2].names for key in keys)


async def test_r12_what_a_crash_left_goes_after_the_next_opening(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(900_000))
    async with hospital.open(run=False, clean=False) as patient:
        await patient.write(7, data(900_000))
        epoch = patient.engine.pool.writer.epoch
        doomed = [plant(hospital, 2, epoch, 4000), plant(hospital, 2, epoch, 4001, "c")]
        # Older than the checkpoint: not what a crash leaves. Newer than us: never ours to judge.
        kept = [plant(hospital, 2, 1, 4000), plant(hospital, 2, epoch + 5, 4000), plant(hospital, 2, 1, 4001, "c")]
    async with hospital.open() as patient:
        await trio.sleep(2)
        names = hospital.pool.stores[2].names
        assert not any(key in names for key in doomed)
        assert all(key in names for key in kept)
        patient.assert_honest()
        await patient.check()
        await patient.write(8, data(900_000))
        await patient.check()


async def test_r13_a_stripe_that_dies_while_it_is_checked_is_no_finding_and_stays_until_then(
    hospital: Hospital, autojump_clock: MockClock
) -> None:
    async with hospital.open() as patient:
        await patient.write(7, data(300_000))
        (stripe,) = patient.stripes()
        key = shard_key("s", stripe)
        for slot in (0, 1, 2):
            hospital.pool.stores[slot].raw(key)[4100] ^= 1
        member = patient.engine.pool.members[5]
        assert member.drive is not None
        member.drive = slow = hospital.slow(member.drive, 30.0)
        slow.hanging = {"verify"}
        async with trio.open_nursery() as nursery:

            async def scrub() -> None:
                report = await patient.scrub()
                assert report.findings == []

            nursery.start_soon(scrub)
            await trio.sleep(1)
            await patient.remove(7)
            await trio.sleep(1)
            assert key in hospital.pool.stores[3].names
            slow.release()
        await trio.sleep(1)
        assert key not in hospital.pool.stores[3].names


async def test_r13_stripes_that_die_under_a_scrub_are_no_finding(hospital: Hospital, autojump_clock: MockClock) -> None:
    async with hospital.open() as patient:
        for ino in range(10, 40):
            await patient.write(ino, data(700_000, ino))
        done = False

        async def churn() -> None:
            number = 0
            while not done:
                number += 1
                await patient.remove(10 + number % 30)
                await patient.write(10 + number % 30, data(700_000, number))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(churn)
            for _ in range(5):
                report = await patient.scrub()
                assert [f for f in report.findings if f.kind != "orphan-shard"] == []
            done = True
        await patient.check()
