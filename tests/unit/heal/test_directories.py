"""The same on real directories: what `rm -rf` and `mv` leave."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from ecfs.clock import SystemClock
from ecfs.commit.engine import Engine
from ecfs.drive.base import Drive
from ecfs.drive.registry import open_drive
from ecfs.geometry import Geometry
from ecfs.heal.healer import Healer
from ecfs.journal.create import create_pool
from ecfs.journal.opening import open_pool
from ecfs.meta import Inode
from ecfs.pool.settings import Settings
from tests.unit.heal.conftest import data

CLOCK = SystemClock()
ONLINE = ["online"] * 6


class Rack:
    """Six directories."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = [root / f"d{slot}" for slot in range(6)]
        self.scratch = root / "scratch"
        self.scratch.mkdir()
        self.payload = data(3_000_000)

    def open_drive(self, url: str, slot: int) -> Drive:
        return open_drive(url, slot=slot, clock=CLOCK)

    def handles(self) -> list[Drive]:
        return [self.open_drive(str(place), slot) for slot, place in enumerate(self.places)]

    async def create(self) -> None:
        self.pool_id = await create_pool(self.handles(), Geometry(1, 4, 2), clock=CLOCK, scratch=self.scratch)

    @asynccontextmanager
    async def open(self, *, run: bool = True, clean: bool = True) -> AsyncIterator[tuple[Engine, Healer]]:
        pool = await open_pool(
            self.handles(), pool_id=self.pool_id, clock=CLOCK, scratch=self.scratch,
            settings=Settings(stripe_size=320 * 1024),
        )  # fmt: skip
        engine = Engine(pool)
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run)
            healer = Healer(engine, self.open_drive, lambda: [str(place) for place in self.places])
            if run:
                await nursery.start(healer.run)
            yield engine, healer
            if clean:
                assert await engine.close()
            nursery.cancel_scope.cancel()
        for member in pool.members:
            if member.drive is not None:
                await member.drive.close()
        engine.db.close()

    async def write(self, engine: Engine) -> None:
        await engine.admit(len(self.payload))
        with engine.db.atomic():
            engine.db.names.add_inode(Inode(7, 0o100644, 0, 0, 1, len(self.payload), 0, 0, 0, 0))
            engine.db.names.link(1, b"f7", 7)
            engine.write(7, 0, self.payload)
        engine.changed()
        await engine.sync()

    async def check(self, engine: Engine) -> None:
        for row in engine.db.ledger.facts(0, 1000):
            engine.pool.reader.cache.forget(row.id)
        assert await engine.read(7, 0, len(self.payload)) == self.payload


def states(engine: Engine) -> list[str]:
    return [member.state for member in engine.pool.members]


async def until_online(engine: Engine) -> None:
    with trio.move_on_after(20):
        while states(engine) != ONLINE:
            await engine.pool.members.wait_change(0.1)
    assert states(engine) == ONLINE


@pytest.fixture
async def rack(tmp_path: Path) -> Rack:
    rack = Rack(tmp_path)
    await rack.create()
    return rack


async def test_deleted_directories_are_recreated_and_others_may_go(rack: Rack) -> None:
    async with rack.open() as (engine, healer):
        await rack.write(engine)
        for slot in (0, 3):
            shutil.rmtree(rack.places[slot])
        await trio.sleep(2.2)
        assert states(engine) == ["absent", "online", "online", "absent", "online", "online"]
        report = await healer.scrub()
        assert report.exit_status == 0, report.findings
        assert states(engine) == ONLINE
        assert (await healer.scrub()).findings == []
        for slot in (1, 2):
            shutil.rmtree(rack.places[slot])
        await rack.check(engine)
    async with rack.open(run=False) as (engine, healer):
        await rack.check(engine)
        assert (await healer.scrub()).exit_status == 0
        assert states(engine) == ONLINE


