"""What no code survives, between two lives of the pool, and undone afterwards: it must be refused, or given up openly.

More than m drives are away, or the same bytes rotted on all of them. None of it may end in anything but a clear error
or a state that holds together, and what was only away must be found as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from random import Random

import trio

from ecfs import shard
from ecfs.errors import EcfsError, StalledError
from ecfs.fs.filesystem import FileSystem
from ecfs.geometry import counter_of
from ecfs.heal.repair import ASIDE_S, RETRY_S
from ecfs.heal.report import LOST
from ecfs.journal import record
from ecfs.meta import Inode, cross_check
from ecfs.pool.sealed import seal_body
from tests.sim.healing import whole_scrub
from tests.sim.history import SOMEBODY, History, Violation, difference, read_tree
from tests.sim.model import ROOT
from tests.sim.store import put_images, take_images
from tests.sim.world import Mount, World


def what(errors: BaseException) -> str:
    """The name of the first error in a group."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return type(errors).__name__


def stamp(data: bytearray) -> bool:
    """A greater format number, all else right. False for files that have none: the journal has one in each record."""
    if data[:5] == b"ecfs ":
        first, _, rest = bytes(data).partition(b"\n")
        words = first.split(b" ")
        if len(words) != 4 or not words[2].isdigit():
            return False  # a rotten one
        data[:] = seal_body(words[1], int(words[2]) + 1, rest[:-1])
        return True
    hashed = {shard.MAGIC: shard.HEADER_LENGTH - 32, record.MAGIC: record.HEADER_LENGTH - 32}.get(bytes(data[:8]))
    if hashed is None:
        return False
    data[8] += 1
    data[hashed : hashed + 32] = hashlib.blake2b(data[:hashed], digest_size=32).digest()
    return True


def forge(data: bytearray, chance: Random) -> None:
    """Other bytes, with every checksum right."""
    data[chance.randrange(shard.DATA_OFFSET, len(data))] ^= 1 << chance.randrange(8)
    header = shard.parse_header(data)
    crcs = tuple(shard.block_crcs(data[shard.DATA_OFFSET :]))
    data[: shard.HEADER_LENGTH] = shard.build_header(replace(header, block_crcs=crcs))


def walk(fs: FileSystem, path: bytes) -> Inode:
    """The inode of a path that is there, b"" for the root."""
    found = fs.namespace.lookup(ROOT, b".")
    for name in path.split(b"/")[1:]:
        found = found and fs.namespace.lookup(found.ino, name)
    assert found is not None
    return found


Kind = Callable[[], Awaitable[None]]


