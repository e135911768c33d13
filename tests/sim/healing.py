"""Making everything whole again, as a user would, and proving that it is, without believing what heal says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from random import Random

import trio

from ecfs.drive.fence import NOBODY
from ecfs.drive.shards import check_whole_shard
from ecfs.errors import EcfsError, RefusedError
from ecfs.heal.report import LOST, ScrubProgress, ScrubReport
from ecfs.shard import shard_key
from tests.sim.disasters import Disasters, place_of, rot, settled, until
from tests.sim.history import Violation
from tests.sim.steps import Step
from tests.sim.world import Mount, World

NOTICED_WITHIN_S = 2.5
"""What a drive lost a moment ago (wiped, rolled back) nobody can know yet: it is promised to show within 2 s."""
ATTEMPTS = 5
"""Scrubs until nothing is found any more: one repairs, one confirms; orphans take two; one that moved away what lay in
the way comes first."""


class Healing:
    """The steps that heal."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.disasters = Disasters(world)
        self.begun: dict[int, int] = {}
        """slot → the place of a replacement that did not come to its end."""
        self.mending = 0
        """How many are at it: no more drives go dark meanwhile than may."""

    async def do(self, step: Step, mount: Mount) -> None:
        await getattr(self, f"do_{step.kind}")(step, mount)

    async def do_scrub(self, step: Step, mount: Mount) -> None:
        """While whatever goes on goes on. It may be interrupted; it may not do harm. Now and then a drive has
        forgotten to whom it is promised."""
        if step.c % 8 == 0 and self.world.lockable and (place := self.world.harm(step.a, silently=True)) is not None:
            self.world.stores[place].fence = NOBODY
        try:
            report = await mount.healer.scrub(
                dry_run=step.a % 5 == 0, rate=[None, 1e5, 1e6, 1e8][step.b % 4], progress=Watcher()
            )
        except EcfsError as error:
            self.world.done[f"scrub: {type(error).__name__}"] += 1
            return
        self._nothing_lost(report)

    def _nothing_lost(self, report: ScrubReport) -> None:
        lost = [finding for finding in report.findings if finding.state == LOST]
        if lost and not self.world.was_dark_since(report.started_ns):
            raise Violation(f"a scrub says that something is lost: {lost[:3]}")

    async def do_pause(self, step: Step, mount: Mount) -> None:
        """What people do to a scrub that runs, or was interrupted; half of the time they begin a slow one first."""
        async with trio.open_nursery() as nursery:
            if step.b % 2:
                nursery.start_soon(self.do_scrub, Step("scrub", 1, 1, 1), mount)
                await trio.sleep([0.1, 3, 12][step.c % 3])
            self._pause(step.a, mount)
            if step.c % 2:
                await trio.sleep(1)
                self._pause(step.a + 1, mount)
            await self._waits_for(step.a % 2 == 0, mount)

    async def _waits_for(self, running: bool, mount: Mount) -> None:
        """As `ecfs scrub` does in another terminal; for a while only, since nobody may begin one."""
        with trio.move_on_after(30):
            await mount.healer.scrubbing.until(running=running)
            if (mount.healer.scrubbing.run is not None) != running:
                raise Violation(f"a wait until scrubs are running: {running} ended too early")

    def _pause(self, number: int, mount: Mount) -> None:
        scrubbing = mount.healer.scrubbing
        try:
            [scrubbing.pause, scrubbing.resume, scrubbing.cancel][number % 3]()
        except RefusedError:
            self.world.done["pause: RefusedError"] += 1

    async def do_drill(self, step: Step, mount: Mount) -> None:
        """Whatever goes on: nothing may be called lost that is not. Somebody may interrupt it: the next goes on."""
        full, rate, patience = step.a % 3 == 0, [None, 1e4, 3e4, 1e6][step.c % 4], [math.inf, 20, 60][step.a // 3 % 3]
        with trio.move_on_after(patience) as scope:
            await self._drill(mount, full=full, restart=step.b % 4 == 0, rate=rate)
        if scope.cancelled_caught:
            self.world.done["drill: interrupted"] += 1
            await self._drill(mount, full=full is (step.b % 3 > 0), restart=False, rate=None)

    async def _drill(self, mount: Mount, *, full: bool, restart: bool, rate: float | None) -> None:
        try:
            report = await mount.healer.drill(full=full, restart=restart, rate=rate)
        except EcfsError as error:
            self.world.done[f"drill: {type(error).__name__}"] += 1
            return
        self.world.done["drill: resumed"] += report.resumed
        if report.lost and not self.world.was_dark_since(report.started_ns):
            raise Violation(f"a drill says that something is lost: {report.findings[:3]}")

    async def do_replace(self, step: Step, mount: Mount) -> None:
        world, slot = self.world, step.b % self.world.geometry.n
        old = world.places[slot]
        if old not in world.harmable():
            return
        whole = not world.suspects
        world.suspects.add(old)
        begun = self.begun.get(slot) if step.b // 32 % 4 else None
        if begun in world.places:
            begun = None  # it came to have the slot after all: what happens to it now is no matter of a new drive
        new = world.new_place() if begun is None else begun
        self._trouble(new, Random(step.a))
        async with trio.open_nursery() as nursery:
            if whole and step.b // 8 % 3 == 0:
                world.weather.slow.add(new)
                nursery.start_soon(self._darkness, step, mount)
            with trio.CancelScope() as scope:
                nursery.start_soon(self._interrupt, step, mount, f"memory:{new}", scope)
                await self._replace(mount, slot, new)
            self.adopt_places(mount)
            if scope.cancelled_caught and new not in world.places and step.a % 3:
                world.weather.slow.discard(new)
                await self._replace(mount, slot, new)
            scope.cancel()

    def _trouble(self, new: int, chance: Random) -> None:
        """The new disk may be slow, or a poor one. What an earlier replacement put on it may have rotted meanwhile."""
        world = self.world
        for _ in range(chance.randrange(4)):
            rot(world.stores[new], chance)
        trouble = chance.randrange(4)
        if trouble < 2:
            world.weather.slow.add(new)
        elif trouble == 2:
            world.weather.rates[new] = 0.05
            world.silent.add(new)

    async def _interrupt(self, step: Step, mount: Mount, url: str, scope: trio.CancelScope) -> None:
        """Somebody gives it up after a while, or just when the new drive has the slot."""
        members, slot = mount.engine.pool.members, step.b % self.world.geometry.n
        if step.c % 4 < 2:
            await trio.sleep(step.a % 40)
            scope.cancel()
        elif step.c % 4 == 2:
            while members[slot].url != url and not scope.cancel_called:
                await members.wait_change(1)
            scope.cancel()

    async def _darkness(self, step: Step, mount: Mount) -> None:
        """In the midst of it, more drives than may be lost stop answering for a while."""
        await trio.sleep(step.a % 80 / 10)
        if not self.world.brittle and not self.mending:
            self.disasters.darken(step)
            await trio.sleep(step.b % 50)
            await self.disasters.do_lights(step, mount)

    async def _replace(self, mount: Mount, slot: int, new: int) -> None:
        """new: a fresh place, or one that an earlier replacement of the slot came to fill in part, to go on with."""
        world = self.world
        begun = self.begun.get(slot) == new
        self.begun[slot] = new
        try:
            await mount.healer.replace(slot, f"memory:{new}", progress=Watcher())
        except EcfsError as error:
            world.done[f"replace: {type(error).__name__}"] += 1
        self.adopt_places(mount)
        if new in world.places:
            del self.begun[slot]
            world.done["replace: gone on with"] += begun

    async def do_mistake(self, step: Step, mount: Mount) -> None:
        """What people mistype: a slot that there is not, the place of another drive, one that is not empty."""
        world, slot = self.world, step.b % self.world.geometry.n
        other = world.places[(slot + 1) % world.geometry.n]
        full = world.new_place()
        world.stores[full].exists = True
        world.stores[full].write("s/00000001/00000001", b"somebody's")
        slot, place = [(world.geometry.n, full), (slot, other), (slot, full)][step.a % 3]
        try:
            await mount.healer.replace(slot, f"memory:{place}")
        except EcfsError as error:
            world.done[f"mistake: {type(error).__name__}"] += 1
        else:
            raise Violation(f"drive {slot} was replaced by place {place}, which is taken")

    def adopt_places(self, mount: Mount) -> None:
        """What `pool.toml` says after a replacement: where the drives are now. A new place is as suspect as the old."""
        for member in mount.engine.pool.members:
            old, new = self.world.places[member.slot], place_of(member.url)
            if old != new:
                self.world.places[member.slot] = new
                if old in self.world.suspects:
                    self.world.suspects.add(new)
                self.world.suspects.discard(old)

    # ---- whole again ------------------------------------------------------------------------------------------------

    async def do_mend(self, step: Step, mount: Mount) -> None:
        await self.mend(mount)

    async def mend(self, mount: Mount) -> None:
        """All drives back, no more faults, scrubbed, replaced where nothing else helps. Then nothing is suspect."""
        self.mending += 1
        try:
            await self._mend(mount)
        finally:
            self.mending -= 1

    async def _mend(self, mount: Mount) -> None:
        world = self.world
        world.calm()
        await settled(mount)
        await trio.sleep(NOTICED_WITHIN_S)
        world.weather.calm()  # a replacement in the background that began after the first may have got a poor disk
        world.reasons.clear()
        report = ScrubReport()
        forget_interrupted(mount)
        for attempt in range(ATTEMPTS):
            await self._rejoined(mount, attempt)
            check_ledger(world, mount)
            report = await self._scrubbed(mount)
            if not report.found and not self._away(mount):
                break
        else:
            raise Violation(f"after {ATTEMPTS} scrubs there is still something to do: {report.findings[:5]}")
        self._prove(mount)
        await self._drilled(mount)
        self.adopt_places(mount)
        world.whole_again()
        world.done["mended"] += 1

    def _away(self, mount: Mount) -> list[int]:
        return [m.slot for m in mount.engine.pool.members if not (m.up and m.in_w and m.state == "online")]

    async def _rejoined(self, mount: Mount, attempt: int) -> None:
        """Who can come back by himself does so; who can't is recreated by the first scrub, replaced after it."""
        try:
            await until(lambda: not self._away(mount) and not mount.engine.stalled, "drives come back", 60)
        except AssertionError:
            if attempt and not self._moved_away():
                for slot in [m.slot for m in mount.engine.pool.members if not m.up]:
                    self.world.done["replaced as hopeless"] += 1
                    await self._replace(mount, slot, self.world.new_place())

    def _moved_away(self) -> bool:
        """As a scrub asked for: what is not ours. Until then nothing may be made there (R22)."""
        stores = [self.world.stores[place] for place in self.world.places]
        if any("identity" in store.names for store in stores if store.is_littered()):
            raise Violation("a drive was made where something else lies")
        tidied = [store.tidy() for store in stores]
        return any(tidied)

    async def _scrubbed(self, mount: Mount) -> ScrubReport:
        try:
            report = await mount.healer.scrub()
        except RefusedError:  # one that was begun by an earlier step
            await until(lambda: mount.healer.running is None, "the scrub ends")
            report = await mount.healer.scrub()
        self._nothing_lost(report)
        return report

    def _prove(self, mount: Mount) -> None:
        """Every shard of every stripe lies on its drive, durable and right; the ledger says the same."""
        pool = mount.engine.pool
        counts = pool.db.ledger.counts(pool.members.out_slots())
        if counts.full != counts.total:
            raise Violation(f"after mending the ledger says {counts}")
        for stripe, slot, content_hash in present_shards(mount):
            self._prove_shard(stripe, content_hash, slot, place_of(pool.members[slot].url))

    async def _drilled(self, mount: Mount) -> None:
        """A drill comes to the same verdict, from what it reads through the drives."""
        if self.world.chance.random() < 0.5:
            report = await mount.healer.drill(full=self.world.chance.random() < 0.3, restart=True)
            if report.proven != report.stripes or report.found:
                raise Violation(f"after mending a drill says {report.findings[:3]}")
            self.world.done["drilled"] += 1

    def _prove_shard(self, stripe: int, content_hash: bytes, slot: int, place: int) -> None:
        key = shard_key("s", stripe)
        file = self.world.stores[place].durable_names.get(key)
        if file is None or file.durable < len(file.data):
            raise Violation(f"after mending {key} is not durable on drive {slot}")
        header = check_whole_shard(key, file.data)
        index = self.world.geometry.index_of(stripe & 0xFFFFFFFF, slot)
        if (header.content_hash, header.index) != (content_hash, index):
            raise Violation(f"after mending {key} on drive {slot} is another shard")


def forget_interrupted(mount: Mount) -> None:
    """A scrub that was interrupted: the next one would go on from where it was."""
    with suppress(RefusedError):
        mount.healer.scrubbing.cancel()


async def whole_scrub(mount: Mount) -> ScrubReport:
    """From the beginning."""
    forget_interrupted(mount)
    return await mount.healer.scrub()


def present_shards(mount: Mount) -> Iterator[tuple[int, int, bytes]]:
    """(stripe, slot, content hash) of every shard that the ledger counts on."""
    pool = mount.engine.pool
    for row in pool.db.ledger.facts(0, 100_000):
        if pool.db.files.live(row.id) > 0:
            missing = pool.db.ledger.missing_slots(row.id)
            yield from ((row.id, m.slot, row.hash) for m in pool.members if m.up and m.in_w and m.slot not in missing)


def check_ledger(world: World, mount: Mount) -> None:
    """Healthy means known: what the ledger counts on is there, unless something happened that only a scrub can find, or
    a moment ago."""
    since = trio.current_time() - NOTICED_WITHIN_S
    for stripe, slot, _ in present_shards(mount):
        place = place_of(mount.engine.pool.members[slot].url)
        if place in world.silent or world.brittle or world.wiped_at.get(place, 0.0) > since:
            continue
        if shard_key("s", stripe) not in world.stores[place].names:
            raise Violation(f"the ledger counts on stripe {stripe:016x} on drive {slot}, which has no such shard")


class Watcher:
    """Looks at the progress of a scrub: it may not run backwards, nor past its end."""

    def __init__(self) -> None:
        self._done = 0

    def __call__(self, progress: ScrubProgress) -> None:
        if not self._done <= progress.bytes_done <= progress.bytes_total:
            raise Violation(f"progress goes from {self._done} to {progress.bytes_done} of {progress.bytes_total}")
        if progress.eta_s is not None and progress.eta_s < 0:
            raise Violation(f"{progress.eta_s} s are left")
        self._done = progress.bytes_done
