"""Runs a list of steps in a world: mounts, lets programs work, breaks things, recovers, and judges every recovery."""

from __future__ import annotations

import gc
import stat
from collections.abc import Sequence
from itertools import combinations

import trio

from ecfs.meta import cross_check
from tests.sim.client import Client
from tests.sim.disasters import Disasters
from tests.sim.healing import Healing, check_ledger
from tests.sim.history import History, Violation, read_tree
from tests.sim.looking import Looking
from tests.sim.model import ROOT, Moment, Tree, new_model
from tests.sim.needs import Needs
from tests.sim.rivals import Rivals
from tests.sim.steps import FILE_OPERATIONS, HEALING, Step
from tests.sim.world import Mount, World, is_cut

CRASH_WITHIN = 100
"""Drive operations after a crash step, at most, until the power is cut."""
LIFE_S = 5_000
"""Simulated seconds that one mount may take: what lasts longer waits for ever."""
LIVES_BETWEEN_COLLECTIONS = 10
"""Collecting takes as long as half a mount; what ten leave behind is some MiB."""
IN_BACKGROUND = ("scrub", "replace", "drill", "compact")
"""Steps that may go on while others follow."""
PATIENCE = 12
"""Steps after which the power is cut in any case."""


class Driver:
    """One run."""

    def __init__(self, world: World, steps: Sequence[Step]) -> None:
        self.world = world
        self.steps = steps
        self.at = 0
        self.history = History()
        self.model = new_model(stat.S_IFDIR | 0o755, 0, world.clock.wall_ns)
        self.cut_at = 1 << 60
        self.leave_cleanly = False
        self.mount: Mount | None = None
        self.disasters = Disasters(world)
        self.healing = Healing(world)
        self.looking = Looking(world)
        self.calamities = Needs(world, self.history)
        self.rivals = Rivals(world, self.history, self.model)
        self._contest: Step | None = None

    async def run(self) -> None:
        await self.world.create()
        await self._first_look()
        lives = 0
        while self.at < len(self.steps):
            await self._life()
            lives += 1
            if lives % LIVES_BETWEEN_COLLECTIONS == 0:
                gc.collect()
        await self._prove()

    async def _first_look(self) -> None:
        """The root's times are what `create_pool` made them."""
        async with self.world.mounted() as mount:
            tree = await read_tree(mount.fs)
        self.world.kill()
        self.history.moments = [Moment({ROOT: tree[b""]}, {})]

    # ---- from one mount to the next -------------------------------------------------------------------------------

    async def _life(self) -> None:
        if self.world.chance.random() < 0.3:
            await self._look_and_die()
        if self.world.chance.random() < (0.2 if self.world.suspects or self.world.brittle else 0.6):
            await self.calamities.happen()
        cut = await self._until_it_ends(self._mount_and_work)
        if cut:
            self.world.done["power cut"] += 1
            self.world.power_off()
        else:
            self.world.kill()
        self._note_who_is_out()
        if self._contest is not None and self._contest.kind == "race" and not cut:
            await self.rivals.race(self._contest)
        self._contest = None
        self.cut_at = 1 << 60
        self.disasters.after_a_life()

    def _note_who_is_out(self) -> None:
        """Who is not in W when a process ends lacks something from then on. Nothing but faults may have done that."""
        mount, self.mount = self.mount, None
        if mount is None:
            return
        out = {self.world.places[m.slot] for m in mount.engine.pool.members if not m.in_w}
        if out - self.world.suspects and not self.world.brittle:
            raise Violation(f"step {self.at}: drives that nothing happened to are out: {out - self.world.suspects}")
        self.world.suspects |= out

    async def _until_it_ends(self, work: object) -> bool:
        """True if it was a power cut that ended it."""
        try:
            with trio.fail_after(LIFE_S):
                await work()  # type: ignore[operator]
        except BaseException as error:
            if is_cut(error):
                return True
            raise
        return False

    async def _look_and_die(self) -> None:
        """Open with some drives missing, look, be killed: what is seen now must be what is seen ever after."""
        missing = self.disasters.some_missing()
        async with self.world.without(missing), self.world.mounted() as mount:
            await self._judge(mount, f"a look without places {missing}")
        self.world.done["looks"] += 1
        self.world.power_off()

    async def _mount_and_work(self) -> None:
        missing = self.disasters.some_missing()
        self.world.suspects.update(missing)
        for place in self.world.places:
            self.world.stores[place].reachable = place not in missing
        async with self.world.mounted(go_on=self.world.chance.random() < 0.7) as mount:
            await self._judge(mount, f"a mount without places {missing}")
            self.leave_cleanly, self.mount = True, mount
            async with trio.open_nursery() as background:
                await self._work(mount, background)
                if not self.leave_cleanly:
                    background.cancel_scope.cancel()
            if self._contest is not None and self._contest.kind == "rival":
                await self.rivals.do(self._contest, mount)
            elif self.leave_cleanly:
                await self._leave(mount)

    async def _judge(self, mount: Mount, label: str) -> Tree:
        """Is it a moment that was allowed? Then it is the only one from now on."""
        tree = await read_tree(mount.fs)
        moment = self.history.recovered(tree, f"step {self.at}, {label}")
        problems = list(cross_check(mount.engine.db))
        if problems:
            raise Violation(f"step {self.at}, {label}: {problems[:5]}")
        check_ledger(self.world, mount)
        self.history.restart(moment)
        self.model.restart(moment)
        self.world.done["recoveries"] += 1
        return tree

    # ---- one mount --------------------------------------------------------------------------------------------------

    async def _work(self, mount: Mount, background: trio.Nursery) -> None:
        client = Client(self.world, mount, self.model, self.history)
        while self.at < len(self.steps):
            if self.at >= self.cut_at:
                self.world.cut_now()
            step = self.steps[self.at]
            self.at += 1
            self.world.weather.note(f"step {self.at - 1} {step}")
            if step.kind in FILE_OPERATIONS:
                await self._operate(client, step, background)
            elif step.kind in ("kill", "remount"):
                self.leave_cleanly = step.kind == "remount"
                return
            elif step.kind == "crash":
                self._arm(step)
            elif step.kind in ("rival", "race"):
                self.leave_cleanly = False
                self._contest = step
                return
            else:
                await self._meddle(step, mount, background)

    async def _operate(self, client: Client, step: Step, background: trio.Nursery) -> None:
        if step.wait or len(background.child_tasks) > 4:
            await client.do(step)
        else:
            background.start_soon(client.do, step)

    async def _meddle(self, step: Step, mount: Mount, background: trio.Nursery) -> None:
        part: Looking | Healing | Disasters = self.healing if step.kind in HEALING else self.disasters
        if step.kind == "status":
            part = self.looking
        self.world.done[step.kind] += 1
        if step.wait or step.kind not in IN_BACKGROUND:
            await part.do(step, mount)
        else:
            background.start_soon(part.do, step, mount)

    def _arm(self, step: Step) -> None:
        if not self.world.fuse.armed:
            self.world.fuse.left = step.a % CRASH_WITHIN
            self.cut_at = self.at + PATIENCE

    async def _leave(self, mount: Mount) -> None:
        number = self.history.newest
        clean = await mount.close()
        if clean:
            self.history.durable(number)
        elif not self.world.reasons:
            raise Violation(f"step {self.at}: closing could not make everything durable")

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def _prove(self) -> None:
        """Everything is whole again, and can be read without any two drives."""
        self.world.calm()
        async with self.world.mounted() as mount:
            await self._judge(mount, "the end")
            await self.healing.mend(mount)
            await self._judge(mount, "the end, mended")
            if not await mount.close():
                raise Violation("the last close could not make everything durable")
        self.world.kill()
        for pair in combinations(self.world.places, self.world.geometry.m):
            async with self.world.without(pair), self.world.mounted() as mount:
                await self._judge(mount, f"the end, without places {pair}")
            self.world.kill()
