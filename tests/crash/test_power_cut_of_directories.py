"""The power goes for a pool on six real directories: recorded system calls, cut anywhere, each drive differently.

The simulated crashes (`recording.py`) trust that a real drive's "durable" is what the simulated one's is. Here nothing
is simulated but the loss: `RecordedDisk` drops or tears what was not synced, and the pool is opened from what is left.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from ecfs.commit.engine import Engine
from ecfs.drive.local import LocalDrive
from tests.drive.recorded_disk import RecordedDisk
from tests.memory_pool import MemoryPool
from tests.unit.commit.test_engine import data, make_file, write

FILES = range(10, 15)
State = dict[int, tuple[int, int]]
"""Inode → (seed, size) of its content."""


class DirectoryPool(MemoryPool):
    """A pool on directories."""

    def __init__(self, scratch: Path, places: list[Path]) -> None:
        super().__init__(scratch, stripe_size=256 * 1024, seal_at=512 * 1024, inline_at_most=20_000)
        self.places = places

    def handles(self) -> list[LocalDrive]:  # type: ignore[override]
        drives = [LocalDrive(place) for place in self.places]
        self.drives = drives  # type: ignore[assignment]
        return drives


@dataclass
class Cut:
    """What is left, and the moments that it may show."""

    places: list[Path]
    states: list[State]


@dataclass
class Run:
    """Programs on a pool, and cuts at any time. states: after each operation, those before the last sync left out."""

    folder: Path
    disks: list[RecordedDisk]
    chance: random.Random
    states: list[State] = field(default_factory=lambda: [{}])
    cuts: list[Cut] = field(default_factory=list)

    async def programs(self, engine: Engine, steps: int) -> None:
        for ino in FILES:
            await make_file(engine, ino)
        for step in range(steps):
            ino, size = self.chance.choice(FILES), self.chance.choice([10, 5000, 100_000, 400_000])
            await write(engine, 0, data(size, step + 1), ino)
            self.states.append(self.states[-1] | {ino: (step + 1, size)})
            if self.chance.random() < 0.4:
                number = len(self.states) - 1
                known = self.states[number]
                if self.chance.random() < 0.2:
                    engine.request_checkpoint()
                await engine.sync()
                self.states[:] = self.states[self.states.index(known) :]
            await trio.sleep(self.chance.random() * 0.02)

    async def cut_now_and_then(self, most: int) -> None:
        while len(self.cuts) < most:
            await trio.sleep(self.chance.random() * 0.12)
            # Nothing is answered meanwhile: the event loop is ours, however the threads of the drives go on.
            places = [self.folder / f"cut{len(self.cuts)}-{slot}" for slot in range(6)]
            allowed = list(self.states)
            for disk, place in zip(self.disks, places, strict=True):
                disk.lay_out(place, self.chance)
            self.cuts.append(Cut(places, allowed))


async def judge(cut: Cut, scratch: Path, chance: random.Random) -> None:
    """Open without up to two drives: one of the allowed states, whole."""
    away = chance.sample(range(6), chance.randrange(3))
    pool = DirectoryPool(scratch, [place for slot, place in enumerate(cut.places) if slot not in away])
    async with pool.engine(clean=False) as engine:
        found = {ino: await content(engine, ino) for ino in FILES}
    for state in cut.states:
        if all(fits(found[ino], state.get(ino)) for ino in FILES):
            return
    raise AssertionError(f"without {away}: no moment has {[(ino, len(each)) for ino, each in found.items()]}")


async def content(engine: Engine, ino: int) -> bytes:
    inode = engine.db.names.inode(ino)
    return b"" if inode is None else await engine.read(ino, 0, inode.size)


def fits(found: bytes, wanted: tuple[int, int] | None) -> bool:
    """A shorter content leaves the end of a longer one: only its beginning is compared."""
    return found == b"" if wanted is None else found[: wanted[1]] == data(wanted[1], wanted[0])


async def one_run(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int, cuts: int, steps: int) -> int:
    chance = random.Random(seed)
    with monkeypatch.context() as patch:
        for slot in range(6):
            (folder / f"p{slot}").mkdir()
        (folder / "cuts").mkdir()
        disks = [RecordedDisk(folder / f"p{slot}" / "drive", patch) for slot in range(6)]
        pool = DirectoryPool(folder / "scratch", [disk.path for disk in disks])
        await pool.create()
        run = Run(folder / "cuts", disks, chance)
        async with pool.engine(clean=False) as engine, trio.open_nursery() as nursery:
            nursery.start_soon(run.cut_now_and_then, cuts)
            await run.programs(engine, steps)
            nursery.cancel_scope.cancel()
    for cut in run.cuts:
        await judge(cut, folder / "scratch", chance)
        for place in cut.places:
            shutil.rmtree(place)  # a hundred runs of forty cuts would need more than 60 GB
    return len(run.cuts)


@pytest.mark.parametrize("seed", range(2))
async def test_a_pool_on_directories_survives_the_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert await one_run(tmp_path, monkeypatch, seed, 8, 45) >= 4


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 200))
async def test_a_pool_on_directories_survives_the_power_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    assert await one_run(tmp_path, monkeypatch, seed, 40, 200) >= 20