async def test_r22_what_a_put_saved_from_an_rm_is_no_obstacle(rack: Rack) -> None:
    """``rm -rf`` met a directory that was just being filled: c, j and all blobs are gone, one shard is left."""
    async with rack.open() as (engine, healer):
        await rack.write(engine)
        place = rack.places[4]
        shards = sorted((place / "s").glob("*/*"))
        for path in place.iterdir():
            if path.name != "s":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in shards[1:]:
            path.unlink()
        await trio.sleep(2.5)
        assert states(engine)[4] == "wrong"
        report = await healer.scrub()
        assert report.exit_status == 0, report.findings
        assert states(engine) == ONLINE
        assert (await healer.scrub()).findings == []
        for slot in (0, 1):
            shutil.rmtree(rack.places[slot])
        await rack.check(engine)


@pytest.mark.parametrize("gone", ["s", "c", "j"])
@pytest.mark.parametrize("mounted", [True, False])
async def test_r22_a_directory_inside_a_drive_is_deleted(rack: Rack, gone: str, mounted: bool) -> None:
    """Its identity is there, what it stands for is not: never counted as good, whole after a scrub."""
    async with rack.open() as (engine, healer):
        await rack.write(engine)
        if mounted:
            shutil.rmtree(rack.places[4] / gone)
            assert (await healer.scrub()).exit_status <= 1
    if not mounted:
        shutil.rmtree(rack.places[4] / gone)
    async with rack.open() as (engine, healer):
        await rack.check(engine)
        assert (await healer.scrub()).exit_status == 0
        await until_online(engine)
        assert (await healer.scrub()).findings == []
        for slot in (0, 1):
            shutil.rmtree(rack.places[slot])
        await rack.check(engine)


async def test_r22_strangers_files_are_no_leftovers(rack: Rack) -> None:
    async with rack.open() as (engine, healer):
        await rack.write(engine)
        (rack.places[4] / "identity").unlink()
        (rack.places[4] / "letter.txt").write_text("mine")
        await trio.sleep(2.5)
        report = await healer.scrub()
        assert report.exit_status == 1
        assert any("letter.txt" in finding.text for finding in report.findings)
        assert (rack.places[4] / "letter.txt").read_text() == "mine"
        assert not (rack.places[4] / "identity").exists()


async def test_three_directories_moved_away_and_one_moved_back(rack: Rack) -> None:
    async with rack.open(clean=False) as (engine, healer):
        await rack.write(engine)
        for slot in (0, 1, 2):
            rack.places[slot].rename(rack.root / f"away{slot}")
            await trio.sleep(0.7)
        await trio.sleep(1)
        report = await healer.scrub()
        assert report.exit_status == 3
        assert not any(rack.places[slot].exists() for slot in (0, 1, 2))
        (rack.root / "away1").rename(rack.places[1])
        with trio.fail_after(10):
            while engine.stalled or states(engine)[1] == "absent":
                await engine.pool.members.wait_change(0.1)
        await rack.check(engine)
        for slot in (0, 2):
            (rack.root / f"away{slot}").rename(rack.places[slot])
        await until_online(engine)
        assert (await healer.scrub()).findings == []


async def test_two_directories_swapped_by_name_while_open(rack: Rack) -> None:
    async with rack.open() as (engine, healer):
        await rack.write(engine)
        rack.places[0].rename(rack.root / "between")
        rack.places[5].rename(rack.places[0])
        (rack.root / "between").rename(rack.places[5])
        await trio.sleep(2)
        await until_online(engine)
        await rack.check(engine)
        assert engine.pool.members[0].url == str(rack.places[5])
        assert (await healer.scrub()).findings == []


async def test_replace_with_another_directory(rack: Rack) -> None:
    async with rack.open() as (engine, healer):
        await rack.write(engine)
        report = await healer.replace(2, str(rack.root / "new"))
        assert report.exit_status == 0, report.findings
        await until_online(engine)
        shutil.rmtree(rack.places[2])
        assert (await healer.scrub()).findings == []
        for slot in (0, 1):
            shutil.rmtree(rack.places[slot])
        await rack.check(engine)
