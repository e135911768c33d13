"""Every moment at which the power could go: what all media hold at each drive operation of a scenario, and the judge.

The scenario runs once. At each operation an image of all media is kept, with the moments that would be allowed. Each
image then loses power (every drive keeps everything synced and a part of its own of the rest), is recovered without a
set of drives, killed, and recovered again without another set, which must agree.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from random import Random

from ecfs.meta import cross_check
from tests.sim.client import Client
from tests.sim.history import History, Violation, read_tree
from tests.sim.model import Model, Moment, Tree, new_model
from tests.sim.steps import Step
from tests.sim.store import Copies, Image, put_images, take_images
from tests.sim.world import Mount, World

READS = frozenset({"read", "verify", "read_blob", "read_fence", "alive", "location", "is_vacant", "attach", "strays"})
"""Before these, media hold what they held before the operation ahead of them."""

RECOVERIES_BETWEEN_COLLECTIONS = 30
"""Each leaves most of a MiB in cycles, and the simulator does not collect by itself."""


@dataclass
class Cut:
    """One operation before which the power can go. moments: those a recovery may show; suspects: places that may be
    missing or wrong already."""

    number: int
    operation: str
    images: list[Image]
    moments: list[Moment]
    suspects: frozenset[int]
    places: list[int]


@dataclass
class Recording:
    """A scenario in a world of its own."""

    world: World
    history: History = field(default_factory=History)
    cuts: list[Cut] = field(default_factory=list)
    copies: Copies = field(default_factory=dict)
    recoveries: int = 0

    def __post_init__(self) -> None:
        self.model: Model = new_model(0o755, 0, self.world.clock.wall_ns)
        self.chance = Random(f"cuts {self.world.seed}")

    # ---- the scenario -----------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        await self.world.create()
        async with self.world.mounted() as mount:
            tree = await read_tree(mount.fs)
        self.world.kill()
        root = Moment({1: tree[b""]}, {})
        self.history.moments = [root]
        self.model.restart(root)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Within the block, every drive operation is a cut."""
        self.world.observer = self._observe
        try:
            yield
        finally:
            self.world.observer = None

    def _observe(self, place: int, name: str, key: str) -> None:
        if name in READS:
            return
        world = self.world
        images = take_images(world.stores, self.copies)
        moments, suspects = list(self.history.moments), frozenset(world.suspects)
        self.cuts.append(Cut(len(self.cuts), f"p{place} {name} {key}", images, moments, suspects, list(world.places)))

    @asynccontextmanager
    async def mounted(self) -> AsyncIterator[tuple[Mount, Client]]:
        async with self.world.mounted() as mount:
            yield mount, Client(self.world, mount, self.model, self.history)

    async def programs(self, client: Client, steps: Iterable[Step]) -> None:
        for step in steps:
            await client.do(step)

    # ---- the judge --------------------------------------------------------------------------------------------------

    def missing_sets(self, cut: Cut) -> list[tuple[int, ...]]:
        """Every allowed set of missing places: suspects, or not, and others as far as the budget goes."""
        spare = self.world.geometry.m - len(cut.suspects)
        others = [place for place in cut.places if place not in cut.suspects]
        return [missing for count in range(spare + 1) for missing in combinations(others, count)]

    def sampled(self, count: int) -> list[Cut]:
        return sorted(self.chance.sample(self.cuts, min(count, len(self.cuts))), key=lambda cut: cut.number)

    def wreck(self, cut: Cut, seed: int) -> list[Image]:
        """What the media hold after the power went at the cut: of what was not synced another part for each seed."""
        self.world.places = list(cut.places)
        copies: Copies = {}
        put_images(self.world.stores, cut.images, copies)
        for store in self.world.stores:
            store.crash_by_chance(Random(f"{seed} {cut.number} {id_of(self.world, store)}"))
        return take_images(self.world.stores, copies)

    async def judge(self, cut: Cut, sets: int, seed: int) -> None:
        """Lose power at the cut, then recover without each of `sets` sets of drives (0: all there are)."""
        wreck, every = self.wreck(cut, seed), self.missing_sets(cut)
        for missing in self.chance.sample(every, sets) if 0 < sets < len(every) else every:
            put_images(self.world.stores, wreck)
            first = await self.recover(cut, missing)
            second = await self.recover(cut, self.chance.choice(every))
            if second != first:
                raise Violation(f"{self.label(cut, missing)}: the second recovery disagrees")

    async def recover(self, cut: Cut, missing: tuple[int, ...]) -> Tree:
        self.world.weather.at_once = 0  # hundreds of recoveries take no simulated time: that is no endless loop
        async with self.world.without(missing), self.world.mounted() as mount:
            tree = await read_tree(mount.fs)
            problems = list(cross_check(mount.engine.db))
        self.world.kill()
        self.recoveries += 1
        if self.recoveries % RECOVERIES_BETWEEN_COLLECTIONS == 0:
            gc.collect()
        History(list(cut.moments)).recovered(tree, self.label(cut, missing))
        if problems:
            raise Violation(f"{self.label(cut, missing)}: {problems[:3]}")
        return tree

    def label(self, cut: Cut, missing: Iterable[int]) -> str:
        return f"seed {self.world.seed}, power cut {cut.number} at {cut.operation}, without places {list(missing)}"


def id_of(world: World, store: object) -> int:
    return next(number for number, each in enumerate(world.stores) if each is store)


Scenario = Callable[[Recording], Awaitable[None]]
