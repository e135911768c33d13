"""What goes on when the power goes: each scenario records its own drive operations."""

from __future__ import annotations

from functools import partial
from random import Random

from ecfs.heal.report import LOST
from ecfs.journal.superblock import Checkpoint
from tests.crash.recording import Recording, Scenario
from tests.sim.client import Client
from tests.sim.disasters import rot, until
from tests.sim.steps import FILE_OPERATIONS, Step, make_steps
from tests.sim.world import Mount

FILES = {kind: float(weight) for kind, weight in FILE_OPERATIONS.items()}


def file_steps(recording: Recording, count: int, salt: int = 0) -> list[Step]:
    return make_steps(recording.world.seed * 100 + salt, count, FILES)


async def some_files(recording: Recording, client: Client, count: int = 30) -> None:
    await recording.programs(client, file_steps(recording, count, 1))
    for number in range(4):
        await recording.programs(client, [Step("create", 0, number, 1), Step("write", number * 3 + 1, 0, number + 4)])
    await client.do(Step("fsync"))


async def programs(recording: Recording) -> None:
    """Opening, programs, idle commits, checkpoints as they fall due, a clean end."""
    with recording.recorded():
        async with recording.mounted() as (mount, client):
            await recording.programs(client, file_steps(recording, 25))
            number = recording.history.newest
            assert await mount.engine.close()
            recording.history.durable(number)


async def opening(recording: Recording) -> None:
    """An opening after a power cut in the middle of programs, with one drive away."""
    async with recording.mounted() as (_, client):
        await some_files(recording, client)
        await recording.programs(client, file_steps(recording, 8, 2))
    recording.world.power_off()
    place = recording.world.harm(recording.world.seed)
    with recording.recorded():
        async with recording.world.without([place or 0]), recording.mounted() as (mount, client):
            await mount.engine.sync()


async def checkpoint(recording: Recording) -> None:
    """Two checkpoints while programs go on: the second one prunes what only the one before the first needed."""
    async with recording.mounted() as (mount, client):
        await some_files(recording, client)
        with recording.recorded():
            for salt in (2, 3):
                before = mount.engine.pool.checkpoints[0]
                mount.engine.request_checkpoint()
                await recording.programs(client, file_steps(recording, 6, salt))
                await until(partial(is_newer, mount, before), "the checkpoint is written")


def is_newer(mount: Mount, before: Checkpoint) -> bool:
    return mount.engine.pool.checkpoints[0] != before and not mount.engine.checkpointer.lock.locked()


async def compaction(recording: Recording) -> None:
    """Live bytes of mostly dead stripes are moved, and the dead ones deleted."""
    async with recording.mounted() as (mount, client):
        await some_files(recording, client)
        for number in range(8):
            await client.do(Step("write", number, 0, 5 + 7 * number))
            await client.do(Step("fsync"))
        with recording.recorded():
            for _ in range(2):
                await mount.engine.compactor.compact_once(urgent=True)
                await client.do(Step("write", 1, 0, 3))
                await client.do(Step("fsync"))
            await mount.engine.reaper.drain()
            await client.do(Step("fsync"))


async def packing(recording: Recording) -> None:
    """Small synced writes are packed into stripes."""
    async with recording.mounted() as (mount, client):
        await some_files(recording, client)
        for number in range(8):
            await client.do(Step("write", number, 0, 2 + 7 * number))
            await client.do(Step("fsync"))
        with recording.recorded():
            await mount.engine.compactor.pack_inline()
            await client.do(Step("write", 1, 0, 2))
            await client.do(Step("fsync"))
            await mount.engine.reaper.drain()


async def scrub(recording: Recording) -> None:
    """One drive rotted in several places; a scrub rebuilds while programs go on."""
    async with recording.mounted() as (mount, client):
        await some_files(recording, client)
        place = recording.world.harm(recording.world.seed)
        for number in range(6):
            rot(recording.world.stores[place or 0], Random(f"{recording.world.seed} {number}"))
        recording.copies.clear()
        with recording.recorded():
            await no_loss(recording, mount)
            await recording.programs(client, file_steps(recording, 4, 2))
            await no_loss(recording, mount)


async def no_loss(recording: Recording, mount: Mount) -> None:
    report = await mount.healer.scrub()
    assert not [finding for finding in report.findings if finding.state == LOST]


async def rejoining(recording: Recording) -> None:
    """A drive goes away, misses commits, comes back and is caught up."""
    async with recording.mounted() as (mount, client):
        await some_files(recording, client)
        place = recording.world.harm(recording.world.seed) or 0
        with recording.recorded():
            recording.world.stores[place].vanish()
            await recording.programs(client, file_steps(recording, 10, 2))
            await client.do(Step("fsync"))
            recording.world.stores[place].come_back()
            await until(lambda: all(m.state == "online" for m in mount.engine.pool.members), "it is caught up")
            await client.do(Step("fsync"))


async def recreated(recording: Recording) -> None:
    """A drive's directory is deleted; scrub makes it anew and fills it."""
    async with recording.mounted() as (mount, client):
        await some_files(recording, client)
        place = recording.world.harm(recording.world.seed) or 0
        recording.world.stores[place].wipe()
        await until(lambda: any(not m.in_w for m in mount.engine.pool.members), "it is missed")
        with recording.recorded():
            await no_loss(recording, mount)
            await client.do(Step("fsync"))


async def replacing(recording: Recording) -> None:
    """A drive in use is replaced by a new one."""
    async with recording.mounted() as (mount, client):
        await some_files(recording, client)
        slot = recording.world.seed % recording.world.geometry.n
        recording.world.suspects.add(recording.world.places[slot])
        new = recording.world.new_place()
        with recording.recorded():
            await mount.healer.replace(slot, f"memory:{new}")
            await client.do(Step("fsync"))


SCENARIOS: dict[str, Scenario] = {
    "programs": programs,
    "opening": opening,
    "checkpoint": checkpoint,
    "compaction": compaction,
    "packing": packing,
    "scrub": scrub,
    "rejoining": rejoining,
    "recreated": recreated,
    "replacing": replacing,
}