class Calamities:
    """Each kind is a method; `happen` chooses one and puts the media back as they were."""

    def __init__(self, world: World, history: History) -> None:
        self.world = world
        self.history = history

    async def happen(self) -> None:
        await self._undone(self.world.chance.choice(self.kinds()))

    def kinds(self) -> list[Kind]:
        """What may happen now; more often what is listed twice."""
        kinds: list[Kind] = [self.look, self.look]
        if not self.world.brittle and not self.world.suspects:
            kinds += [self.too_few, self.journal_rots, self.superblocks_rot, self.checkpoints_gone]
            kinds += [self.stripes_gone, self.stripes_gone, self.newer, self.newer, self.forged]
        return kinds

    async def _undone(self, kind: Kind) -> None:
        world = self.world
        images = take_images(world.stores)
        weather = world.weather.rates, world.weather.breeze
        world.weather.rates, world.weather.breeze = {}, 0.0
        try:
            await kind()
        finally:
            put_images(world.stores, images)
            world.kill()
            world.weather.rates, world.weather.breeze = weather
        world.done[f"calamity: {kind.__name__}"] += 1

    async def look(self) -> None:
        """No calamity: somebody looks without opening. It shows an allowed moment, and changes nothing."""
        before = take_images(self.world.stores)
        async with self.world.looked_at() as fs:
            self.history.recovered(await read_tree(fs), "a look for reading only")
            with suppress(StalledError):
                await fs.namespace.create(ROOT, b"x", 0o600, SOMEBODY, exclusive=True)
                raise Violation("a pool that was opened for reading only let itself be changed")
        self._same(before)

    async def too_few(self) -> None:
        """More than m drives are away: refused, and what is here stays as it is."""
        world, geometry = self.world, self.world.geometry
        before = take_images(world.stores)
        away = world.chance.sample(world.places, world.chance.randint(geometry.m + 1, geometry.n))
        async with world.without(away):
            for accept_loss in (False, True):
                try:
                    async with world.mounted(accept_loss=accept_loss):
                        raise Violation(f"opened without places {away}")
                except EcfsError as error:
                    world.done[f"too few: {type(error).__name__}"] += 1
        self._same(before)

    def _same(self, before: object) -> None:
        after = take_images(self.world.stores)
        for place, (image, now) in enumerate(zip(before, after, strict=True)):  # type: ignore[call-overload]
            if image.contents() != now.contents():
                raise Violation(f"place {place} was changed by an opening that was refused or for reading only")

    async def journal_rots(self) -> None:
        """The same byte of the journal, on all drives."""
        world = self.world
        keys = sorted({key for place in world.places for key in world.stores[place].names if key.startswith("j/")})
        key = world.chance.choice(keys)
        longest = max(len(world.stores[place].names[key].data) for place in self._with(key))
        at, bit = world.chance.randrange(longest), 1 << world.chance.randrange(8)
        for place in self._with(key):
            data = world.stores[place].names[key].data
            if at < len(data):
                data[at] ^= bit
        await self._refused_or_whole()

    async def superblocks_rot(self) -> None:
        for place in self._with("superblock"):
            self.world.stores[place].names["superblock"].data[self.world.chance.randrange(20)] ^= 1
        await self._refused_or_whole()

    async def checkpoints_gone(self) -> None:
        """More shards of one stripe of a checkpoint than can be lost."""
        keys = sorted({key for place in self.world.places for key in self.world.stores[place].names if key[:2] == "c/"})
        if keys:
            key = self.world.chance.choice(keys)
            for place in self._with(key)[: self.world.geometry.m + 1]:
                self.world.stores[place].drop(key)
        await self._refused_or_whole()

    async def stripes_gone(self) -> None:
        """More shards of some stripes than can be lost: their files are named, everything else is as it was."""
        world = self.world
        keys = sorted({key for place in world.places for key in world.stores[place].names if key[:2] == "s/"})
        for key in world.chance.sample(keys, min(2, len(keys))):
            there = self._with(key)
            for place in world.chance.sample(there, min(world.geometry.m + 1, len(there))):
                world.stores[place].drop(key)
        async with world.mounted() as mount:
            before = await self._the_rest(mount)
            report = await whole_scrub(mount)
            if before and not (report.lost and report.exit_status == 3):
                raise Violation(f"{before} can't be read, and a scrub says {report.findings[:3]}")
            await mount.engine.compactor.compact_once(urgent=True)
            drill = await mount.healer.drill(restart=True)
            if before and not drill.lost:
                raise Violation(f"{before} can't be read, and a drill says {drill.findings[:3]}")
            if await self._the_rest(mount) != before:
                raise Violation(f"a scrub changed which files can be read: before, not {before}")
            await self._afterwards(mount, before)
        world.done["files lost"] += len(before)

    async def _afterwards(self, mount: Mount, lost: set[bytes]) -> None:
        """Minutes later nothing is different, or people have deleted what was lost: then no scrub speaks of it."""
        if self.world.chance.random() < 0.5:
            await trio.sleep(ASIDE_S + RETRY_S)
            if await self._the_rest(mount) != lost:
                raise Violation(f"in time it changed which files can be read: not {lost} any more")
            return
        for path in lost:
            directory, _, name = path.rpartition(b"/")
            await mount.fs.namespace.unlink(walk(mount.fs, directory).ino, name)
        await mount.engine.sync()
        report = await whole_scrub(mount)
        wrong = [f for f in report.findings if f.state == LOST and mount.engine.db.files.live(f.stripe or 0) <= 0]
        if wrong:
            raise Violation(f"nobody needs it any more, and a scrub says {wrong[:3]}")

    async def _the_rest(self, mount: Mount) -> set[bytes]:
        """The files that can't be read; all others must be those of one moment."""
        lost = set[bytes]()
        tree = await read_tree(mount.fs, lost)
        for moment in self.history.moments:
            if {path: node for path, node in moment.tree().items() if path not in lost} == tree:
                return lost
        raise Violation(f"without {lost}, {difference(self.history.moments[-1].tree(), tree)}")

    async def newer(self) -> None:
        """A newer ecfs wrote a file, on one drive or on all: this one reads what it can, and leaves it alone."""
        world = self.world
        key = world.chance.choice(sorted({key for place in world.places for key in world.stores[place].names}))
        places = self._with(key)[: world.chance.choice([1, world.geometry.n])]
        stamped = {place: bytes(file.data) for place in places if stamp((file := world.stores[place].names[key]).data)}
        needed = True
        try:
            async with world.mounted() as mount:
                await self._the_rest(mount)
                await whole_scrub(mount)
                await self._the_rest(mount)
                needed = self._is_needed(mount, key)
        except* EcfsError as errors:
            world.done[f"newer: {what(errors)}"] += 1
        for place, data in stamped.items():
            there = world.stores[place].names.get(key)
            if needed if there is None else bytes(there.data) != data:
                raise Violation(f"{key} on place {place} was written by a newer ecfs, and this one changed it")

    def _is_needed(self, mount: Mount, key: str) -> bool:
        """False if nothing refers to it any more: it may be deleted unread."""
        pool = mount.engine.pool
        if key[:2] in ("c/", "j/"):
            return False
        return key[:2] != "s/" or pool.db.files.live(shard.parse_key(key)[1]) > 0

    async def forged(self) -> None:
        """A parity shard with right checksums and wrong bytes, and a rotten shard of data, which it would make wrong.
        No calamity if a scrub and a drill come before anything is read."""
        async with self.world.mounted() as mount:
            stripe = await self._some_stripe(mount)
            if stripe is None:
                return
            self._forge_beside_rot(stripe)
            reports = [await whole_scrub(mount)]
            reports += [await mount.healer.drill(restart=True) for _ in range(2)]
            if any(report.lost for report in reports) or reports[-1].found or not reports[1].found:
                raise Violation(f"a forged shard: {[report.findings[:3] for report in reports]}")
            self.history.recovered(await read_tree(mount.fs), "after a drill found a forged shard")

    def _forge_beside_rot(self, stripe: int) -> None:
        chance, geometry = self.world.chance, self.world.geometry
        forge(self._shard(stripe, geometry.k + chance.randrange(geometry.m)), chance)
        data = self._shard(stripe, chance.randrange(geometry.k))
        data[chance.randrange(shard.DATA_OFFSET, len(data))] ^= 1 << chance.randrange(8)

    async def _some_stripe(self, mount: Mount) -> int | None:
        """One that files refer to, after what a crash left behind was repaired."""
        await whole_scrub(mount)
        stripes = self._live(mount)
        return self.world.chance.choice(stripes) if stripes else None

    def _live(self, mount: Mount) -> list[int]:
        """The stripes that files refer to."""
        db = mount.engine.db
        return [row.id for row in db.ledger.facts(0, 1000) if db.files.live(row.id) > 0]

    def _shard(self, stripe: int, index: int) -> bytearray:
        """The bytes of shard `index` of a stripe."""
        return self.world.stores[self._place(stripe, index)].raw(shard.shard_key("s", stripe))

    def _place(self, stripe: int, index: int) -> int:
        return self.world.places[self.world.geometry.slot_of(counter_of(stripe), index)]

    def _with(self, key: str) -> list[int]:
        return [place for place in self.world.places if key in self.world.stores[place].names]

    async def _refused_or_whole(self) -> bool:
        """First as usual, then the loss is accepted: an error that says so, or metadata that agree with themselves.
        False if it was refused both times."""
        opened = False
        for accept_loss in (False, True):
            try:
                async with self.world.mounted(accept_loss=accept_loss) as mount:
                    await self._holds_together(mount)
                    if accept_loss:
                        await whole_scrub(mount)
                        await self._holds_together(mount)
            except* EcfsError as errors:
                self.world.done[f"refused: {what(errors)}"] += 1
            else:
                self.world.done["went back" if accept_loss else "opened all the same"] += 1
                opened = True
            self.world.kill()
        return opened

    async def _holds_together(self, mount: Mount) -> None:
        if problems := list(cross_check(mount.engine.db)):
            raise Violation(f"after a calamity the metadata disagree: {problems[:3]}")
        await self._readable(mount.fs)

    async def _readable(self, fs: FileSystem) -> None:
        """What was deleted after the state that it went back to may be gone: an error, never other bytes."""
        try:
            await read_tree(fs)
        except EcfsError as error:
            self.world.done[f"lost with the newest commits: {type(error).__name__}"] += 1
