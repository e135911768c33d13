"""posix_fallocate(3) as glibc does it: one NUL per block."""

from __future__ import annotations

import errno
import os

from ecfs.fs.reserving import MARK, STRIDE
from tests.unit.fs.conftest import ALICE, World, fails


async def opened(world: World) -> tuple[int, int]:
    ino = await world.file(b"f")
    return ino, await world.fs.files.open(ino, os.O_RDWR, ALICE)


async def test_a_nul_in_a_hole_grows_the_file_and_stays_a_hole(world: World) -> None:
    ino, fh = await opened(world)
    before = world.stat(ino)
    await world.fs.files.write(fh, STRIDE - 1, MARK)
    found = world.stat(ino)
    assert (found.size, found.blocks) == (STRIDE, 0)
    assert found.mtime_ns > before.mtime_ns
    assert await world.fs.files.read(fh, 0, STRIDE) == bytes(STRIDE)


async def test_a_nul_over_data_is_written(world: World) -> None:
    _, fh = await opened(world)
    await world.fs.files.write(fh, 0, b"abc")
    await world.fs.files.write(fh, 1, MARK)
    assert await world.fs.files.read(fh, 0, 3) == b"a\0c"


async def test_reserving_more_than_is_free_is_enospc_and_what_fits_is_not(world: World) -> None:
    ino, fh = await opened(world)
    free = world.data.free = 3 * STRIDE
    for offset in range(STRIDE - 1, free, STRIDE):
        await world.fs.files.write(fh, offset, MARK)
    with fails(errno.ENOSPC):
        await world.fs.files.write(fh, free + STRIDE - 1, MARK)
    assert world.stat(ino).size == free


async def test_the_drives_are_asked_before_a_reservation_is_refused(world: World) -> None:
    """Others made room since the last look."""
    ino, fh = await opened(world)
    world.data.free, world.data.freed = STRIDE, 4 * STRIDE
    for offset in range(STRIDE - 1, 4 * STRIDE, STRIDE):
        await world.fs.files.write(fh, offset, MARK)
    assert world.stat(ino).size == 4 * STRIDE
    with fails(errno.ENOSPC):
        await world.fs.files.write(fh, 5 * STRIDE - 1, MARK)


async def test_one_nul_far_away_sets_a_size_and_reserves_nothing(world: World) -> None:
    """The old way to make a sparse image."""
    ino, fh = await opened(world)
    world.data.free = STRIDE
    await world.fs.files.write(fh, (1 << 40) - 1, MARK)
    assert world.stat(ino).size == 1 << 40
