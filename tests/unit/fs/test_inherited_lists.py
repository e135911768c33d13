"""What a default access control list copies into everything made below it takes room like an attribute that is set."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import trio

from ecfs.clock import SystemClock
from ecfs.errors import PoolFullError
from ecfs.fs import acl
from ecfs.fs.filesystem import FileSystem
from ecfs.meta import ROOT_INO
from tests.memory_pool import MemoryPool
from tests.unit.fs.conftest import ROOT

MIB = 1 << 20
LIST = acl.build(
    [acl.Entry(1, 7, 2**32 - 1)]
    + [acl.Entry(2, 7, uid) for uid in range(8000)]
    + [acl.Entry(tag, 7, 2**32 - 1) for tag in (4, 0x10, 0x20)]
)


async def test_a_small_pool_full_of_inherited_lists_can_be_emptied(tmp_path: Path, autojump_clock: object) -> None:
    """A thousand directories a second took more than is kept back, before anybody looked at the drives again: no record
    fitted any more, and nothing could be deleted."""
    pool = MemoryPool(tmp_path, stripe_size=4 * MIB)
    await pool.create()
    for store in pool.stores:
        store.capacity = 40 * MIB
    async with pool.engine() as engine:
        await engine.space_keeper.sample()
        fs = FileSystem(engine.db, engine, SystemClock())
        folder = (await fs.namespace.mkdir(ROOT_INO, b"folder", 0o755, ROOT)).ino
        await fs.xattrs.set(folder, acl.DEFAULT, LIST, ROOT)
        count = 0
        with suppress(PoolFullError):
            while True:
                await fs.namespace.mkdir(folder, b"%d" % count, 0o755, ROOT)
                await trio.sleep(0.001)
                count += 1
        assert count > 50
        for number in range(count):
            await fs.namespace.rmdir(folder, b"%d" % number)
            await trio.sleep(0.001)
        await engine.sync()
        assert not engine.failures
