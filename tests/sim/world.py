"""The simulated world: six media, weather over them, a pool on them, and whoever has it mounted.

Budget of faults: `suspects` are the places that something may have gone wrong with since everything was last known to
be whole; there are never more than m of them (docs/TESTING.md). Everything else must survive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import NoReturn

import trio

from ecfs.commit.engine import Engine
from ecfs.drive.base import Drive, Location
from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.health import HealthDrive
from ecfs.drive.memory import Hook
from ecfs.drive.memory_store import UNLIMITED
from ecfs.errors import EcfsError
from ecfs.fs.filesystem import FileSystem
from ecfs.geometry import Geometry
from ecfs.heal.healer import Healer
from ecfs.journal.create import create_pool
from ecfs.journal.opening import open_pool
from ecfs.pool.settings import Settings
from tests.memory_pool import in_line
from tests.sim.drive import PowerCut, SimDrive, Weather
from tests.sim.scheduler import SimClock
from tests.sim.store import Image, SimStore, put_image, put_images, take_image, take_images

SMALL = Settings(
    stripe_size=1 << 16,
    seal_at=1 << 16,
    inline_at_most=2048,
    journal_limit=1 << 14,
    stripes_in_flight=2,
    compact_slack=1 << 16,
    pack_inline_at=4096,
    commit_rows=60,
    dirty_limit=1 << 19,
    sealed_limit=1 << 19,
    sampled=1,
)
"""Everything happens after a few operations instead of a few thousand."""

LARGE = replace(SMALL, stripe_size=1 << 20, seal_at=1 << 20, journal_limit=1 << 16, compact_slack=1 << 20)
"""Shards of several blocks: damaged in one and sound in the others."""

HOARDING = replace(
    SMALL,
    stripe_size=1 << 14,
    seal_at=1 << 14,
    inline_at_most=1 << 14,
    pack_inline_at=1 << 17,
    commit_rows=400,
    journal_limit=1 << 18,
)
"""What is little stays with the metadata for long, more of it than goes into a stripe."""

READ_S = (0.0002, 0.004)
"""What a read takes in three of four worlds, and so how late the slowest of a stripe is."""
FORGETFUL = (1 << 17, 1 << 12)
"""Bytes of the cache in every second world: little is read twice from memory, or nearly nothing, and no stripe is kept
whole."""


BENEATH = Location("the system's disk", "/", "disk/ecfs")


def disk(number: int) -> Location:
    """Where a place lies."""
    return Location(f"disk {number}", f"/disk{number}", "ecfs")


def is_cut(error: BaseException) -> bool:
    """A power cut, alone or in a group with what it caused in other tasks."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_cut(each) for each in error.exceptions)
    return isinstance(error, PowerCut)


@dataclass
class Mount:
    """One process that has the pool open."""

    engine: Engine
    fs: FileSystem
    healer: Healer
    drives: list[SimDrive]
    healing: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def close(self) -> bool:
        """As an unmount: heal ends first, it would go on recording what it repaired. False if not all is durable."""
        self.healer.stop()
        self.healing.cancel()
        return await self.engine.close()


@dataclass
class Fuse:
    """Cuts the power at the `left`-th operation from now; what every medium held at that moment is kept."""

    left: int = 1 << 60
    images: list[Image] | None = None
    unmounted: dict[int, Image] = field(default_factory=dict)

    @property
    def armed(self) -> bool:
        return self.left < 1 << 59


