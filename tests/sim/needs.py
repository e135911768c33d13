"""Calamities in the midst of which people go on: what they do then must cost nothing that could be had back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from ecfs import shard
from ecfs.errors import RefusedError
from ecfs.heal.report import LOST, ScrubReport
from ecfs.stripes.fact import StripeFact
from tests.sim.calamities import Kind, forge
from tests.sim.disasters import settled, until
from tests.sim.healing import NOTICED_WITHIN_S, Healing, whole_scrub
from tests.sim.history import Violation, read_tree
from tests.sim.ruins import Ruins
from tests.sim.store import put_image, take_image
from tests.sim.world import Mount


class Needs(Ruins):
    """All calamities."""

    def kinds(self) -> list[Kind]:
        kinds = super().kinds()
        if not self.world.brittle and not self.world.suspects:
            kinds += [
                self.too_many_in_turn,
                self.replaced_in_need,
                self.checkpoints_lost,
                self.forgeries,
                self.forgeries,
            ]
        return kinds

    # ---- too many drives, one after the other ---------------------------------------------------------------------

    async def too_many_in_turn(self) -> None:
        """One drive has lost some shards when two others go away. One of those comes back empty, or with shards only;
        somebody is replaced. When both are back as they were, all that could not be decoded meanwhile can be."""
        world, chance = self.world, self.world.chance
        holey, away, emptied = chance.sample(world.places, 3)
        slot = chance.choice([slot for slot, place in enumerate(world.places) if place not in (away, emptied)])
        with self._places_kept():
            async with world.mounted() as mount:
                if not self._lose_some(mount, holey):
                    return
                image = take_image(world.stores[emptied], {})
                world.stores[away].vanish()
                world.stores[emptied].vanish()
                await self._out(mount, 2)
                self._demand_loss(await whole_scrub(mount), "a scrub")
                self._empty(emptied)
                world.stores[emptied].come_back()
                await whole_scrub(mount)
                if "identity" in world.stores[emptied].names:
                    raise Violation("a deleted drive was recreated although stripes need what it may still bring back")
                place = world.new_place()
                self._demand_loss(await mount.healer.replace(slot, f"memory:{place}"), "a replacement")
                put_image(world.stores[emptied], image)
                world.stores[away].come_back()
                await self._out(mount, 0)
                if (report := await whole_scrub(mount)).lost:
                    raise Violation(f"all drives are back, and a scrub says {report.findings[:3]}")
                self.history.recovered(await read_tree(mount.fs), "after too many drives in turn")

    def _empty(self, place: int) -> None:
        store = self.world.stores[place]
        if self.world.chance.random() < 0.5:
            store.wipe()
        for key in [key for key in store.names if not key.startswith(("s/", "c/"))]:
            store.drop(key)

    async def replaced_in_need(self) -> None:
        """One drive has lost some shards, and nobody knows; two are away, and one of those is replaced. Then the other
        comes back."""
        world, chance = self.world, self.world.chance
        holey, away, dead = chance.sample(world.places, 3)
        with self._places_kept():
            async with world.mounted() as mount:
                if not self._lose_some(mount, holey):
                    return
                world.stores[away].vanish()
                world.stores[dead].vanish()
                await self._out(mount, 2)
                report = await mount.healer.replace(world.places.index(dead), self._new_url())
                self._demand_loss(report, "a replacement")
                Healing(world).adopt_places(mount)
                world.stores[away].come_back()
                await self._out(mount, 0)
                if (report := await whole_scrub(mount)).lost:
                    raise Violation(f"enough drives are back, and a scrub says {report.findings[:3]}")
                self.history.recovered(await read_tree(mount.fs), "after a replacement in need")

    def _lose_some(self, mount: Mount, place: int) -> list[int]:
        """Some stripes lose their shard on this drive; nobody knows yet."""
        names = self.world.stores[place].names
        there = [stripe for stripe in self._live(mount) if shard.shard_key("s", stripe) in names]
        chosen = self.world.chance.sample(there, min(3, len(there)))
        for stripe in chosen:
            self.world.stores[place].drop(shard.shard_key("s", stripe))
        return chosen

    async def _out(self, mount: Mount, count: int) -> None:
        """Until so many drives are out, and everybody knows."""
        members = mount.engine.pool.members
        await trio.sleep(NOTICED_WITHIN_S)
        await until(lambda: len(members.out_slots()) == count, f"{count} drives are out")
        await settled(mount)

    def _demand_loss(self, report: ScrubReport, who: str) -> None:
        if not report.lost or report.exit_status != 3:
            raise Violation(f"stripes can't be decoded now, and {who} says {report.findings[:3]}")

    @contextmanager
    def _places_kept(self) -> Iterator[None]:
        """A replacement is undone, too."""
        places = list(self.world.places)
        try:
            yield
        finally:
            self.world.places[:] = places

    # ---- no checkpoint can be read ----------------------------------------------------------------------------------

    async def checkpoints_lost(self) -> None:
        """Both checkpoints, while the pool is in use: programs notice nothing, no new drive is taken in, and the
        checkpoint of a clean end makes up for it."""
        world = self.world
        with self._places_kept():
            async with world.mounted() as mount:
                async with mount.engine.checkpointer.lock:
                    before = list(mount.engine.pool.checkpoints)
                    for fact in self._checkpoint_facts(mount):
                        for place in world.chance.sample(self._with(fact.key), world.geometry.m + 1):
                            world.stores[place].drop(fact.key)
                report = await whole_scrub(mount)
                lost = [finding for finding in report.findings if finding.state == LOST]
                same = before == mount.engine.pool.checkpoints
                if any(finding.kind != "checkpoint" for finding in lost) or (same and not lost):
                    raise Violation(f"checkpoints were lost, and a scrub says {report.findings[:3]}")
                await self._replace(mount, before)
                self.history.recovered(await read_tree(mount.fs), "without a checkpoint")
                if not await mount.close():
                    raise Violation("without its checkpoints a pool could not be closed")
            world.kill()
            async with world.mounted() as mount:
                self.history.recovered(await read_tree(mount.fs), "after a checkpoint that made up for those lost")

    async def _replace(self, mount: Mount, checkpoints: Sequence[object]) -> None:
        """checkpoints: as long as these are all there are, it must be refused."""
        try:
            await mount.healer.replace(self.world.chance.randrange(self.world.geometry.n), self._new_url())
        except RefusedError:
            self.world.done["refused for want of a checkpoint"] += 1
        else:
            if checkpoints == mount.engine.pool.checkpoints:
                raise Violation("a drive was replaced by one that got no checkpoint")
        Healing(self.world).adopt_places(mount)

    def _new_url(self) -> str:
        return f"memory:{self.world.new_place()}"

    def _checkpoint_facts(self, mount: Mount) -> list[StripeFact]:
        pool = mount.engine.pool
        return [fact for checkpoint in pool.checkpoints for fact in checkpoint.facts(pool.geometry)]

    # ---- shards with right checksums and wrong bytes ----------------------------------------------------------------

    async def forgeries(self) -> None:
        """Of a checkpoint, or of data. A drill finds it, and calls nothing lost. Nothing is read before."""
        world, geometry = self.world, self.world.geometry
        async with world.mounted() as mount:
            await whole_scrub(mount)
            of_data = world.chance.random() < 0.5
            stripes = self._live(mount) if of_data else [fact.id for fact in self._checkpoint_facts(mount)]
            if not stripes:
                return
            stripe = world.chance.choice(stripes)
            index = world.chance.randrange(geometry.k) if of_data else world.chance.randrange(geometry.k, geometry.n)
            place = self._place(stripe, index)
            forge(world.stores[place].raw(shard.shard_key("s" if of_data else "c", stripe)), world.chance)
            reports = [await mount.healer.drill(restart=True) for _ in range(2)]
            findings = [report.findings[:3] for report in reports]
            if any(report.lost for report in reports):
                raise Violation(f"one shard of {stripe:016x} was forged: {findings}")
            if not of_data and stripe not in [fact.id for fact in self._checkpoint_facts(mount)]:
                return  # it was not looked at, perhaps
            if not reports[0].found or (reports[1].found and not of_data):
                raise Violation(f"a forged shard of {stripe:016x} was not found, or not put right: {findings}")
