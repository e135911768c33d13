"""Crash at the k-th drive operation: a workload with a model, a power cut, and a judge.

The workload is a list of steps on a few files. After each answered step the model's tree is a *moment*; a step that
syncs makes its moment the floor. After the cut, what the pool opens to must be one of the moments from the floor on
(the moment the cut step was heading for included), never a mix.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from ecfs.commit.engine import Engine
from ecfs.errors import EcfsError
from ecfs.journal.opened import OpenedPool
from ecfs.meta import Inode
from tests.memory_pool import MemoryPool

Tree = dict[bytes, bytes]
SMALL = {
    "stripe_size": 1 << 16,
    "seal_at": 1 << 16,
    "inline_at_most": 2048,
    "journal_limit": 1 << 14,
    "stripes_in_flight": 2,
    "compact_slack": 1 << 16,
    "pack_inline_at": 4096,
}


KINDS = ["write", "remove", "rename", "truncate", "sync", "idle", "checkpoint"]
WEIGHTS = [12, 2, 2, 1, 5, 1, 1]


class PowerCut(BaseException):
    """Not an Exception: nothing may catch it and go on."""


@dataclass
class Cut:
    """Counts drive operations over all drives; at number `at` the power goes for all of them."""

    at: int = 1 << 60
    seen: int = 0
    trace: list[str] = field(default_factory=list)

    def hook(self, slot: int) -> Callable[[str, str], None]:
        def operation(name: str, key: str) -> None:
            if name == "space":
                return  # changes nothing, and how often it is asked depends on the clock
            self.seen += 1
            self.trace.append(f"{self.seen} d{slot} {name} {key}")
            if self.seen >= self.at:
                raise PowerCut(self.trace[-1])

        return operation


@dataclass
class History:
    """The moments so far; floor: index of the newest one that was acknowledged as durable."""

    moments: list[Tree] = field(default_factory=lambda: [{}])
    floor: int = 0

    def answered(self, tree: Tree) -> None:
        self.moments.append(dict(tree))

    def allowed(self) -> list[Tree]:
        return self.moments[self.floor :]


class Workload:
    """Random small-file traffic: create, write, append, overwrite, truncate, rename over, remove, sync."""

    def __init__(self, seed: int, steps: int) -> None:
        self.chance = random.Random(seed)
        self.steps = steps
        self.tree: Tree = {}
        self.history = History()
        self.next_ino = 10

    async def run(self, engine: Engine) -> None:
        for _ in range(self.steps):
            await self.step(engine)

    async def step(self, engine: Engine) -> None:
        kind = self.chance.choices(KINDS, WEIGHTS)[0]
        if kind == "sync":
            floor = len(self.history.moments) - 1
            await engine.sync()
            self.history.floor = floor
        elif kind == "idle":
            await trio.sleep(self.chance.choice([0.3, 2]))
        elif kind == "checkpoint":
            engine.request_checkpoint()
        else:
            await engine.admit(40_000 if kind == "write" else 0)
            before = dict(self.tree)
            # The cut can only fall into drive operations, so a step is either wholly answered or never began.
            with engine.db.atomic():
                getattr(self, kind)(engine)
            engine.changed()
            if self.tree != before:
                self.history.answered(self.tree)

    def _name(self) -> bytes:
        return b"f%d" % self.chance.randrange(5)

    def _ino(self, engine: Engine, name: bytes) -> int:
        ino = engine.db.names.lookup(1, name)
        if ino is None:
            ino, self.next_ino = self.next_ino, self.next_ino + 1
            engine.db.names.add_inode(Inode(ino, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0))
            engine.db.names.link(1, name, ino)
        return ino

    def write(self, engine: Engine) -> None:
        name = self._name()
        old = self.tree.get(name, b"")
        offset = self.chance.choice([0, len(old), self.chance.randrange(len(old) + 1)])
        payload = self.chance.randbytes(self.chance.choice([1, 100, 1500, 9000, 40_000]))
        ino = self._ino(engine, name)
        engine.write(ino, offset, payload)
        new = old[:offset] + payload + old[offset + len(payload) :]
        engine.db.names.update_inode(ino, size=len(new))
        self.tree[name] = new

    def remove(self, engine: Engine) -> None:
        name = self._name()
        if name in self.tree:
            ino = engine.db.names.unlink(1, name)
            engine.remove(ino)
            engine.db.names.remove_inode(ino)
            del self.tree[name]

    def rename(self, engine: Engine) -> None:
        source, target = self._name(), self._name()
        if source not in self.tree or source == target:
            return
        if target in self.tree:
            ino = engine.db.names.unlink(1, target)
            engine.remove(ino)
            engine.db.names.remove_inode(ino)
        engine.db.names.link(1, target, engine.db.names.unlink(1, source))
        self.tree[target] = self.tree.pop(source)

    def truncate(self, engine: Engine) -> None:
        name = self._name()
        if name in self.tree:
            size = self.chance.randrange(len(self.tree[name]) + 1)
            ino = self._ino(engine, name)
            engine.truncate(ino, size)
            engine.db.names.update_inode(ino, size=size)
            self.tree[name] = self.tree[name][:size]


async def read_tree(engine: Engine) -> Tree:
    tree = {}
    for _, name, inode in engine.db.names.entries_with_inodes(1, 0, 1000):
        tree[name] = await engine.read(inode.ino, 0, inode.size)
    return tree


async def run_cut(pool: MemoryPool, work: Callable[[Engine], object], cut: Cut, opening: bool = False) -> bool:
    """Open, work, close cleanly, with the cut somewhere in between. True if it struck.

    opening: count operations of the opening, too.
    """
    handles = pool.handles

    def hooked() -> list:  # type: ignore[type-arg]
        drives = handles()
        for slot, drive in enumerate(drives):
            drive.on_operation = cut.hook(slot)
        return drives

    pool.handles = hooked  # type: ignore[method-assign]
    try:
        async with pool.engine() as engine:
            await work(engine)  # type: ignore[misc]
    except BaseException as error:
        if not _is_cut(error):
            raise
        return True
    finally:
        pool.handles = handles  # type: ignore[method-assign]
    return False


def _is_cut(error: BaseException) -> bool:
    """A power cut, alone or in a group with what it caused in other tasks."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_cut(each) for each in error.exceptions)
    return isinstance(error, PowerCut)


