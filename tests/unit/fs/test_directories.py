"""Reading directories: positions survive whatever is made and removed around them."""

from __future__ import annotations

import errno
import itertools

import pytest

from ecfs.fs.rename import Place
from ecfs.meta import ROOT_INO
from tests.unit.fs.conftest import ALICE, World, fails


def listing(world: World, fh: int, position: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
    entries = itertools.islice(world.fs.directories.read(fh, position), limit)
    return [(entry.position, entry.name) for entry in entries]


async def filled(world: World, count: int) -> int:
    for number in range(count):
        await world.file(b"%04d" % number)
    return world.fs.directories.open(ROOT_INO, ALICE)


async def test_dot_and_dot_dot_come_first_and_are_not_counted(world: World) -> None:
    outer = await world.directory(b"outer")
    inner = await world.directory(b"inner", outer)
    await world.file(b"file", parent=inner)
    entries = list(world.fs.directories.read(world.fs.directories.open(inner, ALICE), 0))
    assert [(e.name, e.inode.ino, e.counted) for e in entries] == [
        (b".", inner, False),
        (b"..", outer, False),
        (b"file", world.find(b"file", inner).ino, True),
    ]


@pytest.mark.parametrize("step", [1, 7, 32, 33, 1000])
async def test_reading_in_steps_shows_everything_once(world: World, step: int) -> None:
    fh = await filled(world, 100)
    names, position = [], 0
    while part := listing(world, fh, position, step):
        names += [name for _, name in part]
        position = part[-1][0]
    assert names == [b".", b"..", *(b"%04d" % number for number in range(100))]


async def test_every_position_can_be_returned_to(world: World) -> None:
    fh = await filled(world, 40)
    whole = listing(world, fh)
    for index, (position, _) in enumerate(whole):
        assert listing(world, fh, position) == whole[index + 1 :]


async def test_deletion_while_reading_skips_nothing(world: World) -> None:
    fh = await filled(world, 100)
    seen, position = set(), 0
    while part := listing(world, fh, position, 5):
        position = part[-1][0]
        for _, name in part:
            seen.add(name)
            if name not in (b".", b".."):
                await world.fs.namespace.unlink(ROOT_INO, name)
    assert len(seen) == 102
    assert not world.tree()


async def test_insertion_while_reading_shows_the_old_ones_once(world: World) -> None:
    fh = await filled(world, 50)
    names, position, made = [], 0, 0
    while (part := listing(world, fh, position, 5)) and made < 40:
        names += [name for _, name in part]
        position = part[-1][0]
        made += 1
        await world.file(b"new%d" % made)
    assert len(names) == len(set(names))
    assert {b"%04d" % number for number in range(50)} <= set(names)


@pytest.mark.parametrize("change", ["rename", "make"])
async def test_who_renames_or_makes_a_name_for_each_one_it_reads_reaches_the_end(world: World, change: str) -> None:
    fh = await filled(world, 50)
    names, position = [], 0
    while part := listing(world, fh, position, 3):
        names += [name for _, name in part if name not in (b".", b"..")]
        position = part[-1][0]
        assert len(names) <= 50
        for _, name in part:
            if name in (b".", b".."):
                continue
            if change == "rename":
                await world.fs.renaming.rename(Place(ROOT_INO, name), Place(ROOT_INO, name + b".old"))
            else:
                await world.file(name + b".new")
    assert names == [b"%04d" % number for number in range(50)]
    assert len(listing(world, fh)) == (52 if change == "rename" else 102), "rewound, it shows what is there now"


async def test_a_position_in_a_name_that_is_gone_still_works(world: World) -> None:
    fh = await filled(world, 10)
    position = listing(world, fh)[5][0]
    for number in range(10):
        await world.fs.namespace.unlink(ROOT_INO, b"%04d" % number)
    assert listing(world, fh, position) == []
    await world.file(b"later")
    assert listing(world, fh, position) == [], "made since the directory was opened"
    fresh = world.fs.directories.open(ROOT_INO, ALICE)
    assert [name for _, name in listing(world, fresh, position)] == [b"later"]


async def test_only_directories_open_as_directories(world: World) -> None:
    with fails(errno.ENOTDIR):
        world.fs.directories.open(await world.file(b"a"), ALICE)
    with fails(errno.ESTALE):
        world.fs.directories.open(999, ALICE)
    with fails(errno.EBADF):
        list(world.fs.directories.read(999, 0))


async def test_a_removed_directory_that_is_open_is_empty(world: World) -> None:
    ino = await world.directory(b"d")
    fh = world.fs.directories.open(ino, ALICE)
    await world.fs.namespace.rmdir(ROOT_INO, b"d")
    assert [name for _, name in listing(world, fh)] == [b".", b".."]
    await world.fs.directories.release(fh)
    assert world.db.names.inode(ino) is None
