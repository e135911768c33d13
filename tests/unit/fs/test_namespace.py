"""Names: what can be made where, what it looks like, and what removing changes."""

from __future__ import annotations

import errno
import stat

import pytest

from ecfs.fs.caller import Caller
from ecfs.fs.limits import MAX_LINKS
from ecfs.meta import ROOT_INO
from tests.unit.fs.conftest import ALICE, START, World, fails

KINDS = [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK]


async def test_a_new_file_belongs_to_its_maker_and_has_the_time_of_now(world: World) -> None:
    now = world.clock.now
    ino = await world.file(b"a", mode=0o640)
    made = world.stat(ino)
    assert (made.mode, made.uid, made.gid) == (stat.S_IFREG | 0o640, ALICE.uid, ALICE.gid)
    assert (made.nlink, made.size, made.blocks) == (1, 0, 0)
    assert made.atime_ns == made.mtime_ns == made.ctime_ns > now >= START
    parent = world.stat(ROOT_INO)
    assert parent.mtime_ns == parent.ctime_ns == made.mtime_ns


@pytest.mark.parametrize("kind", KINDS, ids=oct)
async def test_mknod_makes_every_kind(world: World, kind: int) -> None:
    inode = await world.fs.namespace.mknod(ROOT_INO, b"n", kind | 0o600, 0x0103, ALICE)
    assert stat.S_IFMT(inode.mode) == kind
    assert inode.rdev == (0x0103 if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0)


@pytest.mark.parametrize("kind", [stat.S_IFDIR, stat.S_IFLNK, 0])
async def test_mknod_refuses_what_has_an_operation_of_its_own(world: World, kind: int) -> None:
    with fails(errno.EINVAL):
        await world.fs.namespace.mknod(ROOT_INO, b"n", kind | 0o600, 0, ALICE)


async def test_names_are_any_bytes_up_to_255(world: World) -> None:
    for name in (b"\xff\xfe", b"new\nline", b"x" * 255, b" ", b"..."):
        ino = await world.file(name)
        assert world.find(name).ino == ino


@pytest.mark.parametrize(
    ("name", "number"),
    [(b"x" * 256, errno.ENAMETOOLONG), (b"a/b", errno.EINVAL), (b"a\0", errno.EINVAL), (b"", errno.EINVAL)],
)
async def test_what_is_no_name_is_refused_everywhere(world: World, name: bytes, number: int) -> None:
    names, ino = world.fs.namespace, await world.file(b"a")
    with fails(number):
        names.lookup(ROOT_INO, name)
    for attempt in (
        names.create(ROOT_INO, name, 0o600, ALICE, exclusive=False),
        names.mknod(ROOT_INO, name, stat.S_IFIFO, 0, ALICE),
        names.mkdir(ROOT_INO, name, 0o700, ALICE),
        names.symlink(ROOT_INO, name, b"t", ALICE),
        names.link(ino, ROOT_INO, name),
        names.unlink(ROOT_INO, name),
        names.rmdir(ROOT_INO, name),
    ):
        with fails(number):
            await attempt
    assert world.tree() == {b"a": (ino, 1)}


async def test_lookup_knows_dot_and_dot_dot(world: World) -> None:
    inner = await world.directory(b"inner", await world.directory(b"outer"))
    assert world.find(b".", inner).ino == inner
    assert world.find(b"..", inner).ino == world.find(b"outer").ino
    assert world.find(b"..", ROOT_INO).ino == ROOT_INO
    assert world.fs.namespace.lookup(inner, b"nothing") is None


async def test_making_over_something_is_refused(world: World) -> None:
    ino = await world.file(b"a")
    names = world.fs.namespace
    for attempt in (
        names.create(ROOT_INO, b"a", 0o600, ALICE, exclusive=True),
        names.mknod(ROOT_INO, b"a", stat.S_IFIFO, 0, ALICE),
        names.mkdir(ROOT_INO, b"a", 0o700, ALICE),
        names.symlink(ROOT_INO, b"a", b"t", ALICE),
        names.link(ino, ROOT_INO, b"a"),
    ):
        with fails(errno.EEXIST):
            await attempt
    assert world.tree() == {b"a": (ino, 1)}
    assert world.db.names.counts()[0] == 2


async def test_create_without_exclusive_finds_what_is_there(world: World) -> None:
    ino = await world.file(b"a", b"content")
    found = await world.fs.namespace.create(ROOT_INO, b"a", 0o777, ALICE, exclusive=False)
    assert (found.ino, found.size, stat.S_IMODE(found.mode)) == (ino, 7, 0o644)
    await world.directory(b"d")
    with fails(errno.EISDIR):
        await world.fs.namespace.create(ROOT_INO, b"d", 0o777, ALICE, exclusive=False)


async def test_a_file_is_no_directory(world: World) -> None:
    ino = await world.file(b"a")
    names = world.fs.namespace
    with fails(errno.ENOTDIR):
        names.lookup(ino, b"x")
    for attempt in (names.mkdir(ino, b"x", 0o700, ALICE), names.unlink(ino, b"x"), names.link(ino, ino, b"x")):
        with fails(errno.ENOTDIR):
            await attempt


async def test_an_inode_that_is_gone_is_stale(world: World) -> None:
    with fails(errno.ESTALE):
        world.stat(999)
    with fails(errno.ESTALE):
        await world.fs.namespace.link(999, ROOT_INO, b"x")


async def test_directories_count_their_subdirectories(world: World) -> None:
    outer = await world.directory(b"outer")
    assert world.stat(outer).nlink == 2
    await world.directory(b"inner", outer)
    await world.file(b"file", parent=outer)
    assert (world.stat(outer).nlink, world.stat(ROOT_INO).nlink) == (3, 3)
    await world.fs.namespace.rmdir(outer, b"inner")
    assert world.stat(outer).nlink == 2


