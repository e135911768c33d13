"""Two processes that both believe the pool is theirs: on storage nodes only the fence tells them apart (R2).

The one that opened last is right. The other must hear of it before it acknowledges anything more, whatever it was
doing, and whenever it wakes up.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import replace

import trio

from ecfs.errors import EcfsError, FencedError, NotEnoughDrivesError, PoolLockedError, StalledError
from tests.sim.healing import NOTICED_WITHIN_S
from tests.sim.history import SOMEBODY, History, Violation, difference, read_tree
from tests.sim.model import ROOT, Model, Moment, Tree
from tests.sim.steps import Step
from tests.sim.world import Mount, World

LOST_THE_POOL = (FencedError, StalledError, NotEnoughDrivesError)


class Rivals:
    """Steps that need drives without locks."""

    def __init__(self, world: World, history: History, model: Model) -> None:
        self.world = world
        self.history = history
        self.model = model

    async def do(self, step: Step, mount: Mount) -> None:
        """Another process opens the pool under the feet of `mount`, which is paused meanwhile half of the time."""
        await self._beforehand(step, mount)
        pause = trio.Event() if step.a % 2 else None
        self._pause(mount, pause)
        try:
            async with self.world.mounted() as rival:
                await self._take_over(rival, step)
                if pause is not None:
                    pause.set()
                    self._pause(mount, None)
                await self._must_have_lost(mount, b"old %d" % step.c)
                await rival.engine.sync()
                self._same(await read_tree(rival.fs))
                self.history.durable(self.history.newest)
        except PoolLockedError:
            if not any(store.lockable for store in self.world.stores):
                raise
            self.world.done["rival: kept out by a lock"] += 1
        finally:
            self._pause(mount, None)
            if pause is not None:
                pause.set()
            self.world.weather.breeze = 0.0
            for store in self.world.stores:
                store.lockable = self.world.lockable

    async def _beforehand(self, step: Step, mount: Mount) -> None:
        """One drive may be on its way back, slowly; or it is a directory, whose lock the other process takes."""
        world = self.world
        if step.b % 3 == 0 or (place := world.harm(step.b)) is None:
            return
        store = world.stores[place]
        store.vanish()
        await trio.sleep(NOTICED_WITHIN_S)
        store.come_back()
        if step.b % 3 == 1:
            store._end_attachments()
            world.weather.breeze = 0.6
            await trio.sleep(world.chance.uniform(0, 10))
        else:
            store.lockable = True

    def _pause(self, mount: Mount, event: trio.Event | None) -> None:
        for drive in mount.drives:
            drive.paused = event

    async def _take_over(self, rival: Mount, step: Step) -> None:
        tree = await read_tree(rival.fs)
        moment = self.history.recovered(tree, "taking the pool over")
        self.history.restart(moment)
        self.model.restart(moment)
        name = b"new %d" % step.c
        inode = await rival.fs.namespace.create(ROOT, name, 0o600, SOMEBODY, exclusive=True)
        self.model.create(ROOT, name, stat.S_IFREG | 0o600, inode.ino, exclusive=True)
        self.history.answered(self.model.moment())
        await rival.engine.sync()
        self.history.durable(self.history.newest)

    async def _must_have_lost(self, mount: Mount, name: bytes) -> None:
        try:
            await mount.fs.namespace.create(ROOT, name, 0o600, SOMEBODY, exclusive=True)
            await mount.engine.sync()
        except LOST_THE_POOL:
            self.world.done["fenced"] += 1
        else:
            raise Violation("a process that lost the pool acknowledged an fsync")
        await trio.sleep(5)

    def _same(self, tree: object) -> None:
        if tree != self.model.tree():
            raise Violation("a process that lost the pool changed it")

    async def race(self, step: Step) -> None:
        """Two processes open the pool at once and each make a file: whatever was acknowledged is there afterwards."""
        names = (b"left %d" % step.a, b"right %d" % step.b)
        acknowledged: list[bytes] = []
        weather = self.world.weather
        weather.only, weather.rates = frozenset({"latency"}), dict.fromkeys(self.world.places, 0.3)
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(self._open_and_make, name, acknowledged)
        weather.only, weather.rates = frozenset(), {}
        self.world.kill()
        self.world.done[f"races won by {len(acknowledged)}"] += 1
        async with self.world.mounted() as mount:
            tree = await read_tree(mount.fs)
        self.world.kill()
        if missing := [name for name in acknowledged if b"/" + name not in tree]:
            raise Violation(f"acknowledged by one of two racing processes, and gone: {missing}")
        self._must_be_known(tree, names)
        self.history.restart(moment_of(tree))
        self.model.restart(moment_of(tree))

    async def _open_and_make(self, name: bytes, acknowledged: list[bytes]) -> None:
        try:
            async with self.world.mounted() as mount:
                await mount.fs.namespace.create(ROOT, name, 0o600, SOMEBODY, exclusive=True)
                await mount.engine.sync()
                acknowledged.append(name)
                await trio.sleep(self.world.chance.uniform(0, 2))
        except* EcfsError:  # bare from opening, in a group from the tasks of what was opened
            self.world.done["race: refused"] += 1

    def _must_be_known(self, tree: Tree, names: Iterable[bytes]) -> None:
        """But for what the race made, it is a moment from before."""
        rest = {path: node for path, node in tree.items() if path not in {b"/" + name for name in names}}
        for moment in self.history.moments:
            before = moment.tree()
            before[b""] = replace(before[b""], mtime_ns=rest[b""].mtime_ns)
            if before == rest:
                return
        raise Violation(f"a race changed the tree: {difference(self.history.moments[-1].tree(), rest)}")


def moment_of(tree: Tree) -> Moment:
    inos = {path: node.ino for path, node in tree.items()}
    names = {
        (inos[path.rpartition(b"/")[0]], path.rpartition(b"/")[2]): node.ino for path, node in tree.items() if path
    }
    return Moment({node.ino: node for node in tree.values()}, names)
