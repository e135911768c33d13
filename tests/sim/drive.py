"""A drive of the simulated world: a MemoryDrive under weather. What each fault does: `faults.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TypeVar

import trio
import trio.lowlevel
from trio.testing import MockClock

from ecfs.drive.base import Buffer, check_key, check_segment
from ecfs.drive.begun import Gathering, Timed
from ecfs.drive.fence import judge
from ecfs.drive.memory import Hook, MemoryDrive
from ecfs.drive.wrapper import DriveWrapper
from ecfs.errors import DriveUnreachableError
from ecfs.shard import ShardHeader
from tests.sim.faults import FAULTS, Call, apt
from tests.sim.store import SimStore

T = TypeVar("T")

TRACE_LINES = 2000
HELD_UP_S = (0.01, 0.3)
ENDLESS = 200_000
"""Notes within one moment of simulated time that no honest work makes."""

Script = Callable[[int, int, str], str | None]
"""(number of the operation over all drives, place, operation) → the fault it meets."""


class PowerCut(BaseException):
    """Not an Exception: nothing may catch it and go on."""


@dataclass
class Weather:
    """Which faults strike where, and what was seen of it.

    rates: per place, how likely an operation there meets a fault. only: if not empty, the faults that may strike.
    breeze: how likely any operation anywhere is slow, within its deadline: no fault, but it stirs the order of things.
    """

    chance: Random
    rates: dict[int, float] = field(default_factory=dict)
    only: frozenset[str] = frozenset()
    breeze: float = 0.0
    slow: set[int] = field(default_factory=set)
    """Places where every operation is."""
    read_s: tuple[float, float] | None = None
    """How long a read takes, from and to; None: no time at all. A drive whose reads take none is to the reader one
    that it knows nothing of: it waits longer for it and never reads straight."""
    held_up: float = 0.0
    """How likely something else holds up the event loop while an answer is on its way: a long query, a collection."""
    script: Script | None = None
    cut: str = ""
    """Where the power was cut: from then on nothing is answered, though it was begun before."""
    struck: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    seen: int = 0
    now: float = 0.0
    at_once: int = 0
    notes: list[tuple[float, tuple[object, ...]]] = field(default_factory=list)
    """The newest lines of the trace: simulated time, and the words. Few are ever read, so they are joined late."""

    @property
    def trace(self) -> list[str]:
        return [f"{now:.4f} {' '.join(map(str, words))}" for now, words in self.notes]

    def draw(self, place: int, operation: str, key: str | None) -> str | None:
        """The fault that this operation meets, None for most."""
        self.seen += 1
        self.operations[operation] += 1
        fault = self._fault(place, operation)
        self.note(self.seen, f"p{place}", operation, key or "", fault or "")
        if fault is not None:
            self.struck[fault] += 1
        return fault

    def _fault(self, place: int, operation: str) -> str | None:
        if self.script is not None:
            return self.script(self.seen, place, operation)
        rate = self.rates.get(place, 0.0)
        if not rate or self.chance.random() >= rate:
            is_slow = place in self.slow or (self.breeze and self.chance.random() < self.breeze)
            return "latency" if is_slow else None
        kinds = [kind for kind in apt(operation) if not self.only or kind in self.only]
        return self.chance.choice(kinds) if kinds else None

    def calm(self) -> None:
        """No more faults by chance, and nobody is slow."""
        self.rates.clear()
        self.slow.clear()
        self.breeze = self.held_up = 0.0

    async def hold_up(self) -> None:
        if self.held_up and self.chance.random() < self.held_up:
            clock = trio.lowlevel.current_clock()
            assert isinstance(clock, MockClock)
            clock.jump(self.chance.uniform(*HELD_UP_S))
            await trio.lowlevel.checkpoint()  # what was due by then comes first

    def note(self, *words: object) -> None:
        now = trio.current_time()
        self.at_once = self.at_once + 1 if now == self.now else 0
        self.now = now
        if self.at_once > ENDLESS:
            raise AssertionError(f"something goes round and round without a pause: {words}")
        self.notes.append((now, words))
        if len(self.notes) > 2 * TRACE_LINES:
            del self.notes[:-TRACE_LINES]


class BegunTask:
    """A write in a task of its own, which is what a thread is here. A power cut in it is for whoever asks."""

    def __init__(self, work: Callable[[], Awaitable[None]], gathering: Gathering) -> None:
        self._scope = trio.CancelScope()
        self._error: BaseException | None = None
        self._work = work
        self._timed = Timed(gathering.expect())
        trio.lowlevel.spawn_system_task(self._run)

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._work()
        except trio.Cancelled:
            raise
        except BaseException as error:
            self._error = error
        self._timed.done()

    @property
    def seconds(self) -> float | None:
        return self._timed.seconds

    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def give_up(self) -> None:
        self._scope.cancel()


class SimDrive(DriveWrapper):
    """One handle on a SimStore. place: its number in the world, which outlives slots.

    on_operation: as a MemoryDrive's; it may also cut the power.
    """

    inner: MemoryDrive

    def __init__(
        self,
        store: SimStore,
        weather: Weather,
        place: int,
        *,
        slot: int | None = None,
        on_operation: Hook | None = None,
    ) -> None:
        super().__init__(MemoryDrive(store, name=str(place), slot=slot, on_operation=self._hook))
        self.store = store
        self.weather = weather
        self.place = place
        self.fail_flush = False
        self.paused: trio.Event | None = None
        """While set, the process that holds this handle is stopped (SIGSTOP): it asks nothing until the event."""
        self._on_operation = on_operation

    def _hook(self, operation: str, key: str) -> None:
        if self._on_operation is not None:
            self._on_operation(operation, key)
        if self.fail_flush and operation.endswith(":flush"):
            self.fail_flush = False
            raise DriveUnreachableError("fsync failed: Input/output error")

    @property
    def abandoned(self) -> int:
        self.store.settle_late()
        return len(self.store.late)

    # ---- every operation comes by here ------------------------------------------------------------------------------

    async def meet(self, call: Call[T]) -> T:
        if self.paused is not None:
            await self.paused.wait()
        if self.store.frozen is not None:
            await self.store.frozen.wait()
        self.store.settle_late()
        if call.operation in ("list", "put", "append") and (call.key or "")[:2] in self.store.gone:
            await trio.lowlevel.checkpoint()
            raise DriveUnreachableError("its directory was deleted", slot=self.slot, key=call.key)
        fault = self.weather.draw(self.place, call.operation, call.key)
        result: T = await (call.go() if fault is None else FAULTS[fault](self, call))
        if self.weather.cut:
            raise PowerCut(self.weather.cut)
        return result

    async def around(self, operation: str, key: str | None, call: Callable[[], Awaitable[T]]) -> T:
        return await self.meet(Call(operation, key, call))

    async def close(self) -> None:
        await self.inner.close()

    async def create(self, blobs: Mapping[str, bytes], *, filesystem: str = "") -> None:
        await self.meet(Call("create", None, partial(self.inner.create, blobs, filesystem=filesystem)))

    async def alive(self) -> None:
        """A node says, too, that it is promised to another writer."""
        await super().alive()
        if not self.store.lockable and self.inner._writer is not None:
            judge(self.store.fence, self.inner._writer)

    async def is_vacant(self) -> bool:
        return await super().is_vacant() and not self.store.strays

    async def strays(self, limit: int = 1000) -> list[str]:
        return [*await super().strays(limit), *self.store.strays][:limit]

    async def prepare(self, epochs: Sequence[int]) -> None:
        await super().prepare(epochs)
        self.store.gone.clear()

    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        data = b"".join(buffers)
        await self.meet(Call("put", key, partial(self.inner.put, key, buffers, replace=replace), data))

    def begin_put(
        self, key: str, buffers: Sequence[Buffer], gathering: Gathering, *, replace: bool = False
    ) -> BegunTask | None:
        """As on a directory, where a thread does it; every third place is like a node, which knows only `put`."""
        check_key(key)
        if self.place % 3 == 2:
            return None
        return BegunTask(partial(self.put, key, buffers, replace=replace), gathering)

    async def sync(self) -> None:
        """Broken off, whenever that is, it voids what was put, as on a directory; a node goes on with it."""
        try:
            await super().sync()
        except trio.Cancelled:
            if self.place % 3 != 2:
                self.inner.void_puts()
            raise

    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        async def go() -> list[bytes]:
            if self.weather.read_s is not None:
                await trio.sleep(self.weather.chance.uniform(*self.weather.read_s))
                await self.weather.hold_up()
            found = await self.inner.read(key, ranges)
            self.store.demand_readable(key, ranges)
            return found

        return await self.meet(Call("read", key, go))

    async def verify(self, key: str) -> ShardHeader:
        async def go() -> ShardHeader:
            header = await self.inner.verify(key)
            self.store.demand_readable(key, [(0, -1)])
            return header

        return await self.meet(Call("verify", key, go))

    async def append(self, segment: str, offset: int, record: Buffer) -> None:
        go = partial(self.inner.append, segment, offset, record)
        await self.meet(Call("append", segment, go, bytes(record), offset))

    def begin_append(self, segment: str, offset: int, record: Buffer, gathering: Gathering) -> BegunTask | None:
        """As for `begin_put`."""
        check_segment(segment)
        if self.place % 3 == 2:
            return None
        return BegunTask(partial(self.append, segment, offset, bytes(record)), gathering)

    async def write_blob(self, name: str, data: bytes) -> None:
        await self.meet(Call("write_blob", name, partial(self.inner.write_blob, name, data), data))
