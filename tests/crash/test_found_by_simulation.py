"""What the simulator found, each in its smallest form. The seed is in the commit that fixed it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ecfs.clock import SystemClock
from ecfs.drive.base import Drive
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.wrapper import DriveWrapper
from ecfs.errors import FencedError
from ecfs.journal.opening import open_pool
from tests.crash.recording import Recording
from tests.crash.scenarios import some_files
from tests.memory_pool import MemoryPool
from tests.sim.disasters import until
from tests.sim.healing import Healing, check_ledger
from tests.sim.scheduler import simulate
from tests.sim.steps import Step
from tests.sim.store import put_image, take_image
from tests.sim.world import World
from tests.unit.commit.test_engine import data, make_file, write


@pytest.fixture
async def pool(tmp_path: Path, autojump_clock: object) -> MemoryPool:
    pool = MemoryPool(tmp_path)
    await pool.create()
    return pool


async def test_a_commit_right_after_one_with_a_checkpoint_does_not_pin_a_second_image(pool: MemoryPool) -> None:
    async with pool.engine() as engine:
        await make_file(engine)
        engine.request_checkpoint()
        await engine.commit()
        await write(engine, 0, data(1000))
        engine.request_checkpoint()
        await engine.commit()  # before the checkpoint's task had its first turn


async def test_closing_waits_for_the_checkpoint_whose_image_is_being_copied(pool: MemoryPool) -> None:
    async def slowly(call: Callable[..., Any], *arguments: Any) -> Any:
        await trio.sleep(1)
        return call(*arguments)

    async with pool.engine(clean=False) as engine:
        engine.pool.in_thread = slowly
        await make_file(engine)
        engine.request_checkpoint()
        await engine.commit()
        assert await engine.close()


async def test_a_drive_that_fails_during_the_last_checkpoint_does_not_make_the_end_unclean(pool: MemoryPool) -> None:
    """It is taken out of W by one more commit; everything that programs wrote is durable without it."""

    async def while_a_drive_goes(call: Callable[..., Any], *arguments: Any) -> Any:
        await trio.sleep(1)
        engine.pool.members.take_down(3, "absent", "unplugged")
        return call(*arguments)

    async with pool.engine(clean=False) as engine:
        engine.pool.in_thread = while_a_drive_goes
        await make_file(engine)
        engine.request_checkpoint()
        await engine.commit()
        assert await engine.close()
        row = engine.db.drives.row(3)
        assert row is not None
        assert not row.in_w


async def test_a_stripe_that_a_commit_sealed_does_not_wait_in_the_queue_for_ever(pool: MemoryPool) -> None:
    """Its payload would stay in memory, and be put on drives that came into W later and got it from heal already."""
    async with pool.engine() as engine:
        await make_file(engine)
        for number in range(5):
            await write(engine, 0, data(300_000, number))
            await engine.sync()
        await trio.testing.wait_all_tasks_blocked()
        assert engine.committer.queue == []


class Interrupting(DriveWrapper):
    """Before this process fences its first drive, something else happens."""

    def __init__(self, inner: Drive, interruption: list[Callable[[], Awaitable[None]]]) -> None:
        super().__init__(inner)
        self.interruption = interruption

    async def around(self, operation: str, key: str | None, call: Callable[[], Awaitable[Any]]) -> Any:
        if operation == "fence" and self.interruption:
            await self.interruption.pop()()
        return await call()


async def test_r02_what_the_old_writer_acknowledged_before_it_was_fenced_is_history_for_the_new_one(
    pool: MemoryPool,
) -> None:
    for store in pool.stores:
        store.lockable = False
    async with pool.engine(clean=False) as old:

        async def write_and_sync() -> None:
            await make_file(old)
            await old.sync()

        todo: list[Callable[[], Awaitable[None]]] = [write_and_sync]
        rivals = [Interrupting(MemoryDrive(store, name=str(at)), todo) for at, store in enumerate(pool.stores)]
        opened = await open_pool(rivals, pool_id=pool.pool_id, clock=SystemClock(), scratch=pool.scratch)
        assert not todo
        assert opened.db.names.lookup(1, b"f7") is not None
        opened.db.close()


async def sync_fails_once(scratch: Path) -> None:
    recording = Recording(World(1, scratch))
    await recording.begin()
    async with recording.mounted() as (mount, client):
        await some_files(recording, client, 10)
        recording.world.suspects.add(2)
        recording.world.weather.script = lambda number, place, operation: (
            "failed-flush" if (place, operation) == (2, "sync") else None
        )
        await recording.programs(client, [Step("write", 1, 0, 6), Step("fsync")])
        recording.world.weather.script = None
        assert not mount.engine.pool.members[2].in_w
        await Healing(recording.world).mend(mount)  # proves every shard on its medium


def test_r21_a_shard_that_a_failed_sync_left_readable_is_written_again(tmp_path: Path) -> None:
    simulate(1, sync_fails_once, tmp_path)


@pytest.mark.parametrize("fault", ["error", "hang"])
def test_a_drive_that_fails_while_it_is_looked_at_does_not_keep_the_pool_closed(tmp_path: Path, fault: str) -> None:
    async def open_with_it(scratch: Path) -> None:
        world = World(1, scratch)
        await world.create()
        world.weather.script = lambda number, place, operation: (
            {"read_blob": "missing", "is_vacant": fault}.get(operation) if place == 3 else None
        )
        async with world.mounted() as mount:
            assert not mount.engine.pool.members[3].up

    simulate(1, open_with_it, tmp_path)


async def rolled_back_to_before_a_repair(scratch: Path, mounted: bool) -> None:
    recording = Recording(World(1, scratch))
    world, store = recording.world, recording.world.stores[1]
    await recording.begin()
    async with world.without([1]), recording.mounted() as (_, client):
        await some_files(recording, client, 10)
    world.kill()
    async with recording.mounted() as (mount, client):
        image = take_image(store, {})  # opened, and nothing of what it missed has been repaired
        world.suspects.add(1)
        await until(lambda: all(m.state == "online" for m in mount.engine.pool.members), "it is repaired")
        await recording.programs(client, [Step("write", 1, 0, 6), Step("fsync")])
        if mounted:
            put_image(store, image)
            await until(lambda: not mount.engine.pool.members[1].up, "it is missed")
            await until(lambda: mount.engine.pool.members[1].in_w, "it is taken in again", 5)
            check_ledger(world, mount)
    world.kill()
    put_image(store, image)
    async with world.mounted() as mount:
        check_ledger(world, mount)


@pytest.mark.parametrize("mounted", [True, False])
def test_r11_what_was_repaired_after_what_a_drive_shows_is_unknown_on_it(tmp_path: Path, mounted: bool) -> None:
    simulate(1, rolled_back_to_before_a_repair, tmp_path, mounted)


async def test_r02_an_engine_that_was_fenced_comes_to_rest(pool: MemoryPool) -> None:
    """A drive that goes down asks for a commit, a refused commit is an event, and events ask for commits."""
    for store in pool.stores:
        store.lockable = False
    async with pool.engine(clean=False) as old:
        rivals = [MemoryDrive(store, name=str(at)) for at, store in enumerate(pool.stores)]
        opened = await open_pool(rivals, pool_id=pool.pool_id, clock=SystemClock(), scratch=pool.scratch)
        opened.db.close()
        await make_file(old)
        with pytest.raises(FencedError):
            await old.sync()
        old.pool.members.take_down(3, "absent", "unplugged")
        for _ in range(500):
            await trio.lowlevel.checkpoint()
        assert [event.kind for event in old.pool.members.events].count("fenced") == 1
        assert old.failures == 1
