"""Every error at every point: the k-th drive operation fails, once or from then on, on one drive or on several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from ecfs.errors import (
    EcfsError,
    FencedError,
    NotEnoughDrivesError,
    PoolFullError,
    RefusedError,
    StalledError,
    StripeLostError,
)
from tests.crash.recording import Recording
from tests.crash.scenarios import file_steps, some_files
from tests.sim.disasters import settled, until
from tests.sim.drive import Script
from tests.sim.faults import apt
from tests.sim.healing import Healing
from tests.sim.history import Violation, read_tree
from tests.sim.world import Mount, World

LOUD = ("error", "timeout", "full", "missing", "corrupt", "torn", "error-after", "failed-flush", "hang")
SILENT = ("lost", "rotten", "misdirected", "misread", "lied")
WRITES = frozenset({"put", "append", "write_blob", "delete", "prepare", "fence"})
CLEAN = (StalledError, NotEnoughDrivesError, PoolFullError, StripeLostError, FencedError, RefusedError)


@dataclass
class Plan:
    """From the `at`-th operation of the scenario on, `fault` strikes on `places`: the first operation that can meet it
    there, or all of them. left: how often still."""

    fault: str
    places: frozenset[int]
    at: int
    left: int
    struck: int = 0

    def strike(self, number: int, place: int, operation: str) -> str | None:
        if number < self.at or place not in self.places or not self.left or not self._fits(operation):
            return None
        self.left -= 1
        self.struck += 1
        return self.fault

    def _fits(self, operation: str) -> bool:
        return operation in WRITES if self.fault == "fenced" else self.fault in apt(operation)

    def __str__(self) -> str:
        often = "once" if self.left + self.struck == 1 else "from then on"
        return f"{self.fault} at operation {self.at} on places {sorted(self.places)}, {often}"


@dataclass
class Trial:
    """One plan carried out: open, programs, a checkpoint, a scrub; then an end, clean or not, and a look; then all is
    mended, and any two drives may go."""

    world: World
    plan: Plan
    recording: Recording = field(init=False)

    def __post_init__(self) -> None:
        self.recording = Recording(self.world)

    @property
    def within_budget(self) -> bool:
        return len(self.plan.places) <= self.world.geometry.m and self.plan.fault != "fenced"

    async def run(self) -> int:
        """How many operations there were to fail."""
        await self.recording.begin()
        async with self.recording.mounted() as (_, client):
            await some_files(self.recording, client, 10)
        self.world.kill()
        first = self.world.weather.seen
        self.world.weather.script = self._script(first)
        if self.within_budget:
            self.world.suspects.update(self.plan.places)
        else:
            self.world.reasons.update(CLEAN)
        await self._struck()
        operations = self.world.weather.seen - first
        await self._look()
        return operations

    def _script(self, first: int) -> Script:
        return lambda number, place, operation: self.plan.strike(number - first, place, operation)

    async def _struck(self) -> None:
        try:
            async with self.recording.mounted() as (mount, client):
                await self.recording.programs(client, file_steps(self.recording, 12, 2))
                mount.engine.request_checkpoint()
                await self.recording.programs(client, file_steps(self.recording, 6, 3))
                await self._scrub(mount)
                if not self.within_budget:
                    await self._comes_back(mount)
                await self._end(mount)
        except EcfsError as error:
            if self.within_budget or not isinstance(error, CLEAN):
                raise

    async def _scrub(self, mount: Mount) -> None:
        try:
            report = await mount.healer.scrub()
        except CLEAN:
            if self.within_budget:
                raise
        else:
            if report.lost and self.within_budget:
                raise Violation(f"a scrub says that something is lost: {report.findings[:3]}")

    async def _comes_back(self, mount: Mount) -> None:
        """When the drives are well again, so is the pool, without being opened anew; unless it was fenced."""
        self.world.weather.script = None
        if mount.engine.fenced:
            return
        await settled(mount)
        await until(lambda: all(m.in_w for m in mount.engine.pool.members), "all drives are in W again")
        self.recording.history.durable(self.recording.history.newest)
        if await read_tree(mount.fs) != self.recording.model.tree():
            raise Violation("after the drives came back the tree is another")

    async def _end(self, mount: Mount) -> None:
        if self.plan.at % 2:
            return
        number = self.recording.history.newest
        if await mount.engine.close():
            self.recording.history.durable(number)
        elif self.within_budget:
            raise Violation("closing could not make everything durable")

    async def _look(self) -> None:
        """Without faults, after a power cut: a moment that was allowed; then mended, the same."""
        self.world.weather.script = None
        self.world.calm()
        self.world.power_off()
        async with self.world.mounted() as mount:
            tree = await read_tree(mount.fs)
            self.recording.history.recovered(tree, str(self.plan))
            await Healing(self.world).mend(mount)
        self.world.kill()
        pair = self.recording.chance.sample(self.world.places, self.world.geometry.m)
        async with self.world.without(pair), self.world.mounted() as mount:
            if await read_tree(mount.fs) != tree:
                raise Violation(f"mended, and without places {pair}, the tree is another")
        self.world.kill()


async def trial(seed: int, scratch: Path, plan: Plan) -> int:
    try:
        return await Trial(World(seed, scratch), plan).run()
    except AssertionError as error:
        raise Violation(f"seed {seed}, {plan}: {error}") from error


def plans(seed: int, fault: str, at: int, count: int) -> Plan:
    """A plan for `count` places (0: one, once)."""
    chance: Callable[..., list[int]] = Random(f"{seed} {fault} {at} {count}").sample
    return Plan(fault, frozenset(chance(range(6), max(count, 1))), at, 1 if count == 0 else 1 << 30)
