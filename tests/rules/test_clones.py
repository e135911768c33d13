"""R9, R11: drives that were copied and used elsewhere, and proofs of commits besides their records."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

import ecfs.journal.gather as gather
from ecfs.errors import EcfsError, HistoryGapError, NotEnoughDrivesError
from ecfs.journal.support import dead_epochs, unsupported
from tests.memory_pool import MemoryPool
from tests.rules.test_history_rules import commit_file, names, records
from tests.unit.commit.test_engine import make_file


@pytest.fixture
async def pool(tmp_path: Path) -> MemoryPool:
    pool = MemoryPool(tmp_path)
    await pool.create()
    return pool


async def copied_and_used_elsewhere(pool: MemoryPool, clones: int) -> None:
    """All drives are copied; the copy is opened more often than the pool, so that its epochs are newer."""
    await commit_file(pool, 8)
    elsewhere = MemoryPool(pool.scratch)
    elsewhere.pool_id, elsewhere.stores = pool.pool_id, copy.deepcopy(pool.stores)
    for ino in (9, 10, 11):
        await commit_file(pool, ino)
    for ino in range(20, 30):
        await commit_file(elsewhere, ino)
    pool.stores[1 : 1 + clones] = elsewhere.stores[1 : 1 + clones]
    assert await names(pool) == {b"f8", b"f9", b"f10", b"f11"}


@pytest.mark.parametrize("clones", [1, 2])
async def test_r11_copies_that_lived_on_elsewhere_do_not_choose_the_tail(pool: MemoryPool, clones: int) -> None:
    await copied_and_used_elsewhere(pool, clones)
    opened = await pool.open()
    assert [member.state for member in opened.members][1 : 1 + clones] == ["wrong"] * clones


@pytest.mark.parametrize("clones", [1, 2])
@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("ours", [1, 4], ids=["as many openings", "fewer openings"])
async def test_r11_copies_with_no_more_openings_and_more_commits_prove_nothing(
    pool: MemoryPool, clones: int, clean: bool, ours: int
) -> None:
    """Their epoch is older than ours, or has its number, and their superblock names commits, or (clean) a checkpoint,
    beyond our last."""
    await commit_file(pool, 8)
    elsewhere = MemoryPool(pool.scratch)
    elsewhere.pool_id, elsewhere.stores = pool.pool_id, copy.deepcopy(pool.stores)
    for ino in range(9, 9 + ours):
        await commit_file(pool, ino)
    async with elsewhere.engine(clean=clean) as engine:
        for ino in range(20, 60):
            await make_file(engine, ino)
            await engine.sync()
        for member in engine.pool.members:
            assert member.drive is not None
            await engine.pool.write_superblock(member.slot, member.drive)
    elsewhere.crash()
    pool.stores[1 : 1 + clones] = elsewhere.stores[1 : 1 + clones]
    assert await names(pool) == {b"f%d" % ino for ino in range(8, 9 + ours)}


async def test_r11_a_drive_that_lived_on_elsewhere_is_left_as_it_is(pool: MemoryPool) -> None:
    """Also by openings that are refused for want of drives, as an automatic restart makes them again and again; and
    these leave nothing behind on the others either."""
    await commit_file(pool, 8)
    elsewhere = MemoryPool(pool.scratch)
    elsewhere.pool_id, elsewhere.stores = pool.pool_id, copy.deepcopy(pool.stores)
    await commit_file(elsewhere, 20)
    for ino in (9, 10, 11, 12):
        await commit_file(pool, ino)
    pool.stores[1] = elsewhere.stores[1]
    for slot in (4, 5):
        pool.stores[slot].vanish()
    before = [len(records(pool, slot)) for slot in range(6)]
    for _ in range(3):
        with pytest.raises(NotEnoughDrivesError, match="diverged"):
            await pool.open()
        pool.crash()
    assert [len(records(pool, slot)) for slot in range(6)] == before
    pool.stores[4].come_back()
    assert await names(pool) == {b"f8", b"f9", b"f10", b"f11", b"f12"}
    assert len(records(pool, 1)) == before[1]


async def test_r11_switched_off_one_copy_takes_the_pool_back(pool: MemoryPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "unsupported", lambda *arguments: set())
    with pytest.raises((AssertionError, EcfsError, BaseExceptionGroup)):
        await copied_and_used_elsewhere(pool, 1)


def test_an_epoch_needs_traces_on_as_many_as_its_opening_must_have_reached() -> None:
    traces = {0: {(1, "a"), (2, "b")}, 1: {(1, "a")}, 2: {(1, "a")}, 3: {(1, "a")}}
    assert unsupported(traces, 4, 6) == {(2, "b")}
    assert dead_epochs({(2, "b")}, traces) == {2}
    traces[1].add((2, "b"))
    assert unsupported(traces, 4, 6) == set()


async def test_r09_a_superblock_that_proves_a_later_commit_refuses(pool: MemoryPool) -> None:
    """The journal's end is gone on all drives that are here; only the superblock knows that there was more."""
    async with pool.engine() as engine:
        await engine.sync()
    await commit_file(pool, 8)
    async with pool.engine(clean=False) as engine:
        for member in engine.pool.members:
            assert member.drive is not None
            await engine.pool.write_superblock(member.slot, member.drive)
        newest = engine.pool.seq
    pool.crash()
    for slot in range(6):
        for key, found in records(pool, slot):
            if found.head.seq == newest:
                pool.stores[slot].raw(key)[found.offset + 300] ^= 1
    with pytest.raises(HistoryGapError, match="proves"):
        await pool.open()