@dataclass
class World:
    """places: the numbers of the media that the pool file lists, by slot. observer: called before every drive
    operation that can change anything, and between its bytes and their durability."""

    seed: int
    scratch: Path
    settings: Settings | None = None
    """SMALL, in every fourth world LARGE, in every eighth HOARDING; in most reads take time, in half of them memory is
    short."""
    geometry: Geometry = field(default_factory=lambda: Geometry(1, 4, 2))
    lockable: bool = True
    stores: list[SimStore] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    suspects: set[int] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)
    """Suspects that may lack something without anybody being able to know before a scrub."""
    unmounted: dict[int, Image] = field(default_factory=dict)
    """What the disks of these places hold, which nobody has mounted."""
    wiped_at: dict[int, float] = field(default_factory=dict)
    """When a place was last deleted: for a moment nobody can know."""
    reasons: set[type[EcfsError]] = field(default_factory=set)
    """Errors that programs may be told just now."""
    blackout: bool = False
    light_ns: int = 0
    """When a blackout last ended."""
    brittle: bool = False
    """Something went beyond the budget for a while. Stripes written meanwhile may lack m shards, anywhere: until all
    is mended nothing more may happen."""
    done: Counter[str] = field(default_factory=Counter)
    pool_id: str = ""
    observer: Callable[[int, str, str], None] | None = None

    def __post_init__(self) -> None:
        self.settings = self.settings or {3: LARGE, 7: LARGE, 2: HOARDING}.get(self.seed % 8, SMALL)
        if self.seed % 8 > 3:
            self.settings = replace(self.settings, cache_bytes=FORGETFUL[self.seed // 8 % 2])
        self.chance = Random(f"world {self.seed}")
        self.weather = Weather(Random(f"weather {self.seed}"), read_s=READ_S if self.seed % 8 > 1 else None)
        self.clock = SimClock(self.seed)
        self.fuse = Fuse()
        for _ in range(self.geometry.n):
            self.places.append(self.new_place())

    # ---- places -----------------------------------------------------------------------------------------------------

    def new_place(self) -> int:
        """On a disk of its own."""
        number = len(self.stores)
        self.stores.append(SimStore(lockable=self.lockable, device=f"device {number}", location=disk(number)))
        return number

    def handle(self, place: int, slot: int | None = None) -> SimDrive:
        return SimDrive(self.stores[place], self.weather, place, slot=slot, on_operation=self._hook(place))

    def wrapped(self, drive: SimDrive) -> Drive:
        """As `drive.registry` hands them out."""
        return HealthDrive(DeadlineDrive(drive), self.clock)

    def open_drive(self, url: str, slot: int) -> Drive:
        """The `OpenDrive` of heal."""
        return self.wrapped(self.handle(int(url.removeprefix("memory:")), slot if slot >= 0 else None))

    def urls(self) -> list[str]:
        return [f"memory:{place}" for place in self.places]

    def _hook(self, place: int) -> Hook:
        def operation(name: str, key: str) -> None:
            if name == "space":
                return  # changes nothing, and how often it is asked depends on the clock only
            if self.observer is not None:
                self.observer(place, name, key)
            self.fuse.left -= 1
            if self.fuse.left < 0:
                if self.fuse.images is None:
                    self.weather.note(f"POWER CUT at p{place} {name} {key}")
                    self._remember(f"p{place} {name} {key}")
                raise PowerCut(f"p{place} {name} {key}")

        return operation

    def may_refuse(self, error: EcfsError, before: Set[type[EcfsError]]) -> bool:
        """before: the reasons when the call began. Room that comes while it is looked for may come too late for it."""
        return isinstance(error, tuple(self.reasons | before))

    # ---- the budget -------------------------------------------------------------------------------------------------

    def harmable(self) -> list[int]:
        """Places that may be harmed without more than m being suspect."""
        if self.brittle:
            return []
        if len(self.suspects) < self.geometry.m:
            return list(self.places)
        return sorted(self.suspects & set(self.places))

    def harm(self, number: int, *, silently: bool = False) -> int | None:
        """Choose a place that something may now happen to; it is suspect from now on. None if nothing may."""
        places = self.harmable()
        if not places:
            return None
        place = places[number % len(places)]
        self.suspects.add(place)
        if silently:
            self.silent.add(place)
        return place

    def whole_again(self) -> None:
        """Everything was mended and proven."""
        self.suspects.clear()
        self.silent.clear()
        self.brittle = False

    def spare(self) -> int:
        """How many more places may be missing."""
        return 0 if self.brittle else max(0, self.geometry.m - len(self.suspects))

    # ---- pools and mounts -------------------------------------------------------------------------------------------

    async def create(self) -> None:
        drives = [self.wrapped(self.handle(place)) for place in self.places]
        self.pool_id = await create_pool(drives, self.geometry, clock=self.clock, scratch=self.scratch)

    @asynccontextmanager
    async def mounted(self, *, accept_loss: bool = False, go_on: bool = False) -> AsyncIterator[Mount]:
        """A process that opens the pool, serves it until the block ends, and is then killed. go_on: also with a scrub
        that the last one left unfinished."""
        drives = [self.handle(place) for place in self.places]
        opened = await open_pool(
            [self.wrapped(drive) for drive in drives],
            pool_id=self.pool_id,
            clock=self.clock,
            scratch=self.scratch,
            settings=self.settings,
            accept_loss=accept_loss,
        )
        opened.in_thread = in_line
        opened.members.listeners.append(lambda event: self.weather.note(f"event: drive {event.slot} {event.text}"))
        engine = Engine(opened)
        mount = Mount(engine, FileSystem(opened.db, engine, self.clock), self._healer(engine), drives)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(engine.run)
                await mount.fs.clean_orphans()
                await nursery.start(self._heal, mount, go_on)
                yield mount
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                for drive in [*drives, *(member.drive for member in opened.members if member.drive is not None)]:
                    await drive.close()
            opened.db.close()

    @asynccontextmanager
    async def looked_at(
        self, places: Iterable[int] | None = None, pool_id: str | None = None
    ) -> AsyncIterator[FileSystem]:
        """A process that opens the pool for reading only, as `ecfs status` and `ecfs get` do. places, pool_id: if not
        those that the pool file names."""
        drives = [self.wrapped(self.handle(place)) for place in places or self.places]
        opened = await open_pool(
            drives,
            pool_id=self.pool_id if pool_id is None else pool_id,
            clock=self.clock,
            scratch=self.scratch,
            settings=replace(self.settings or SMALL, read_only=True),
            read_only=True,
        )
        opened.in_thread = in_line
        try:
            yield FileSystem(opened.db, Engine(opened), self.clock)
        finally:
            for drive in drives:
                await drive.close()
            opened.db.close()

    async def _heal(self, mount: Mount, go_on: bool, task_status: trio.TaskStatus[None]) -> None:
        with mount.healing:
            await mount.healer.run(go_on=go_on, task_status=task_status)

    def _healer(self, engine: Engine) -> Healer:
        return Healer(engine, self.open_drive, self.urls)

    def cut_now(self) -> NoReturn:
        self.fuse.left = 0
        self._remember("by the driver")
        raise PowerCut("by the driver")

    def _remember(self, where: str) -> None:
        self.weather.cut = where
        self.fuse.images, self.fuse.unmounted = take_images(self.stores), dict(self.unmounted)

    def _as_remembered(self) -> None:
        """Whatever happened since the power was cut did not."""
        if self.fuse.images is not None:
            put_images(self.stores, self.fuse.images)
            self.unmounted = self.fuse.unmounted
            for place, store in enumerate(self.stores):
                store.location = BENEATH if place in self.unmounted else disk(place)
        self.fuse, self.weather.cut = Fuse(), ""

    # ---- disasters --------------------------------------------------------------------------------------------------

    def power_off(self) -> None:
        """After a blown fuse, or between operations: every medium keeps a part of its own of what was not synced."""
        self._as_remembered()
        for store in self.stores:
            store.crash_by_chance(self.chance)

    def kill(self) -> None:
        """The process dies; the drives stay as they are."""
        self._as_remembered()
        for store in self.stores:
            store.killed()

    @asynccontextmanager
    async def without(self, places: Iterable[int]) -> AsyncIterator[None]:
        """These places don't answer within the block."""
        gone = [self.stores[place] for place in places if self.stores[place].reachable]
        for store in gone:
            store.vanish()
        try:
            yield
        finally:
            for store in gone:
                store.come_back()

    def lit(self) -> None:
        """No blackout any more."""
        if self.blackout:
            self.blackout, self.light_ns = False, self.clock.wall_ns()

    def was_dark_since(self, began_ns: int) -> bool:
        """Whether what began then may say that something is lost: at some moment it was."""
        return bool(self.reasons) or self.light_ns >= began_ns

    def calm(self) -> None:
        """No more faults from now on; what was done stays done."""
        self.lit()
        self.weather.calm()
        for place, store in enumerate(self.stores):
            store.lies = 0
            store.confess()
            store.capacity = UNLIMITED
            if place in self.places:
                store.come_back()
        self.mount_disks()

    def unmount_disk(self, place: int) -> None:
        """Where the drive was there is an empty directory of the disk beneath (R10)."""
        store = self.stores[place]
        store.crash(lambda size: size)
        self.unmounted[place] = take_image(store, {})
        store.wipe()
        store.location = BENEATH

    def mount_disks(self) -> None:
        """Nothing may have been made on the disk beneath meanwhile."""
        for place, image in self.unmounted.items():
            store = self.stores[place]
            if store.exists or store.names:
                raise AssertionError(f"place {place}, whose disk is not mounted, was filled: {sorted(store.names)[:3]}")
            put_image(store, image)
            store.location = disk(place)
        self.unmounted = {}
