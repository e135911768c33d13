"""Histories that random ones meet too rarely: something slow, and a commit that comes in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from tests.crash.recording import Recording
from tests.sim.client import SIZES, Client
from tests.sim.history import read_tree
from tests.sim.scheduler import simulate
from tests.sim.steps import Step
from tests.sim.world import Mount, World

BIG = SIZES.index(40_000)
"""As `Step.c` of a write: its size. Other numbers of the same remainder are other bytes of the same size."""

SMALLER = SIZES.index(9000)


async def two_files(recording: Recording, client: Client) -> None:
    """/a and /b, both in the same stripe."""
    for number in (0, 1):
        await client.do(Step("create", 0, number, 1))
        await client.do(Step("write", 2 - number, 0, BIG + len(SIZES) * number))
    await client.do(Step("fsync"))


def slow_reads(world: World) -> None:
    world.weather.script = lambda number, place, operation: "latency" if operation == "read" else None


async def with_slow_reads(
    scratch: Path, slow: Callable[[Mount, Client], Awaitable[object]], before: list[Step], meanwhile: list[Step]
) -> None:
    """`slow` begins, then `meanwhile` is done and committed, then `slow` ends. What is read is compared all along."""
    recording = Recording(World(1, scratch))
    await recording.begin()
    async with recording.mounted() as (mount, client):
        await two_files(recording, client)
        await recording.programs(client, before)
        slow_reads(recording.world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow, mount, client)
            await trio.sleep(0.005)
            await recording.programs(client, [*meanwhile, Step("fsync")])
            await mount.engine.sync()
        await mount.engine.sync()
        assert await read_tree(mount.fs) == recording.model.tree()


async def read_b(mount: Mount, client: Client) -> None:
    await client.do(Step("read", 1, 0, 1))


async def compact(mount: Mount, client: Client) -> None:
    await mount.engine.compactor.compact_once(urgent=True)
    await read_both(client)


async def read_both(client: Client) -> None:
    """Both files, at once: what programs write later would hide what went wrong."""
    async with trio.open_nursery() as nursery:
        for number in (1, 2):
            nursery.start_soon(client.do, Step("read", number, 0, 1))


def test_r13_files_that_are_overwritten_and_committed_under_a_slow_read_are_read_as_they_were(tmp_path: Path) -> None:
    overwrite = [Step("write", 2, 0, BIG + 70), Step("write", 1, 0, BIG + 140)]
    simulate(1, with_slow_reads, tmp_path, read_b, [], overwrite)


def test_r13_files_that_are_removed_under_a_slow_read_are_read_as_they_were(tmp_path: Path) -> None:
    remove = [Step("unlink", 0, 0), Step("unlink", 0, 1)]
    simulate(1, with_slow_reads, tmp_path, read_b, [], remove)


def test_r13_what_is_overwritten_under_a_slow_compaction_stays_overwritten(tmp_path: Path) -> None:
    """Between the reads of two stripes, what was read of the first one changes: same file, same offset, same size."""
    dying = [Step("write", 1, 0, BIG), Step("fsync"), Step("write", 2, 0, BIG), Step("fsync")]
    dying += [Step("truncate", number, SIZES[SMALLER]) for number in (0, 1)] + [Step("fsync")]
    for pauses in range(0, 30, 2):
        for file in (1, 2):
            overwrite = [Step("idle", 0)] * pauses + [Step("write", file, 0, SMALLER + 70)]
            simulate(pauses, with_slow_reads, tmp_path, compact, dying, overwrite)
