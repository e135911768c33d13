"""What happens to drives. Within the budget of faults, except where a step says that it goes beyond."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import trio

from ecfs.drive.memory_store import UNLIMITED
from ecfs.errors import EcfsError, NotEnoughDrivesError, PoolFullError, StalledError, StripeLostError
from tests.sim.steps import Step
from tests.sim.store import Image, SimStore, put_image, take_image
from tests.sim.world import Mount, World

BLACKOUT = (StalledError, NotEnoughDrivesError, StripeLostError)
FULL = (PoolFullError, StalledError)
SILENT = frozenset({"lost", "rotten", "misdirected", "misread", "lied"})
SAMPLED_WITHIN_S = 2.5
WEAR = frozenset({"missing", "corrupt", "misread", "rotten", "latency"})


class Disasters:
    """Does the steps that are no file operations and no healing.

    saved: old states of media, to be rolled back to. returning: those to be put back when the pool is closed.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.saved: dict[int, Image] = {}
        self.returning: dict[int, Image] = {}

    async def do(self, step: Step, mount: Mount) -> None:
        await getattr(self, f"do_{step.kind}")(step, mount)

    def some_missing(self) -> list[int]:
        """Places that may be missing at an opening: suspects, and more as far as the budget goes."""
        chance, world = self.world.chance, self.world
        if world.brittle:
            return []
        suspects = sorted(world.suspects & set(world.places))
        others = [place for place in world.places if place not in world.suspects]
        missing = [place for place in suspects if chance.random() < 0.3]
        return missing + chance.sample(others, chance.randint(0, world.spare()))

    def _harmed(self, step: Step, *, silently: bool = False) -> SimStore | None:
        place = self.world.harm(step.a, silently=silently)
        return None if place is None else self.world.stores[place]

    def after_a_life(self) -> None:
        """More than m drives are never away at an opening; whether one left W in a blackout is in `suspects`."""
        world = self.world
        if world.blackout:
            world.lit()
            for place in world.places:
                world.stores[place].come_back()
        world.reasons.clear()
        for store in world.stores:
            store.capacity = UNLIMITED
        for place, image in self.returning.items():
            if place in world.suspects and place not in world.unmounted:
                put_image(world.stores[place], image)
        self.returning = {}

    # ---- housekeeping -----------------------------------------------------------------------------------------------

    async def do_checkpoint(self, step: Step, mount: Mount) -> None:
        mount.engine.request_checkpoint()

    async def do_compact(self, step: Step, mount: Mount) -> None:
        await mount.engine.compactor.compact_once(urgent=bool(step.a % 2))

    async def do_pack(self, step: Step, mount: Mount) -> None:
        await mount.engine.compactor.pack_inline()

    # ---- drives that go and come ------------------------------------------------------------------------------------

    async def do_vanish(self, step: Step, mount: Mount) -> None:
        """Gone, or only silent: whoever asks waits for ever."""
        if store := self._harmed(step):
            if step.b % 3:
                store.vanish()
            else:
                store.freeze()

    async def do_unmount(self, step: Step, mount: Mount) -> None:
        """A disk is not mounted any more; the next `come_back` mounts it."""
        place = self.world.harm(step.a)
        if place is not None and place not in self.world.unmounted:
            self.world.unmount_disk(place)
            self.world.wiped_at[place] = trio.current_time()

    async def do_come_back(self, step: Step, mount: Mount) -> None:
        """As a node behind a mended cable or, half of the time, one that was started anew."""
        if self.world.blackout:
            return
        self.world.mount_disks()
        for place in self.world.places:
            store = self.world.stores[place]
            if not store.reachable or store.frozen is not None:
                store.come_back()
                if step.b % 2:
                    store._end_attachments()

    async def do_reboot(self, step: Step, mount: Mount) -> None:
        """One drive loses power for a moment, while the pool is in use."""
        if store := self._harmed(step):
            store.crash_by_chance(self.world.chance)

    async def do_wipe(self, step: Step, mount: Mount) -> None:
        if store := self._harmed(step):
            store.wipe()
            self.world.wiped_at[self.world.stores.index(store)] = trio.current_time()

    # ---- drives that are not what they were -------------------------------------------------------------------------

    async def do_rot(self, step: Step, mount: Mount) -> None:
        if store := self._harmed(step, silently=True):
            rot(store, Random(step.b))

    async def do_scatter(self, step: Step, mount: Mount) -> None:
        """Up to m shards of every stripe and checkpoint rot, on any drives: all that one stripe can bear."""
        world, chance = self.world, Random(step.b)
        if world.suspects or world.brittle or any(not (m.up and m.in_w) for m in mount.engine.pool.members):
            return
        world.brittle = True
        keys = {key for place in world.places for key in world.stores[place].names if key.startswith(("s/", "c/"))}
        for key in sorted(keys):
            for place in chance.sample(world.places, chance.randint(0, world.geometry.m)):
                if key in world.stores[place].names:
                    rot(world.stores[place], chance, key)

    async def do_prune(self, step: Step, mount: Mount) -> None:
        """Somebody deleted a part of a drive: directories of shards, the journal, everything but shards (R22). Where
        nothing says any more whose it is, something else may come to lie there, too."""
        store = self._harmed(step, silently=True)
        if store is None or not store.exists:
            return  # perhaps its disk is not mounted
        kept = [("j/", "s/", "c/"), ("j/", "c/", "identity"), ("s/", "c/", "identity"), ("s/", "c/")][step.b % 4]
        for key in [key for key in store.names if not key.startswith(kept)]:
            store.drop(key)
        store.gone.update({"s/", "c/", "j/"}.difference(kept))
        if "s/" not in kept:
            store.epochs.clear()
        elif "identity" not in kept:
            self._mix_up(store, Random(step.c))

    def _mix_up(self, store: SimStore, chance: Random) -> None:
        """Somebody's files, or shards of another drive under the names of this one's."""
        if chance.random() < 0.5:
            store.strays.append("holiday.jpg")
            return
        other = self.world.stores[chance.choice(self.world.places)]
        keys = sorted(key for key in store.names if key[:2] == "s/" and key in other.names)
        if other is not store and keys:
            key = chance.choice(keys)
            store.names[key].data[:] = other.names[key].data
            store.foreign[key] = bytes(store.names[key].data)

    async def do_muddle(self, step: Step, mount: Mount) -> None:
        """A drive's superblock is exchanged for another drive's, and its identity rots: nothing says whose it is."""
        store = self._harmed(step, silently=True)
        other = self.world.stores[self.world.places[step.b % len(self.world.places)]]
        if store is not None and "superblock" in store.names.keys() & other.names.keys():
            store.names["superblock"].data[:] = other.names["superblock"].data
            rot(store, Random(step.c), "identity" if "identity" in store.names else "superblock")

    async def do_lie(self, step: Step, mount: Mount) -> None:
        """From now on it answers a sync before anything is durable."""
        if store := self._harmed(step, silently=True):
            store.lies = 1

    async def do_save(self, step: Step, mount: Mount) -> None:
        place = self.world.places[step.a % len(self.world.places)]
        if not self.world.brittle and place not in self.world.silent and place not in self.world.unmounted:
            self.saved = {place: take_image(self.world.stores[place], {})}

    async def do_roll_back(self, step: Step, mount: Mount) -> None:
        """An older copy of the drive takes its place: a restored backup, a forgotten clone (R11). Now, or while the
        pool is closed."""
        for place, image in self.saved.items():
            if place in self.world.harmable() and place not in self.world.unmounted:
                self.world.suspects.add(place)
                if step.b % 2:
                    self.returning[place] = image
                else:
                    self.world.silent.add(place)  # its next append fails and shows it; before that nobody can know
                    put_image(self.world.stores[place], image)
        self.saved = {}

    # ---- weather ----------------------------------------------------------------------------------------------------

    async def do_storm(self, step: Step, mount: Mount) -> None:
        """Faults of all kinds soon cost the drive its place; silent ones alone, or wear, go on for long."""
        place = self.world.harm(step.a, silently=True)
        if place is not None:
            self.world.weather.rates[place] = [0.02, 0.1, 0.5][step.b % 3]
            self.world.weather.only = [frozenset(), SILENT, SILENT, WEAR][step.c % 4]

    async def do_breeze(self, step: Step, mount: Mount) -> None:
        """Every drive is slow now and then: what else goes on gets in between. Or all of them seem to be, since
        something holds up the event loop."""
        self.world.weather.breeze = [0.02, 0.2, 0.6][step.b % 3]
        self.world.weather.held_up = [0.0, 0.0, 0.05][step.c % 3]

    async def do_calm(self, step: Step, mount: Mount) -> None:
        self.world.weather.calm()
        for store in self.world.stores:
            store.lies = 0

    # ---- beyond the budget: refused cleanly, nothing lost -----------------------------------------------------------

    async def do_blackout(self, step: Step, mount: Mount) -> None:
        """More drives than may be lost don't answer for a while, or hang."""
        world = self.world
        if world.suspects or world.brittle:
            return
        self.darken(step)

    def darken(self, step: Step) -> None:
        """Those that are left may be slow, and so all of them when they are back."""
        world = self.world
        world.blackout = world.brittle = True
        world.reasons.update(BLACKOUT)
        if step.b // 8 % 2:
            world.weather.breeze = 0.3
        for place in Random(step.a).sample(world.places, world.geometry.m + 1 + step.b % world.geometry.k):
            if step.c % 2:
                world.stores[place].vanish()
            else:
                world.stores[place].freeze()

    async def do_lights(self, step: Step, mount: Mount) -> None:
        """All drives are back, at once or one by one. What left W meanwhile lacks something until it is mended."""
        world, chance = self.world, Random(step.b)
        if not world.blackout:
            return
        for place in chance.sample(world.places, len(world.places)):
            world.stores[place].come_back()
            await trio.sleep(chance.uniform(0, 2) * (step.a % 2))
        await settled(mount)
        world.lit()
        world.reasons.difference_update(BLACKOUT)

    async def do_full(self, step: Step, mount: Mount) -> None:
        """All drives have little room left, or next to none since somebody else has filled the disks; or one has none.
        c: whether that is known before something is written."""
        world = self.world
        if world.suspects or world.brittle:
            return
        if step.a % 4 == 0:
            world.reasons.add(PoolFullError)
            if store := self._harmed(step):
                store.capacity = store.used + step.b % 5_000
        else:
            world.brittle = True
            world.reasons.update(FULL)
            least, most = (0, 60_000) if step.a % 4 == 1 else (50_000, 250_000)
            for place in world.places:
                world.stores[place].capacity = world.stores[place].used + least + step.b % (most - least)
        if step.c % 2:
            await trio.sleep(SAMPLED_WITHIN_S)

    async def do_roomy(self, step: Step, mount: Mount) -> None:
        world = self.world
        if PoolFullError not in world.reasons:  # StalledError alone is a blackout, which more room does not end
            return
        for store in world.stores:
            store.capacity = UNLIMITED
        await settled(mount)
        world.reasons.difference_update(FULL)


def place_of(url: str) -> int:
    return int(url.removeprefix("memory:"))


async def until(condition: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
    """Wait in simulated time; raise if it does not happen."""
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        if condition():
            return
        await trio.sleep(0.25)
    raise AssertionError(f"not within {seconds:g} s: {what}")


async def settled(mount: Mount) -> None:
    """Until a commit goes through again, after a time in which it could not."""
    for _ in range(300):
        try:
            return await mount.engine.sync()
        except EcfsError:
            await trio.sleep(1)
    raise AssertionError(f"commits don't go on although nothing is in their way: {mount.engine.stalled}")


def rot(store: SimStore, chance: Random, key: str = "") -> None:
    """A file at rest (any, if none is named) is not what it was: a bit flipped, zeros, cut short, unreadable, gone."""
    keys = [key] if key else sorted(store.names)
    if not keys:
        return
    key = chance.choice(keys)
    data = store.names[key].data
    how = chance.randrange(5)
    if how == 0 or not data:
        store.drop(key)
    elif how == 1:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif how == 2:
        start = chance.randrange(len(data))
        data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    elif how == 3:
        start = chance.randrange(len(data))
        store.bad_sectors[store.names[key]] = (start, start + 4096)
    else:
        del data[chance.randrange(len(data)) :]
