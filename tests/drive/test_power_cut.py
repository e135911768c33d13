"""What a real directory still holds after the power went: a LocalDrive's own system calls, recorded and cut anywhere.

The recorder stands between the drive and `os`. It keeps, like a disk, what was made durable (bytes by fsync of their
file, names by fsync of their directory) and what was only written. At a cut each unsynced write and name is kept,
lost or, for bytes, torn, by chance. The result is laid out as a fresh directory and opened by a fresh drive. Whatever
the drive had answered as durable must be there.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ecfs.drive.base import Writer
from ecfs.drive.local import LocalDrive
from tests.drive.recorded_disk import RecordedDisk

Step = Callable[["Run"], None]


def key(number: int) -> str:
    return f"s/00000001/{number:08x}"


class Run:
    """One drive at work, and what it has promised so far. Values: None where a name must be gone."""

    def __init__(self, disk: RecordedDisk, chance: random.Random) -> None:
        self.disk = disk
        self.chance = chance
        self.drive = LocalDrive(disk.path)
        self.writer = Writer(1, "ab" * 16)
        self.put: dict[str, bytes] = {}
        self.promised: dict[str, bytes] = {}
        self.open: set[str] = set()
        """Names about which nothing is promised at this moment: an operation on them has begun."""
        self.journal = b""
        self.numbers = itertools.count()

    async def begin(self) -> None:
        await self.drive.create({"identity": b"who", "superblock": b"first"})
        self.promised |= {"identity": b"who", "superblock": b"first"}
        await self.drive.fence(self.writer)
        await self.drive.prepare([1])

    async def step(self) -> None:
        often = [self._put] * 3
        rest = [self._sync, self._append, self._blob, self._delete, self._kill]
        await self.chance.choice([*often, *rest])()

    async def _put(self) -> None:
        again = bool(self.promised) and self.chance.random() < 0.3
        shards = [name for name in self.promised if name.startswith("s/")]
        name = self.chance.choice(shards) if again and shards else key(next(self.numbers))
        data = self.chance.randbytes(self.chance.choice([1, 5000, 70_000]))
        self.open.add(name)
        await self.drive.put(name, [data[:4000], data[4000:]], replace=name in self.promised)
        self.put[name] = data

    async def _sync(self) -> None:
        await self.drive.sync()
        self.promised |= self.put
        self.open -= self.put.keys()
        self.put = {}

    async def _append(self) -> None:
        record = self.chance.randbytes(self.chance.choice([50, 3000])) + b"}"  # none ends with a zero
        await self.drive.append("j/00000001.000000", len(self.journal), record)
        self.journal += record

    async def _blob(self) -> None:
        data = self.chance.randbytes(300)
        self.open.add("superblock")
        await self.drive.write_blob("superblock", data)
        self.promised["superblock"] = data
        self.open.discard("superblock")

    async def _kill(self) -> None:
        """The next process finds what this one has not synced, and counts it once it holds the fence."""
        await self.drive.close()
        self.drive = LocalDrive(self.disk.path)
        self.writer = Writer(self.writer.epoch + 1, self.writer.nonce)
        await self.drive.attach(exclusive=True)
        await self.drive.fence(self.writer)
        self.promised |= self.put
        self.open -= self.put.keys()
        self.put = {}
        await self.drive.prepare([1])

    async def _delete(self) -> None:
        shards = [name for name in self.promised if name.startswith("s/") and name not in self.open]
        if shards:
            name = self.chance.choice(shards)
            self.promised.pop(name)
            await self.drive.delete(name)


async def check(run: Run, folder: Path) -> None:
    """A fresh drive on what is left finds everything that was promised, and the fence."""
    drive = LocalDrive(folder)
    await drive.attach(exclusive=True)
    try:
        assert await drive.read_fence() == run.writer
        for name, data in run.promised.items():
            if name in run.open:
                continue
            found = await (drive.get(name) if name.startswith("s/") else drive.read_blob(name))
            assert found == data, name
        if run.journal:
            assert (await drive.get("j/00000001.000000"))[: len(run.journal)] == run.journal
    finally:
        await drive.close()


async def one_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, steps: int) -> int:
    """The power goes between any two answers; returns how often."""
    chance = random.Random(seed)
    with monkeypatch.context() as patch:
        disk = RecordedDisk(tmp_path / "drive", patch)
        run = Run(disk, chance)
        await run.begin()
        wrecks = []
        for number in range(steps):
            await run.step()
            if chance.random() < 0.5:
                wreck = tmp_path / f"wreck{number}"
                disk.lay_out(wreck, chance)
                wrecks.append(wreck)
                await check(run, wreck)
        await run.drive.close()
    return len(wrecks)


@pytest.mark.parametrize("seed", range(6))
async def test_what_a_drive_called_durable_survives_the_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert await one_history(tmp_path, monkeypatch, seed, 60) > 15


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_what_a_drive_called_durable_survives_the_power_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(1000, 1300):
        folder = tmp_path / str(seed)
        folder.mkdir()
        await one_history(folder, monkeypatch, seed, 80)
