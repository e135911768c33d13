"""The engine on drives in memory: what was synced comes back, whatever two drives do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import trio

from ecfs.clock import SystemClock
from ecfs.commit.engine import Engine
from ecfs.errors import NotEnoughDrivesError
from ecfs.meta import Inode, Outcome
from ecfs.stripes.writer import encode_stripe
from tests.memory_pool import MemoryPool

INO = 7


def data(size: int, seed: int = 0) -> bytes:
    return b"".join((seed * 1000003 + at).to_bytes(8, "little") for at in range(-(-size // 8)))[:size]


async def make_file(engine: Engine, ino: int = INO) -> None:
    await engine.admit(0)
    with engine.db.atomic():
        engine.db.names.add_inode(Inode(ino, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0))
        engine.db.names.link(1, b"f%d" % ino, ino)
    engine.changed()


async def write(engine: Engine, offset: int, payload: bytes, ino: int = INO) -> None:
    await engine.admit(len(payload))
    with engine.db.atomic():
        engine.write(ino, offset, payload)
        inode = engine.db.names.inode(ino)
        assert inode is not None
        engine.db.names.update_inode(ino, size=max(inode.size, offset + len(payload)))
    engine.changed()


@pytest.fixture
async def pool(tmp_path: Path) -> MemoryPool:
    pool = MemoryPool(tmp_path)
    await pool.create()
    return pool


@pytest.mark.parametrize("size", [1, 4096, 200_000, 5_000_000, 30_000_000])
async def test_what_was_synced_is_there_after_a_crash(pool: MemoryPool, size: int) -> None:
    payload = data(size)
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        await write(engine, 0, payload)
        assert await engine.read(INO, 0, size) == payload
        await engine.sync()
    pool.crash()
    async with pool.engine() as engine:
        assert await engine.read(INO, 0, size) == payload


async def test_r14_what_programs_wrote_is_durable_soon_after_they_pause(
    pool: MemoryPool, autojump_clock: object
) -> None:
    """Who calls sync(2) and waits is answered by the kernel, which does not tell us."""
    await trio.sleep(1)  # a clock that shows 0 is never met in the real world
    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        await write(engine, 0, data(5000))
        await trio.sleep(engine.pool.settings.idle_commit_s * 1.5)
    pool.crash()
    async with pool.engine() as engine:
        assert await engine.read(INO, 0, 5000) == data(5000)


async def test_r14_what_programs_wrote_is_durable_after_a_while_although_they_go_on(
    pool: MemoryPool, autojump_clock: object
) -> None:
    async with pool.engine(clean=False) as engine:
        settings = engine.pool.settings
        await make_file(engine)
        await write(engine, 0, data(5000))
        for number in range(int(settings.max_commit_s / settings.idle_commit_s * 2.5)):
            await trio.sleep(settings.idle_commit_s / 2)
            await write(engine, 10_000, data(10, number))
    pool.crash()
    async with pool.engine() as engine:
        assert await engine.read(INO, 0, 5000) == data(5000)


async def test_after_a_clean_close_nothing_is_replayed(pool: MemoryPool) -> None:
    async with pool.engine() as engine:
        await make_file(engine)
        await write(engine, 0, data(100_000))
    opened = await pool.open()
    assert opened.journal_bytes < 4096  # the open record alone
    assert opened.db.names.lookup(1, b"f7") == INO


async def test_two_drives_die_under_writes_and_reads_go_on(pool: MemoryPool) -> None:
    async with pool.engine() as engine:
        await make_file(engine)
        await write(engine, 0, data(9_000_000))
        await engine.sync()
        pool.stores[0].wipe()
        pool.stores[3].wipe()
        await write(engine, 9_000_000, data(9_000_000, 2))
        await engine.sync()
        assert await engine.read(INO, 0, 9_000_000) == data(9_000_000)
        assert await engine.read(INO, 9_000_000, 9_000_000) == data(9_000_000, 2)
        assert not engine.pool.members[0].in_w
    async with pool.engine() as engine:
        assert await engine.read(INO, 0, 9_000_000) == data(9_000_000)
        assert engine.pool.members.out_slots() == {0, 3}


async def test_sync_returns_when_the_commit_on_its_way_took_its_reason_along(pool: MemoryPool) -> None:
    """A drive leaves while a record is appended; a sync that begins then has no commit of its own to wait for."""
    async with pool.engine() as engine, trio.open_nursery() as nursery:
        await make_file(engine)
        returned = trio.Event()

        async def sync() -> None:
            await engine.sync()
            returned.set()

        def on_operation(operation: str, key: str) -> None:
            if operation == "append" and engine.pool.members[5].up:
                engine.pool.members.take_down(5, "absent", "unplugged")
                nursery.start_soon(sync)

        pool.drives[0].on_operation = on_operation
        await engine.sync()
        with trio.fail_after(5):
            await returned.wait()
        assert not engine.pool.members[5].in_w


async def test_with_three_drives_gone_opening_refuses(pool: MemoryPool) -> None:
    for slot in (1, 2, 3):
        pool.stores[slot].vanish()
    with pytest.raises(NotEnoughDrivesError):
        await pool.open()


async def test_dead_stripes_are_deleted(pool: MemoryPool) -> None:
    async with pool.engine() as engine:
        await make_file(engine)
        await write(engine, 0, data(8_000_000))
        await engine.sync()
        await engine.admit(0, deleting=True)
        with engine.db.atomic():
            engine.remove(INO)
        await engine.sync()
    async with pool.engine() as engine:
        assert engine.db.ledger.count() == 0
        shards = [entry.key async for entry in pool.drives[0].list("s/")]
        assert shards == []


def test_clock_is_the_only_door() -> None:
    assert SystemClock().token(4) != SystemClock().token(4)


async def test_space_taken_is_counted_once_while_dirty_over_what_is_committed(pool: MemoryPool) -> None:
    async with pool.engine() as engine:
        await make_file(engine)
        await write(engine, 0, data(300_000))
        await engine.sync()
        await write(engine, 100_000, data(300_000))
        assert engine.allocated(INO) == 400_000
        assert [engine.is_hole(INO, at) for at in (0, 399_999, 400_000)] == [False, False, True]
        await engine.sync()
        assert engine.allocated(INO) == 400_000


async def test_a_stripe_is_encoded_once(pool: MemoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The background puts it before its commit asks for it: that must not cost the encoding again."""
    encoded: list[object] = []
    encode = encode_stripe

    def count(*arguments: Any) -> Any:
        encoded.append(arguments)
        return encode(*arguments)

    monkeypatch.setattr("ecfs.commit.settle.encode_stripe", count)
    async with pool.engine() as engine:
        await make_file(engine)
        for number in range(20):
            await write(engine, number << 20, data(1 << 20, number))
        await engine.sync()
        assert len(encoded) == engine.db.ledger.count() == 5


