"""Extended attributes and access control lists."""

from __future__ import annotations

import errno
import stat
import struct

import pytest

from ecfs.fs import acl
from ecfs.fs.attributes import Changes
from ecfs.fs.inodes import HAS_XATTRS
from ecfs.fs.xattrs import MAX_LIST, MAX_VALUE
from ecfs.meta import ROOT_INO
from tests.unit.fs.conftest import ALICE, IN_ALICES_GROUP, ROOT, World, fails

NAMES = [b"user.a", b"trusted.b", b"security.c"]


@pytest.mark.parametrize("name", NAMES, ids=bytes.decode)
async def test_set_get_list_remove(world: World, name: bytes) -> None:
    ino = await world.file(b"f")
    xattrs, before = world.fs.xattrs, world.stat(ino)
    for value in (b"", b"\0\xff", b"v" * MAX_VALUE):
        await xattrs.set(ino, name, value, ROOT)
        assert xattrs.get(ino, name) == value
    assert xattrs.list(ino, ROOT) == [name]
    assert world.stat(ino).ctime_ns > before.ctime_ns
    assert world.stat(ino).mtime_ns == before.mtime_ns
    await xattrs.remove(ino, name)
    assert xattrs.list(ino, ROOT) == []
    for attempt in (xattrs.remove(ino, name), xattrs.set(ino, name, b"", ROOT, replace=True)):
        with fails(errno.ENODATA):
            await attempt
    with fails(errno.ENODATA):
        xattrs.get(ino, name)


@pytest.mark.parametrize("name", [acl.ACCESS, acl.DEFAULT])
async def test_taking_away_a_list_that_is_not_there_is_no_error_and_no_change(world: World, name: bytes) -> None:
    """As on XFS and ext4: the mode bits are a list as well, and who asks for nothing more has it already."""
    for ino in (await world.file(b"f"), await world.directory(b"d")):
        before = world.stat(ino)
        await world.fs.xattrs.remove(ino, name)
        assert world.stat(ino) == before
        with fails(errno.ENODATA):
            world.fs.xattrs.get(ino, name)


async def test_the_flag_says_whether_there_are_any(world: World) -> None:
    """Without it, the question before every write would be a query of the database."""
    ino = await world.file(b"f")
    for name in NAMES:
        await world.fs.xattrs.set(ino, name, b"", ROOT)
        assert world.find(b"f").flags & HAS_XATTRS
    for name in NAMES:
        assert world.find(b"f").flags & HAS_XATTRS
        await world.fs.xattrs.remove(ino, name)
    assert not world.find(b"f").flags & HAS_XATTRS


async def test_create_and_replace(world: World) -> None:
    await world.fs.xattrs.set(ROOT_INO, b"user.a", b"1", ALICE, create=True)
    with fails(errno.EEXIST):
        await world.fs.xattrs.set(ROOT_INO, b"user.a", b"2", ALICE, create=True)
    await world.fs.xattrs.set(ROOT_INO, b"user.a", b"3", ALICE, replace=True)
    assert world.fs.xattrs.get(ROOT_INO, b"user.a") == b"3"


@pytest.mark.parametrize("name", [b"system.other", b"nothing", b"users.x", b"other.x", b"system.nfs4_acl"])
async def test_other_namespaces_are_not_supported(world: World, name: bytes) -> None:
    with fails(errno.EOPNOTSUPP):
        world.fs.xattrs.get(ROOT_INO, name)
    with fails(errno.EOPNOTSUPP):
        await world.fs.xattrs.set(ROOT_INO, name, b"", ROOT)
    with fails(errno.EOPNOTSUPP):
        await world.fs.xattrs.remove(ROOT_INO, name)


@pytest.mark.parametrize("name", [b"user.", b"trusted.", b"security."])
async def test_a_namespace_without_a_name_is_einval_as_everywhere(world: World, name: bytes) -> None:
    with fails(errno.EINVAL):
        world.fs.xattrs.get(ROOT_INO, name)
    with fails(errno.EINVAL):
        await world.fs.xattrs.set(ROOT_INO, name, b"", ROOT)


