"""Rename: every kind over every kind, and what it does to link counts, ``..`` and times."""

from __future__ import annotations

import errno

import pytest

from ecfs.fs.rename import EXCHANGE, NOREPLACE, Place
from ecfs.meta import ROOT_INO
from tests.unit.fs.conftest import ALICE, World, fails


async def make(world: World, kind: str, name: bytes) -> int:
    if kind == "file":
        return await world.file(name)
    if kind == "symlink":
        return (await world.fs.namespace.symlink(ROOT_INO, name, b"t", ALICE)).ino
    ino = await world.directory(name)
    if kind == "full":
        await world.file(b"inside", parent=ino)
    return ino


async def rename(world: World, old: bytes, new: bytes, flags: int = 0, source: int = 1, destination: int = 1) -> None:
    await world.fs.renaming.rename(Place(source, old), Place(destination, new), flags)


OVER = {
    ("file", "file"): 0,
    ("file", "symlink"): 0,
    ("symlink", "file"): 0,
    ("file", "empty"): errno.EISDIR,
    ("symlink", "full"): errno.EISDIR,
    ("empty", "file"): errno.ENOTDIR,
    ("full", "symlink"): errno.ENOTDIR,
    ("empty", "empty"): 0,
    ("full", "empty"): 0,
    ("empty", "full"): errno.ENOTEMPTY,
    ("full", "full"): errno.ENOTEMPTY,
}


@pytest.mark.parametrize(("old", "new"), OVER, ids="-over-".join)
async def test_every_kind_over_every_kind(world: World, old: str, new: str) -> None:
    moved, target = await make(world, old, b"old"), await make(world, new, b"new")
    before = world.tree()
    if number := OVER[old, new]:
        with fails(number):
            await rename(world, b"old", b"new")
        assert world.tree() == before
        return
    await rename(world, b"old", b"new")
    assert list(world.tree()) == [b"new"]
    assert world.find(b"new").ino == moved
    with fails(errno.ESTALE):
        world.stat(target)
    assert world.stat(ROOT_INO).nlink == (2 if old in ("file", "symlink") else 3)


@pytest.mark.parametrize("kind", ["file", "symlink", "empty", "full"])
async def test_noreplace_never_replaces(world: World, kind: str) -> None:
    await world.file(b"old")
    await make(world, kind, b"new")
    before = world.tree()
    with fails(errno.EEXIST):
        await rename(world, b"old", b"new", NOREPLACE)
    assert world.tree() == before
    await rename(world, b"old", b"free", NOREPLACE)
    assert b"free" in world.tree()


@pytest.mark.parametrize("kinds", OVER, ids="-with-".join)
async def test_exchange_swaps_any_two_kinds(world: World, kinds: tuple[str, str]) -> None:
    left = await world.directory(b"left")
    one, two = await make(world, kinds[0], b"one"), await make(world, kinds[1], b"two")
    await rename(world, b"one", b"one", source=ROOT_INO, destination=left)
    await rename(world, b"one", b"two", EXCHANGE, source=left)
    assert world.find(b"one", left).ino == two
    assert world.find(b"two").ino == one
    is_directory = [kind in ("empty", "full") for kind in kinds]
    assert world.stat(left).nlink == 2 + is_directory[1]
    assert world.stat(ROOT_INO).nlink == 3 + is_directory[0]
    if is_directory[1]:
        assert world.find(b"..", two).ino == left


async def test_exchange_needs_both(world: World) -> None:
    await world.file(b"one")
    for old, new in ((b"one", b"two"), (b"two", b"one")):
        with fails(errno.ENOENT):
            await rename(world, old, new, EXCHANGE)


async def test_exchange_with_itself_changes_nothing(world: World) -> None:
    ino = await world.file(b"one")
    await world.fs.namespace.link(ino, ROOT_INO, b"two")
    await rename(world, b"one", b"two", EXCHANGE)
    await rename(world, b"one", b"one", EXCHANGE)
    assert world.tree() == {b"one": (ino, 2), b"two": (ino, 2)}


async def test_two_names_of_one_file_both_stay(world: World) -> None:
    """rename(2): if both are links to the same file, it does nothing and succeeds."""
    ino = await world.file(b"one")
    await world.fs.namespace.link(ino, ROOT_INO, b"two")
    await rename(world, b"one", b"two")
    assert world.tree() == {b"one": (ino, 2), b"two": (ino, 2)}


async def test_a_moved_directory_takes_its_links_along(world: World) -> None:
    a, b = await world.directory(b"a"), await world.directory(b"b")
    moved = await world.directory(b"moved", a)
    await rename(world, b"moved", b"here", source=a, destination=b)
    assert (world.stat(a).nlink, world.stat(b).nlink, world.stat(moved).nlink) == (2, 3, 2)
    assert world.find(b"..", moved).ino == b


async def test_a_directory_cannot_go_below_itself(world: World) -> None:
    top = await world.directory(b"top")
    inner = await world.directory(b"inner", top)
    await world.directory(b"leaf", inner)
    await world.file(b"file")
    for destination in (top, inner):
        with fails(errno.EINVAL):
            await rename(world, b"top", b"x", destination=destination)
    with fails(errno.EINVAL):
        await rename(world, b"top", b"leaf", EXCHANGE, destination=inner)
    with fails(errno.EINVAL):
        await rename(world, b"leaf", b"top", EXCHANGE, source=inner, destination=ROOT_INO)
    assert list(world.tree()) == [b"top", b"file"]


async def test_unknown_flags_are_refused(world: World) -> None:
    await world.file(b"a")
    for flags in (NOREPLACE | EXCHANGE, 4, 8):
        with fails(errno.EINVAL):
            await rename(world, b"a", b"b", flags)


async def test_times_of_a_rename(world: World) -> None:
    a, b = await world.directory(b"a"), await world.directory(b"b")
    ino = await world.file(b"f", parent=a)
    before = world.stat(ino)
    await rename(world, b"f", b"g", source=a, destination=b)
    after = world.stat(ino)
    assert after.ctime_ns > before.ctime_ns
    assert after.mtime_ns == before.mtime_ns
    assert world.stat(a).mtime_ns == world.stat(b).mtime_ns == world.stat(a).ctime_ns == after.ctime_ns


async def test_replacing_one_of_two_names_keeps_the_file(world: World) -> None:
    target = await world.file(b"target", b"kept")
    await world.fs.namespace.link(target, ROOT_INO, b"other")
    await world.file(b"new")
    await rename(world, b"new", b"target")
    assert world.stat(target).nlink == 1
    assert await world.read(world.find(b"other").ino) == b"kept"


async def test_write_and_rename_shows_the_old_or_the_new(world: World) -> None:
    old = await world.file(b"config", b"old")
    new = await world.file(b"config.tmp", b"new")
    handle = await world.fs.files.open(old, 0, ALICE)
    await rename(world, b"config.tmp", b"config")
    assert await world.fs.files.read(handle, 0, 10) == b"old"
    assert await world.read(new) == b"new"
    await world.fs.files.release(handle)
    assert world.data.files == {new}