async def test_a_setgid_directory_gives_its_group_and_to_directories_its_bit(world: World) -> None:
    parent = await world.directory(b"d", mode=0o2775)
    someone = Caller(7, 7)
    file = await world.fs.namespace.create(parent, b"f", 0o664, someone, exclusive=True)
    directory = await world.fs.namespace.mkdir(parent, b"d", 0o755, someone)
    assert (file.uid, file.gid, stat.S_IMODE(file.mode)) == (7, ALICE.gid, 0o664)
    assert (directory.gid, stat.S_IMODE(directory.mode)) == (ALICE.gid, 0o2755)


async def test_symlinks_keep_any_target(world: World) -> None:
    for name, target in ((b"a", b"to/where"), (b"b", b"\xff" * 4095)):
        inode = await world.fs.namespace.symlink(ROOT_INO, name, target, ALICE)
        assert world.fs.namespace.readlink(inode.ino) == target
        assert (inode.size, inode.mode) == (len(target), stat.S_IFLNK | 0o777)
    with fails(errno.ENAMETOOLONG):
        await world.fs.namespace.symlink(ROOT_INO, b"c", b"x" * 4096, ALICE)
    with fails(errno.ENOENT):
        await world.fs.namespace.symlink(ROOT_INO, b"c", b"", ALICE)
    with fails(errno.EINVAL):
        world.fs.namespace.readlink(ROOT_INO)


async def test_hard_links_share_the_inode(world: World) -> None:
    ino = await world.file(b"a", b"shared")
    before = world.stat(ino)
    linked = await world.fs.namespace.link(ino, ROOT_INO, b"b")
    assert (linked.ino, linked.nlink) == (ino, 2)
    assert linked.ctime_ns > before.ctime_ns
    assert linked.mtime_ns == before.mtime_ns
    await world.fs.namespace.unlink(ROOT_INO, b"a")
    assert world.stat(ino).nlink == 1
    assert await world.read(world.find(b"b").ino) == b"shared"


async def test_ten_thousand_hard_links(world: World) -> None:
    ino = await world.file(b"a")
    for number in range(10_000):
        await world.fs.namespace.link(ino, ROOT_INO, b"%d" % number)
    assert world.stat(ino).nlink == 10_001


async def test_links_have_a_limit(world: World) -> None:
    ino = await world.file(b"a")
    world.db.names.update_inode(ino, nlink=MAX_LINKS)
    world.db.names.update_inode(ROOT_INO, nlink=MAX_LINKS)
    with fails(errno.EMLINK):
        await world.fs.namespace.link(ino, ROOT_INO, b"b")
    with fails(errno.EMLINK):
        await world.directory(b"d")
    assert list(world.tree()) == [b"a"]


async def test_a_directory_has_one_name(world: World) -> None:
    ino = await world.directory(b"d")
    with fails(errno.EPERM):
        await world.fs.namespace.link(ino, ROOT_INO, b"e")


async def test_a_file_that_lost_its_last_name_gets_no_new_one(world: World) -> None:
    ino = await world.file(b"a")
    await world.fs.files.open(ino, 0, ALICE)
    await world.fs.namespace.unlink(ROOT_INO, b"a")
    with fails(errno.ENOENT):
        await world.fs.namespace.link(ino, ROOT_INO, b"b")


async def test_unlink_and_rmdir_refuse_each_others_kind(world: World) -> None:
    await world.file(b"file")
    await world.directory(b"dir")
    with fails(errno.EISDIR):
        await world.fs.namespace.unlink(ROOT_INO, b"dir")
    with fails(errno.ENOTDIR):
        await world.fs.namespace.rmdir(ROOT_INO, b"file")
    with fails(errno.ENOENT):
        await world.fs.namespace.unlink(ROOT_INO, b"nothing")
    with fails(errno.ENOENT):
        await world.fs.namespace.rmdir(ROOT_INO, b"nothing")
    await world.file(b"x", parent=world.find(b"dir").ino)
    with fails(errno.ENOTEMPTY):
        await world.fs.namespace.rmdir(ROOT_INO, b"dir")


async def test_unlink_touches_the_directory_and_the_other_names(world: World) -> None:
    ino = await world.file(b"a")
    await world.fs.namespace.link(ino, ROOT_INO, b"b")
    before, parent_before = world.stat(ino), world.stat(ROOT_INO)
    await world.fs.namespace.unlink(ROOT_INO, b"a")
    after, parent_after = world.stat(ino), world.stat(ROOT_INO)
    assert after.ctime_ns > before.ctime_ns
    assert after.mtime_ns == before.mtime_ns
    assert parent_after.mtime_ns == parent_after.ctime_ns > parent_before.mtime_ns


async def test_removing_leaves_nothing(world: World) -> None:
    await world.file(b"a", b"bytes")
    await world.directory(b"d")
    await world.fs.namespace.symlink(ROOT_INO, b"s", b"t", ALICE)
    await world.fs.namespace.unlink(ROOT_INO, b"a")
    await world.fs.namespace.unlink(ROOT_INO, b"s")
    await world.fs.namespace.rmdir(ROOT_INO, b"d")
    assert world.db.names.counts() == (1, 0)
    assert not world.data.files
    assert not world.db.names.orphans()


async def test_nothing_can_be_made_in_a_directory_that_was_removed(world: World) -> None:
    ino = await world.directory(b"d")
    world.fs.handles.remember(ino)
    await world.fs.namespace.rmdir(ROOT_INO, b"d")
    with fails(errno.ENOENT):
        await world.file(b"x", parent=ino)
    assert world.fs.namespace.lookup(ino, b"x") is None