async def test_limits(world: World) -> None:
    ino = await world.file(b"f")
    with fails(errno.E2BIG):
        await world.fs.xattrs.set(ino, b"user.a", b"v" * (MAX_VALUE + 1), ALICE)
    with fails(errno.ERANGE):
        await world.fs.xattrs.set(ino, b"user." + b"n" * 251, b"", ALICE)
    for number in range(MAX_LIST // 256):
        await world.fs.xattrs.set(ino, b"user.%0250d" % number, b"", ALICE)
    assert sum(len(name) + 1 for name in world.fs.xattrs.list(ino, ALICE)) == MAX_LIST
    with fails(errno.ENOSPC):
        await world.fs.xattrs.set(ino, b"user.a", b"", ALICE)
    await world.fs.xattrs.set(ino, b"user.%0250d" % 0, b"changed", ALICE)


async def test_trusted_is_listed_only_for_root(world: World) -> None:
    await world.fs.xattrs.set(ROOT_INO, b"trusted.a", b"", ROOT)
    assert world.fs.xattrs.list(ROOT_INO, ALICE) == []
    assert world.fs.xattrs.list(ROOT_INO, ROOT) == [b"trusted.a"]


async def test_they_go_with_the_file(world: World) -> None:
    ino = await world.file(b"f")
    await world.fs.xattrs.set(ino, b"user.a", b"x", ALICE)
    await world.fs.namespace.unlink(ROOT_INO, b"f")
    assert world.db.names.list_xattrs(ino) == []


# ---- access control lists

NOBODY = 0xFFFFFFFF


def acl_value(user: int, group: int, other: int, *, named: tuple[int, int] | None = None, mask: int = 7) -> bytes:
    """An access control list; `named` = (uid, permissions) of one more user, which needs the mask."""
    entries = [(0x01, user, NOBODY), (0x04, group, NOBODY), (0x20, other, NOBODY)]
    if named is not None:
        entries[1:1] = [(0x02, named[1], named[0])]
        entries[-1:-1] = [(0x10, mask, NOBODY)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def mode_of(world: World, ino: int) -> int:
    return stat.S_IMODE(world.stat(ino).mode)


async def test_an_access_list_sets_the_mode(world: World) -> None:
    ino = await world.file(b"f", mode=0o600)
    value = acl_value(7, 5, 4, named=(2000, 6), mask=6)
    await world.fs.xattrs.set(ino, acl.ACCESS, value, ALICE)
    assert mode_of(world, ino) == 0o764
    assert world.fs.xattrs.get(ino, acl.ACCESS) == value


async def test_a_list_that_mode_bits_can_say_is_not_kept(world: World) -> None:
    ino = await world.file(b"f", mode=0o600)
    await world.fs.xattrs.set(ino, acl.ACCESS, acl_value(7, 0, 0, named=(2000, 6)), ALICE)
    await world.fs.xattrs.set(ino, acl.ACCESS, acl_value(6, 4, 0), ALICE)
    assert mode_of(world, ino) == 0o640
    assert world.fs.xattrs.list(ino, ALICE) == []


async def test_chmod_changes_the_list(world: World) -> None:
    ino = await world.file(b"f")
    await world.fs.xattrs.set(ino, acl.ACCESS, acl_value(7, 7, 7, named=(2000, 7)), ALICE)
    await world.fs.attributes.set(ino, Changes(mode=0o640))
    assert world.fs.xattrs.get(ino, acl.ACCESS) == acl_value(6, 7, 0, named=(2000, 7), mask=4)


async def test_what_is_made_inherits_the_default_list(world: World) -> None:
    parent = await world.directory(b"d")
    default = acl_value(7, 5, 5, named=(2000, 7))
    await world.fs.xattrs.set(parent, acl.DEFAULT, default, ALICE)
    file = await world.file(b"f", parent=parent, mode=0o640)
    assert mode_of(world, file) == 0o640
    assert world.fs.xattrs.get(file, acl.ACCESS) == acl_value(6, 5, 0, named=(2000, 7), mask=4)
    assert world.fs.xattrs.list(file, ALICE) == [acl.ACCESS]
    inner = await world.directory(b"inner", parent, mode=0o755)
    assert world.fs.xattrs.get(inner, acl.DEFAULT) == default
    link = await world.fs.namespace.symlink(parent, b"s", b"t", ALICE)
    assert world.fs.xattrs.list(link.ino, ALICE) == []


async def test_inheriting_never_gives_more_than_was_asked_for(world: World) -> None:
    parent = await world.directory(b"d")
    await world.fs.xattrs.set(parent, acl.DEFAULT, acl_value(7, 7, 7), ALICE)
    ino = await world.file(b"f", parent=parent, mode=0o600)
    assert mode_of(world, ino) == 0o600
    assert not world.find(b"f", parent).flags & HAS_XATTRS


async def test_only_directories_have_a_default_list(world: World) -> None:
    ino = await world.file(b"f")
    with fails(errno.EACCES):
        await world.fs.xattrs.set(ino, acl.DEFAULT, acl_value(7, 5, 5), ALICE)


async def test_a_stranger_to_the_group_loses_setgid(world: World) -> None:
    ino = await world.file(b"f", mode=0o2755)
    world.db.names.update_inode(ino, gid=4242)
    await world.fs.xattrs.set(ino, acl.ACCESS, acl_value(7, 5, 5), ALICE)
    assert mode_of(world, ino) == 0o755


async def test_a_member_of_the_group_keeps_setgid(world: World) -> None:
    ino = await world.file(b"f", mode=0o2755)
    await world.fs.xattrs.set(ino, acl.ACCESS, acl_value(7, 5, 5), IN_ALICES_GROUP)
    assert mode_of(world, ino) == 0o2755


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\2\0\0\0x",
        acl_value(7, 5, 5)[:-8],  # no others
        acl_value(7, 5, 5) + struct.pack("<HHI", 0x02, 7, 5),  # a named user without a mask
        acl_value(7, 5, 5) + struct.pack("<HHI", 0x01, 7, 5),  # two owners
        acl_value(7, 5, 5) + struct.pack("<HHI", 0x40, 7, 5),  # an unknown tag
        acl_value(7, 5, 9),
    ],
)
async def test_a_list_that_is_none_is_refused(world: World, value: bytes) -> None:
    with fails(errno.EINVAL):
        await world.fs.xattrs.set(ROOT_INO, acl.ACCESS, value, ROOT)
    assert mode_of(world, ROOT_INO) == 0o755


def test_build_is_the_opposite_of_parse() -> None:
    value = acl_value(7, 5, 4, named=(2000, 6), mask=6)
    assert acl.build(acl.parse(value)) == value
