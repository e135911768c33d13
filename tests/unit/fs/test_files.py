"""Open, read, write, fsync; and who hears of a failed commit (R6)."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial

import pytest
import trio

from ecfs.errors import StalledError
from ecfs.fs.attributes import Changes
from ecfs.fs.caller import Caller
from ecfs.fs.errors import FsError
from ecfs.fs.limits import MAX_FILE
from ecfs.meta import ROOT_INO
from tests.unit.fs.conftest import ALICE, ROOT, World, fails


async def test_what_was_written_is_read(world: World) -> None:
    ino = await world.file(b"a", b"hello world")
    assert await world.read(ino) == b"hello world"
    assert await world.read(ino, 6, 3) == b"wor"
    assert await world.read(ino, 11, 5) == b""
    assert await world.read(ino, 100, 5) == b""
    await world.write(ino, 6, b"there")
    assert await world.read(ino) == b"hello there"


async def test_writing_beyond_the_end_leaves_a_hole_of_zeros(world: World) -> None:
    ino = await world.file(b"a", b"ab")
    await world.write(ino, 5, b"z")
    assert await world.read(ino) == b"ab\0\0\0z"


async def test_writing_sets_mtime_and_ctime_and_reading_no_time(world: World) -> None:
    ino = await world.file(b"a", b"1")
    before = world.stat(ino)
    await world.read(ino)
    assert world.stat(ino) == before
    await world.write(ino, 0, b"2")
    after = world.stat(ino)
    assert after.mtime_ns == after.ctime_ns > before.mtime_ns
    assert after.atime_ns == before.atime_ns


async def test_writing_nothing_changes_nothing(world: World) -> None:
    ino = await world.file(b"a")
    before, changes = world.stat(ino), world.data.changes
    await world.write(ino, 100, b"")
    assert (world.stat(ino), world.data.changes) == (before, changes)


async def test_size_and_data_change_in_one_step(world: World) -> None:
    """A commit that freezes between two tasks' turns must never see one without the other."""
    ino = await world.file(b"a")
    seen = set()

    async def freeze_often() -> None:
        while world.stat(ino).size < 20:
            seen.add((world.stat(ino).size, world.data.allocated(ino) > 0))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(freeze_often)
        for number in range(20):
            await world.write(ino, number, b"x")
    assert seen <= {(0, False)} | {(size, True) for size in range(1, 21)}


async def test_a_file_may_not_grow_beyond_16_tib(world: World) -> None:
    ino = await world.file(b"a")
    with fails(errno.EFBIG):
        await world.write(ino, MAX_FILE, b"x")
    await world.write(ino, MAX_FILE - 1, b"x")
    assert await world.read(ino, MAX_FILE - 2, 10) == b"\0x"


@pytest.mark.parametrize(("caller", "after"), [(ALICE, 0o755), (ROOT, 0o6755)], ids=["user", "root"])
async def test_writing_takes_setuid_unless_opened_by_root(world: World, caller: Caller, after: int) -> None:
    ino = await world.file(b"a", mode=0o6755)
    await world.write(ino, 0, b"x", caller)
    assert stat.S_IMODE(world.stat(ino).mode) == after


async def test_open_with_o_trunc_empties(world: World) -> None:
    ino = await world.file(b"a", b"content")
    fh = await world.fs.files.open(ino, os.O_WRONLY | os.O_TRUNC, ALICE)
    assert world.stat(ino).size == 0
    await world.fs.files.release(fh)


async def test_open_that_may_not_truncate_leaves_no_handle(world: World) -> None:
    ino = await world.file(b"a", b"content")
    world.data.refuse, world.data.may_delete = StalledError("no drive answers"), False
    with pytest.raises(StalledError):
        await world.fs.files.open(ino, os.O_WRONLY | os.O_TRUNC, ALICE)
    assert world.fs.handles.open_count == 0
    assert await world.read(ino) == b"content"


async def test_only_files_open_as_files(world: World) -> None:
    link = await world.fs.namespace.symlink(ROOT_INO, b"s", b"t", ALICE)
    with fails(errno.EISDIR):
        await world.fs.files.open(ROOT_INO, 0, ALICE)
    with fails(errno.ELOOP):
        await world.fs.files.open(link.ino, 0, ALICE)
    with fails(errno.ESTALE):
        await world.fs.files.open(999, 0, ALICE)