def power_off(pool: MemoryPool, seed: int) -> None:
    """Each drive keeps what was synced and a prefix of the rest, a different one each."""
    chance = random.Random(seed)
    for store in pool.stores:
        style = chance.random()
        store.crash(
            (lambda size: 0)
            if style < 0.3
            else (lambda size: size)
            if style < 0.5
            else lambda size: chance.randrange(size + 1)
        )


async def recover(pool: MemoryPool, absent: Iterable[int]) -> tuple[Tree, OpenedPool]:
    """Open without `absent` drives and read everything; then leave as a kill would."""
    for slot in absent:
        pool.stores[slot].vanish()
    try:
        async with pool.engine(clean=False) as engine:
            return await read_tree(engine), engine.pool
    finally:
        for slot in absent:
            pool.stores[slot].come_back()


def describe(tree: Tree) -> str:
    return ", ".join(f"{name.decode()}:{len(content)}" for name, content in sorted(tree.items()))


async def judge(pool: MemoryPool, history: History, chance: random.Random, label: str) -> None:
    """Recover twice with different allowed sets of missing drives: a valid moment, and the same one both times."""
    n, m = pool.geometry.n, pool.geometry.m
    first, _ = await recover(pool, chance.sample(range(n), chance.randint(0, m)))
    if first not in history.allowed():
        near = [i for i, moment in enumerate(history.moments) if moment == first]
        raise AssertionError(
            f"{label}: [{describe(first)}] is no allowed moment (floor {history.floor} of {len(history.moments) - 1},"
            f" equals {near})"
        )
    pool.crash()
    second, _ = await recover(pool, chance.sample(range(n), chance.randint(0, m)))
    assert second == first, f"{label}: the second recovery disagrees: [{describe(second)}] after [{describe(first)}]"


async def fresh(scratch: Path, **options: int) -> MemoryPool:
    pool = MemoryPool(scratch, **{**SMALL, **options})
    await pool.create()
    return pool


__all__ = ["Cut", "EcfsError", "Workload", "fresh", "judge", "power_off", "run_cut"]
