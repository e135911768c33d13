"""A scrub beside programs, and on an idle pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio
from trio.testing import MockClock

from ecfs.drive.memory import MemoryDrive
from ecfs.shard import ShardHeader
from tests.unit.heal.conftest import Hospital, Patient, data

T = TypeVar("T")
VERIFY_S = 0.01


class Watched:
    """How many shards are verified at a time, and when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.most = 0
        self.spans: list[tuple[float, float]] = []
        monkeypatch.setattr(MemoryDrive, "verify", self._slowly(MemoryDrive.verify))

    def _slowly(
        self, verify: Callable[[MemoryDrive, str], Awaitable[ShardHeader]]
    ) -> Callable[[MemoryDrive, str], Awaitable[ShardHeader]]:
        async def slow(drive: MemoryDrive, key: str) -> ShardHeader:
            self.now += 1
            self.most = max(self.most, self.now)
            began = trio.current_time()
            await trio.sleep(VERIFY_S)
            self.spans.append((began, trio.current_time()))
            self.now -= 1
            return await verify(drive, key)

        return slow


async def _use(patient: Patient) -> None:
    """A program that never stops."""
    while True:
        await patient.engine.read(7, 0, 10)
        await trio.sleep(0.01)


async def _filled(patient: Patient) -> None:
    for ino in range(7, 11):
        await patient.write(ino, data(200_000, ino))
    await trio.sleep(10)


async def test_beside_programs_a_scrub_rests_three_quarters_of_the_time(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hospital.open() as patient:
        await _filled(patient)
        watched = Watched(monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_use, patient)
            await trio.sleep(1)
            report = await patient.scrub()
            nursery.cancel_scope.cancel()
        assert report.exit_status == 0
        assert watched.most == 1
        shards = watched.spans[: 6 * len(patient.stripes())]  # checkpoints come after them
        whole = shards[-1][1] - shards[0][0]
        working = sum(end - began for began, end in shards)
        assert working / whole < 0.3


async def test_on_an_idle_pool_all_drives_are_verified_side_by_side(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hospital.open() as patient:
        await _filled(patient)
        watched = Watched(monkeypatch)
        assert (await patient.scrub()).exit_status == 0
        assert watched.most == 6