async def test_a_commit_begins_before_memory_is_full(tmp_path: Path, autojump_clock: object) -> None:
    """Else a program that writes a long file stops each time until the drives have synced all of it."""
    pool = MemoryPool(tmp_path, seal_at=4 << 20, sealed_limit=16 << 20)
    await pool.create()
    async with pool.engine() as engine:
        await make_file(engine)
        for number in range(14):
            await write(engine, number << 20, data(1 << 20, number))
        assert engine.sealed.bytes < 16 << 20
        with trio.fail_after(engine.pool.settings.idle_commit_s / 2):
            while not engine.committed:
                await trio.sleep(0.001)


async def test_rows_that_an_outcome_brought_keep_nobody_waiting(tmp_path: Path) -> None:
    """They are of no patchset: a commit to make room for more would find nothing to do, for ever."""
    pool = MemoryPool(tmp_path, commit_rows=10)
    await pool.create()
    async with pool.engine() as engine:
        await make_file(engine)
        await engine.record(Outcome(settings={f"tested {number}": "1" for number in range(100)}))
        with trio.fail_after(10):
            await write(engine, 0, data(5000))
            await engine.sync()


@pytest.mark.parametrize("how", ["cleaned away", "full"])
async def test_a_scratch_directory_that_fails_costs_a_checkpoint_and_no_more(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It lies on no drive: a cleaner of /var/tmp, or somebody who filled it, must not end a healthy pool."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    pool = MemoryPool(scratch)
    await pool.create()
    really_open = os.open

    def full(path: str, flags: int, *more: Any, **named: Any) -> int:
        if "checkpoint-" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_open(path, flags, *more, **named)

    async with pool.engine(clean=False) as engine:
        await make_file(engine)
        await write(engine, 0, data(5000))
        await engine.sync()
        if how == "full":
            monkeypatch.setattr("ecfs.meta.snapshot.os.open", full)
        else:
            shutil.rmtree(scratch)
        engine.request_checkpoint()
        await trio.sleep(5)
        assert [event.kind for event in engine.pool.members.events] == ["checkpoint-failed"]
        await write(engine, 0, data(5000, seed=1))
        await engine.sync()
    scratch.mkdir(exist_ok=True)
    monkeypatch.undo()
    async with pool.engine() as engine:
        assert await engine.read(INO, 0, 5000) == data(5000, seed=1)