async def test_an_unknown_handle_is_a_bad_descriptor(world: World) -> None:
    for attempt in (
        world.fs.files.read(9, 0, 1),
        world.fs.files.write(9, 0, b"x"),
        world.fs.files.fsync(9),
        world.fs.files.release(9),
        world.fs.directories.fsync(9),
        world.fs.directories.release(9),
    ):
        with fails(errno.EBADF):
            await attempt


async def test_fsync_waits_for_the_data(world: World) -> None:
    fh = await world.fs.files.open(await world.file(b"a"), os.O_RDWR, ALICE)
    await world.fs.files.fsync(fh)
    directory = world.fs.directories.open(ROOT_INO, ALICE)
    await world.fs.directories.fsync(directory)
    assert world.data.syncs == 2


# ---- R6: a failed commit is reported by every handle that was dirty, once, even after recovery


async def open_two(world: World) -> tuple[int, int, int]:
    ino = await world.file(b"a")
    return ino, await world.fs.files.open(ino, os.O_RDWR, ALICE), await world.fs.files.open(ino, os.O_RDWR, ALICE)


async def test_r6_every_handle_of_the_file_hears_of_the_failure_once(world: World) -> None:
    _, one, two = await open_two(world)
    await world.fs.files.write(one, 0, b"x")
    world.data.failures += 1
    for fh in (one, two):  # the second did not write: databases sync through another handle
        with fails(errno.EIO):
            await world.fs.files.fsync(fh)
        await world.fs.files.fsync(fh)


async def test_r6_a_write_after_the_recovery_does_not_hide_the_failure(world: World) -> None:
    _, one, _ = await open_two(world)
    await world.fs.files.write(one, 0, b"x")
    world.data.failures += 1
    await world.fs.files.write(one, 1, b"y")
    with fails(errno.EIO):
        await world.fs.files.fsync(one)
    await world.fs.files.fsync(one)


async def test_r6_who_was_not_dirty_hears_nothing(world: World) -> None:
    _, one, _ = await open_two(world)
    clean = await world.fs.files.open(await world.file(b"b"), os.O_RDWR, ALICE)
    await world.fs.files.write(one, 0, b"x")
    await world.fs.files.fsync(one)
    world.data.failures += 1
    await world.fs.files.fsync(one)
    await world.fs.files.fsync(clean)


async def test_r6_a_handle_opened_after_the_failure_hears_nothing(world: World) -> None:
    ino, one, _ = await open_two(world)
    await world.fs.files.write(one, 0, b"x")
    world.data.failures += 1
    later = await world.fs.files.open(ino, os.O_RDWR, ALICE)
    await world.fs.files.fsync(later)
    with fails(errno.EIO):
        await world.fs.files.fsync(one)


async def test_r6_one_handles_success_does_not_silence_another(world: World) -> None:
    _, one, two = await open_two(world)
    await world.fs.files.write(one, 0, b"x")
    world.data.failures += 1
    with fails(errno.EIO):
        await world.fs.files.fsync(one)
    await world.fs.files.write(one, 0, b"x")
    await world.fs.files.fsync(one)
    with fails(errno.EIO):
        await world.fs.files.fsync(two)


async def test_r6_a_write_during_a_sync_still_counts(world: World) -> None:
    _, one, two = await open_two(world)
    await world.fs.files.write(one, 0, b"x")
    world.data.during_sync = partial(world.fs.files.write, two, 1, b"y")
    await world.fs.files.fsync(one)
    world.data.during_sync = None
    world.data.failures += 1
    with fails(errno.EIO):
        await world.fs.files.fsync(one)


async def test_r6_waiting_syncs_fail_and_the_handle_has_heard(world: World) -> None:
    _, one, two = await open_two(world)
    await world.fs.files.write(one, 0, b"x")
    world.data.failures += 1
    world.data.sync_error = StalledError("no drive answers")
    with pytest.raises(StalledError):
        await world.fs.files.fsync(one)
    world.data.sync_error = None
    await world.fs.files.fsync(one)
    with pytest.raises(FsError):
        await world.fs.files.fsync(two)


async def test_r6_truncate_counts_as_a_write(world: World) -> None:
    ino, one, _ = await open_two(world)
    await world.fs.attributes.set(ino, Changes(size=100))
    world.data.failures += 1
    with fails(errno.EIO):
        await world.fs.files.fsync(one)


async def test_r6_nothing_is_remembered_of_closed_files(world: World) -> None:
    for number in range(100):
        await world.file(b"%d" % number, b"x")
    assert not world.fs.handles._writes
    assert not world.fs.handles.in_use(world.find(b"7").ino)
