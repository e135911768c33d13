"""getattr and setattr: modes, owners, sizes, times."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from ecfs.fs.attributes import DIRECTORY_SIZE, Changes
from ecfs.fs.caller import Caller
from ecfs.fs.limits import MAX_FILE
from ecfs.meta import ROOT_INO
from tests.unit.fs.conftest import ALICE, BOB, IN_ALICES_GROUP, ROOT, World, fails


async def test_chmod_keeps_the_kind_and_sets_only_ctime(world: World) -> None:
    ino = await world.file(b"a")
    before = world.stat(ino)
    after = await world.fs.attributes.set(ino, Changes(mode=stat.S_IFDIR | 0o4711))
    assert after.mode == stat.S_IFREG | 0o4711
    assert after.ctime_ns > before.ctime_ns
    assert (after.mtime_ns, after.atime_ns) == (before.mtime_ns, before.atime_ns)


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o6777, 0o777), (0o4755, 0o755), (0o2755, 0o755), (0o2745, 0o2745), (0o1777, 0o1777)],
    ids=oct,
)
async def test_chown_takes_setuid_and_setgid_from_a_file(world: World, before: int, after: int) -> None:
    """Without group execution setgid means no program's group: for root and the group's members it stays (chown(2))."""
    ino = await world.file(b"a", mode=before)
    changed = await world.fs.attributes.set(ino, Changes(uid=5, gid=6, caller=ROOT))
    assert (changed.uid, changed.gid, stat.S_IMODE(changed.mode)) == (5, 6, after)


@pytest.mark.parametrize(
    ("caller", "after"), [(ROOT, 0o2745), (ALICE, 0o2745), (IN_ALICES_GROUP, 0o2745), (BOB, 0o745)]
)
async def test_setgid_without_group_execution_stays_for_members_only(world: World, caller: Caller, after: int) -> None:
    for number, changes in enumerate((Changes(uid=1000, caller=caller), Changes(size=0, caller=caller))):
        ino = await world.file(b"%d" % number, mode=0o2745)
        assert stat.S_IMODE((await world.fs.attributes.set(ino, changes)).mode) == after
    ino = await world.file(b"written", mode=0o2745)
    await world.write(ino, 0, b"x", caller)
    assert stat.S_IMODE(world.stat(ino).mode) == after


@pytest.mark.parametrize(("caller", "after"), [(ALICE, 0o745), (ROOT, 0o2745)])
async def test_chown_to_nobody_else_takes_the_bits_as_chown_does(world: World, caller: Caller, after: int) -> None:
    ino = await world.file(b"a", mode=0o2745)
    await world.fs.attributes.set(ino, Changes(uid=1000, gid=7, caller=ROOT))
    changed = await world.fs.attributes.set(ino, Changes(caller=caller))
    assert stat.S_IMODE(changed.mode) == after


async def test_chown_to_nobody_else_is_not_for_strangers(world: World) -> None:
    """The kernel asks for the same before a stranger's write, for which he has the file open, and runs it with the mode
    that it is told now."""
    ino = await world.file(b"a", mode=0o2745)
    await world.fs.attributes.set(ino, Changes(uid=1003, gid=7, caller=ROOT))
    with fails(errno.EPERM):
        await world.fs.attributes.set(ino, Changes(caller=ALICE))
    await world.fs.files.open(ino, os.O_RDONLY, ALICE)
    with fails(errno.EPERM):
        await world.fs.attributes.set(ino, Changes(caller=ALICE))
    await world.fs.files.open(ino, os.O_WRONLY, ROOT)
    assert stat.S_IMODE((await world.fs.attributes.set(ino, Changes(caller=ALICE))).mode) == 0o745


async def test_chown_leaves_a_directorys_bits_alone(world: World) -> None:
    ino = await world.directory(b"d", mode=0o6777)
    changed = await world.fs.attributes.set(ino, Changes(gid=6))
    assert (changed.uid, changed.gid, stat.S_IMODE(changed.mode)) == (ALICE.uid, 6, 0o6777)


async def test_times_are_kept_to_the_nanosecond_and_in_any_year(world: World) -> None:
    ino = await world.file(b"a")
    for when in (1, -1_000_000_001, 2**62 + 7, -(2**62)):
        changed = await world.fs.attributes.set(ino, Changes(atime_ns=when, mtime_ns=when + 1))
        assert (changed.atime_ns, changed.mtime_ns) == (when, when + 1)
        assert changed.ctime_ns == world.clock.now
    far = await world.fs.attributes.set(ino, Changes(atime_ns=10**30, mtime_ns=-(10**30)))
    assert (far.atime_ns, far.mtime_ns) == (2**63 - 1, -(2**63 - 1))


async def test_one_time_alone_leaves_the_other(world: World) -> None:
    ino = await world.file(b"a")
    before = world.stat(ino)
    after = await world.fs.attributes.set(ino, Changes(atime_ns=5))
    assert (after.atime_ns, after.mtime_ns) == (5, before.mtime_ns)


async def test_the_kernel_may_set_ctime_when_it_caches_writes(world: World) -> None:
    ino = await world.file(b"a")
    assert (await world.fs.attributes.set(ino, Changes(ctime_ns=77))).ctime_ns == 77


async def test_truncate_in_both_directions(world: World) -> None:
    ino = await world.file(b"a", b"0123456789")
    before = world.stat(ino)
    after = await world.fs.attributes.set(ino, Changes(size=4))
    assert after.size == 4
    assert after.mtime_ns == after.ctime_ns > before.mtime_ns
    assert await world.read(ino) == b"0123"
    await world.fs.attributes.set(ino, Changes(size=8))
    assert await world.read(ino) == b"0123\0\0\0\0"


async def test_truncate_to_the_same_size_still_counts_as_a_change(world: World) -> None:
    ino = await world.file(b"a", b"0123")
    before = world.stat(ino)
    assert (await world.fs.attributes.set(ino, Changes(size=4))).mtime_ns > before.mtime_ns


async def test_truncate_takes_setuid_unless_the_caller_is_privileged(world: World) -> None:
    ino = await world.file(b"a", mode=0o6755)
    kept = await world.fs.attributes.set(ino, Changes(size=1, caller=ROOT))
    assert stat.S_IMODE(kept.mode) == 0o6755
    taken = await world.fs.attributes.set(ino, Changes(size=0))
    assert stat.S_IMODE(taken.mode) == 0o755


async def test_only_files_have_a_size_to_set(world: World) -> None:
    with fails(errno.EISDIR):
        await world.fs.attributes.set(ROOT_INO, Changes(size=0))
    fifo = await world.fs.namespace.mknod(ROOT_INO, b"fifo", stat.S_IFIFO | 0o600, 0, ALICE)
    with fails(errno.EINVAL):
        await world.fs.attributes.set(fifo.ino, Changes(size=0))


async def test_a_refused_truncate_changes_nothing_else(world: World) -> None:
    before = world.stat(ROOT_INO)
    with fails(errno.EISDIR):
        await world.fs.attributes.set(ROOT_INO, Changes(size=0, mode=0o700, uid=9))
    assert world.stat(ROOT_INO) == before


async def test_files_end_at_16_tib(world: World) -> None:
    ino = await world.file(b"a")
    await world.fs.attributes.set(ino, Changes(size=MAX_FILE))
    with fails(errno.EFBIG):
        await world.fs.attributes.set(ino, Changes(size=MAX_FILE + 1))
    with fails(errno.EINVAL):
        await world.fs.attributes.set(ino, Changes(size=-1))
    assert world.stat(ino).size == MAX_FILE


async def test_holes_take_no_blocks(world: World) -> None:
    ino = await world.file(b"a")
    await world.write(ino, 1 << 30, b"x" * 4096)
    found = world.stat(ino)
    assert (found.size, found.blocks) == ((1 << 30) + 4096, 8)


async def test_a_directory_shows_a_size_and_no_blocks(world: World) -> None:
    found = world.stat(await world.directory(b"d"))
    assert (found.size, found.blocks) == (DIRECTORY_SIZE, 0)


async def test_usage_counts_in_blocks(world: World) -> None:
    before = world.fs.usage()
    await world.file(b"a", b"x" * 8192)
    after = world.fs.usage()
    assert before.blocks == after.blocks == (1 << 40) // 4096
    assert before.blocks_free - after.blocks_free == 2
    assert before.inodes_free - after.inodes_free == 1
