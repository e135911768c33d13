"""A pool in memory with an engine and a healer on it, and files to lose."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio

from ecfs.commit.engine import Engine
from ecfs.drive.base import Capabilities, Drive
from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.heal.healer import Healer
from ecfs.heal.report import ScrubReport
from ecfs.meta import Inode
from ecfs.shard import shard_key, verify_shard
from tests.faulty import FaultyDrive
from tests.memory_pool import MemoryPool

SMALL = 64 * 1024


def data(size: int, seed: int = 0) -> bytes:
    return b"".join((seed * 1000003 + at).to_bytes(8, "little") for at in range(-(-size // 8)))[:size]


@dataclass
class Patient:
    """An open pool: write, look, wait, break."""

    pool: MemoryPool
    engine: Engine
    healer: Healer
    files: dict[int, bytes] = field(default_factory=dict)

    async def write(self, ino: int, payload: bytes, *, sync: bool = True) -> None:
        """A whole file, in stripes of its own."""
        await self.engine.admit(len(payload))
        with self.engine.db.atomic():
            if self.engine.db.names.inode(ino) is None:
                self.engine.db.names.add_inode(Inode(ino, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0))
                self.engine.db.names.link(1, b"f%d" % ino, ino)
            self.engine.write(ino, 0, payload)
            self.engine.db.names.update_inode(ino, size=len(payload))
        self.engine.changed()
        self.files[ino] = payload
        if sync:
            await self.engine.sync()

    async def remove(self, ino: int) -> None:
        await self.engine.admit(0, deleting=True)
        with self.engine.db.atomic():
            self.engine.remove(ino)
            self.engine.db.names.unlink(1, b"f%d" % ino)
            self.engine.db.names.remove_inode(ino)
        self.engine.changed()
        del self.files[ino]
        await self.engine.sync()

    async def check(self) -> None:
        """Every file reads as it was written."""
        self.engine.pool.reader.cache.blocks._entries.clear()
        for stripe in self.stripes():
            self.engine.pool.reader.cache.forget(stripe)
        for ino, payload in self.files.items():
            assert await self.engine.read(ino, 0, len(payload)) == payload

    def stripes(self) -> list[int]:
        return [row.id for row in self.engine.db.ledger.facts(0, 10_000)]

    def states(self) -> list[str]:
        return [member.state for member in self.engine.pool.members]

    def counts(self) -> tuple[int, int, int, int]:
        """missing, unknown, lost, and drives that are out."""
        counts = self.engine.db.ledger.counts(frozenset())
        return counts.missing, counts.unknown, counts.lost, len(self.engine.pool.members.out_slots())

    async def until(self, *states: str, seconds: float = 60) -> None:
        """Wait until the drives are in these states, by slot."""
        end = trio.current_time() + seconds
        while self.states() != list(states) and trio.current_time() < end:
            await self.engine.pool.members.wait_change(0.1)
        assert self.states() == list(states)

    async def until_whole(self, seconds: float = 120) -> None:
        await self.until(*["online"] * len(self.pool.stores), seconds=seconds)
        assert self.counts() == (0, 0, 0, 0)

    def assert_honest(self) -> None:
        """Every shard that the ledger does not call missing or unknown is there, whole."""
        for row in self.engine.db.ledger.facts(0, 10_000):
            lacking = self.engine.db.ledger.missing_slots(row.id)
            if not self.engine.db.files.live(row.id):
                continue  # dead, and on its way out
            for slot in set(range(len(self.pool.stores))) - lacking:
                key = shard_key("s", row.id)
                assert key in self.pool.stores[slot].names, f"{key} on drive {slot}"
                assert verify_shard(bytes(self.pool.stores[slot].raw(key))).content_hash == row.hash

    async def scrub(self, *, dry_run: bool = False) -> ScrubReport:
        return await self.healer.scrub(dry_run=dry_run)

    async def assert_clean(self) -> None:
        """A scrub finds nothing at all."""
        report = await self.scrub()
        assert report.findings == []
        assert report.exit_status == 0


class SlowDrive(DeadlineDrive):
    """As in production: everything has a deadline but what the settler watches."""

    def __init__(self, faulty: FaultyDrive, seconds: float) -> None:
        super().__init__(faulty, seconds)
        self.faulty = faulty

    @property
    def hanging(self) -> set[str]:
        return self.faulty.hanging

    @hanging.setter
    def hanging(self, operations: set[str]) -> None:
        self.faulty.hanging = operations

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.faulty.capabilities, deadline_s=self.seconds)

    def release(self) -> None:
        self.faulty.release()


class Hospital:
    """Opens one MemoryPool again and again."""

    def __init__(self, pool: MemoryPool) -> None:
        self.pool = pool
        self.files: dict[int, bytes] = {}
        self.spare: dict[str, MemoryStore] = {}
        self.handles: list[MemoryDrive] = []

    def open_drive(self, url: str, slot: int) -> Drive:
        name = url.removeprefix("memory:")
        store = self.spare[name] if name in self.spare else self.pool.stores[int(name)]
        handle = MemoryDrive(store, name=name, slot=slot)
        self.handles.append(handle)
        return handle

    def slow(self, inner: Drive, deadline_s: float = 2.0) -> SlowDrive:
        """The drive with a deadline, and operations that hang on demand."""
        slow = SlowDrive(FaultyDrive(inner), deadline_s)
        return slow

    def places(self) -> Sequence[str]:
        return [f"memory:{slot}" for slot in range(len(self.pool.stores))]

    @asynccontextmanager
    async def open(self, *, run: bool = True, clean: bool = True) -> AsyncIterator[Patient]:
        try:
            async with self.pool.engine(clean=clean) as engine, trio.open_nursery() as nursery:
                healer = Healer(engine, self.open_drive, self.places)
                if run:
                    await nursery.start(healer.run)
                yield Patient(self.pool, engine, healer, self.files)
                nursery.cancel_scope.cancel()
        finally:
            for handle in self.handles:
                with trio.CancelScope(shield=True):
                    await handle.close()


@pytest.fixture
async def hospital(tmp_path: Path) -> Hospital:
    pool = MemoryPool(tmp_path, stripe_size=320 * 1024, inline_at_most=1024)
    await pool.create()
    return Hospital(pool)


def snapshot(store: MemoryStore) -> MemoryStore:
    """A copy of a whole drive as it is now."""
    return copy.deepcopy(replace(store, holder=None))


def put_back(store: MemoryStore, old: MemoryStore) -> None:
    """Exchange the medium for an older copy of itself; handles end."""
    old = snapshot(old)
    store.names, store.durable_names, store.pending = old.names, old.durable_names, old.pending
    store.epochs, store.fence, store.exists = old.epochs, old.fence, True
    store.holder = None
    store.incarnation += 1
