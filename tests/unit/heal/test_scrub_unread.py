"""What a scrub could not look at is not called whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ecfs.drive.memory import MemoryDrive
from ecfs.errors import DriveTimeoutError, DriveUnreachableError
from ecfs.heal.report import PENDING
from ecfs.shard import shard_key
from tests.unit.heal.conftest import Hospital, data


def late(monkeypatch: pytest.MonkeyPatch, name: str, prefix: str, after: int = 0) -> list[str]:
    """Drive 2 gives no answer about such keys from the look after `after` others on. Returns the keys looked at."""
    original, seen = getattr(MemoryDrive, name), list[str]()

    async def call(self: MemoryDrive, key: str, *rest: Sequence[Any]) -> Any:
        if self.slot == 2 and key.startswith(prefix):
            seen.append(key)
            if len(seen) > after:
                raise DriveTimeoutError("no answer within 30 s", slot=2, key=key)
        return await original(self, key, *rest)

    monkeypatch.setattr(MemoryDrive, name, call)
    return seen


@pytest.mark.parametrize(
    ("name", "prefix"), [("verify", "s/"), ("verify", "c/"), ("read", "j/")], ids=["shard", "checkpoint", "journal"]
)
async def test_a_drive_that_gives_no_answer(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, name: str, prefix: str
) -> None:
    """A bad sector, say, that a disk tries to read for longer than the deadline."""
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(1_000_000))
        late(monkeypatch, name, prefix)
        report = await patient.scrub()
        assert [(found.kind, found.state, found.slot) for found in report.findings] == [("drive", PENDING, 2)]
        assert "could be verified" in report.findings[0].text
        assert report.exit_status == 1


async def test_a_drive_that_was_away_for_some_of_it(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is back at the end: its shards of the stripes in between were looked at by nobody."""
    monkeypatch.setattr("ecfs.heal.scrub_stripes.PAGE", 2)
    async with hospital.open() as patient:
        for ino in range(7, 20):
            await patient.write(ino, data(300_000, ino))
        stripes = patient.stripes()
        original, gone = MemoryDrive.verify, False

        async def verify(self: MemoryDrive, key: str) -> Any:
            nonlocal gone
            if self.slot == 2 and key == shard_key("s", stripes[1]) and not gone:
                gone = True
                # Gone between two pages, as the watch may notice: no call of this scrub hears of it.
                patient.engine.pool.members.take_down(2, "absent", "a cable that wobbles")
            if key not in [shard_key("s", stripe) for stripe in stripes[:2]]:
                await trio.sleep(0.2)
            return await original(self, key)

        monkeypatch.setattr(MemoryDrive, "verify", verify)
        report = await patient.scrub()
        assert gone
        assert patient.engine.pool.members[2].up
        assert [(found.kind, found.state, found.slot) for found in report.findings] == [("drive", PENDING, 2)]
        assert report.exit_status == 1


async def test_a_drive_that_fails_once(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hospital.open() as patient:
        for ino in range(7, 20):
            await patient.write(ino, data(300_000, ino))
        key = shard_key("s", patient.stripes()[4])
        original, failed = MemoryDrive.verify, False

        async def verify(self: MemoryDrive, asked: str) -> Any:
            nonlocal failed
            if self.slot == 2 and asked == key and not failed:
                failed = True
                raise DriveUnreachableError("a cable that wobbles", slot=2)
            await trio.sleep(0.2)
            return await original(self, asked)

        monkeypatch.setattr(MemoryDrive, "verify", verify)
        report = await patient.scrub()
        assert failed
        assert report.exit_status == 1


async def test_damage_that_could_not_be_looked_at_again_is_told(
    hospital: Hospital, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hospital.open(run=False) as patient:
        await patient.write(7, data(1_000_000))
        stripe = patient.stripes()[1]
        key = shard_key("s", stripe)
        hospital.pool.stores[2].raw(key)[5000] ^= 1
        seen = late(monkeypatch, "verify", key, after=1)
        report = await patient.scrub()
        assert len(seen) > 1
        assert ("corrupt-shard", PENDING, 2, stripe) in [
            (found.kind, found.state, found.slot, found.stripe) for found in report.findings
        ]
        assert report.exit_status == 1
