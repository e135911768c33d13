"""The stripe store over drives that keep the whole contract, not only the part that the fakes have."""

from __future__ import annotations

import itertools
from typing import cast

import pytest
import trio

from ecfs.drive.base import Drive, Writer
from ecfs.drive.local import LocalDrive
from ecfs.drive.memory import MemoryDrive
from ecfs.errors import ShardCorruptError, ShardMissingError
from ecfs.shard import shard_key
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.rebuild import check_shard, rebuild_shards
from ecfs.stripes.writer import put_shard
from tests.unit.stripes.fakes import POOL_ID, FakeDrive, Pool, payload_of

PAYLOAD = payload_of(600_001)


pytestmark = pytest.mark.trio(run=trio.run)
"""The real clock after all: a local drive has threads, for which the simulated one does not wait."""


@pytest.fixture(params=["memory", "local"])
async def drives(request, tmp_path):
    """Six attached drives."""
    made: list[Drive] = []
    for slot in range(6):
        drive: Drive = MemoryDrive(slot=slot)
        if request.param == "local":
            drive = LocalDrive(tmp_path / f"d{slot}", slot=slot)
        await drive.create({"identity": b"somebody"})
        await drive.fence(Writer(1, "0" * 32))
        await drive.prepare([1])
        made.append(drive)
    yield made
    for drive in made:
        await drive.close()


async def stored(drives: list[Drive]) -> tuple[Pool, StripeFact]:
    pool = Pool()
    pool.drives = [cast(FakeDrive, drive) for drive in drives]
    fact = await pool.store(PAYLOAD)
    for drive in drives:
        await drive.sync()
    return pool, fact


async def test_lost_shards_are_read_around_rebuilt_and_then_sound(drives):
    pool, fact = await stored(drives)
    for lost in itertools.combinations(range(6), 2):
        for slot in lost:
            await drives[slot].delete(fact.key)
        assert await pool.new_reader().read(fact, 0, len(PAYLOAD)) == PAYLOAD
        rebuilt = await rebuild_shards(fact, lost, pool, POOL_ID)
        for slot in lost:
            with pytest.raises(ShardMissingError):
                await check_shard(drives[slot], fact, slot, POOL_ID)
            await drives[slot].put(fact.key, rebuilt[slot], replace=True)
        for slot in range(6):
            await check_shard(drives[slot], fact, slot, POOL_ID)


async def test_a_shard_that_belongs_on_another_slot_is_found_by_check_and_by_reads(drives):
    pool, fact = await stored(drives)
    encoded = pool.encode(PAYLOAD)
    slot, other = fact.slot_of(0), fact.slot_of(1)
    await drives[slot].put(fact.key, encoded.buffers(fact.index_of(other)), replace=True)
    with pytest.raises(ShardCorruptError, match="another index"):
        await check_shard(drives[slot], fact, slot, POOL_ID)
    assert await pool.reader.read(fact, 0, len(PAYLOAD)) == PAYLOAD
    assert pool.bad_slots == [slot]


async def test_stripes_of_checkpoints_have_a_key_space_of_their_own(drives):
    pool, fact = await stored(drives)
    from_checkpoint = StripeFact(fact.id, "c", fact.geometry, fact.length, fact.content_hash)
    assert from_checkpoint.key == shard_key("c", fact.id) != fact.key
    with pytest.raises(ShardMissingError):
        await check_shard(drives[0], from_checkpoint, 0, POOL_ID)
    await put_shard(drives[0], pool.encode(payload_of(10), counter=8), 0)
