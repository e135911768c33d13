"""While changes are refused: every operation answers with the reason, changes nothing, and reads go on."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable

import pytest

from ecfs.errors import EcfsError, FencedError, NotEnoughDrivesError, PoolFullError, StalledError
from ecfs.fs.attributes import Changes
from ecfs.fs.rename import Place
from ecfs.meta import ROOT_INO
from tests.unit.fs.conftest import ALICE, World

Operation = Callable[[World], Awaitable[object]]


def at(name: bytes) -> Place:
    return Place(ROOT_INO, name)


async def write(world: World) -> None:
    await world.write(world.find(b"file").ino, 0, b"new")


async def open_truncating(world: World) -> None:
    await world.fs.files.open(world.find(b"file").ino, os.O_WRONLY | os.O_TRUNC, ALICE)


GROWING: dict[str, Operation] = {
    "create": lambda w: w.fs.namespace.create(ROOT_INO, b"x", 0o600, ALICE, exclusive=True),
    "mknod": lambda w: w.fs.namespace.mknod(ROOT_INO, b"x", stat.S_IFIFO, 0, ALICE),
    "mkdir": lambda w: w.fs.namespace.mkdir(ROOT_INO, b"x", 0o700, ALICE),
    "symlink": lambda w: w.fs.namespace.symlink(ROOT_INO, b"x", b"t", ALICE),
    "link": lambda w: w.fs.namespace.link(w.find(b"file").ino, ROOT_INO, b"x"),
    "setxattr": lambda w: w.fs.xattrs.set(w.find(b"file").ino, b"user.b", b"", ALICE),
    "write": write,
}
FREEING: dict[str, Operation] = {
    "unlink": lambda w: w.fs.namespace.unlink(ROOT_INO, b"file"),
    "rmdir": lambda w: w.fs.namespace.rmdir(ROOT_INO, b"dir"),
    "rename": lambda w: w.fs.renaming.rename(at(b"file"), at(b"moved")),
    "chmod": lambda w: w.fs.attributes.set(w.find(b"file").ino, Changes(mode=0)),
    "truncate": lambda w: w.fs.attributes.set(w.find(b"file").ino, Changes(size=0)),
    "open O_TRUNC": open_truncating,
    "removexattr": lambda w: w.fs.xattrs.remove(w.find(b"file").ino, b"user.a"),
}


async def prepared(world: World) -> int:
    ino = await world.file(b"file", b"content")
    await world.directory(b"dir")
    await world.fs.xattrs.set(ino, b"user.a", b"1", ALICE)
    return ino


@pytest.mark.parametrize("kind", [StalledError, FencedError, NotEnoughDrivesError])
@pytest.mark.parametrize("operation", [*GROWING, *FREEING])
async def test_refused_changes_change_nothing(world: World, operation: str, kind: type[EcfsError]) -> None:
    ino = await prepared(world)
    before = world.tree(), world.stat(ino), world.stat(ROOT_INO), world.fs.xattrs.list(ino, ALICE)
    world.data.refuse, world.data.may_delete = kind("not now"), False
    changes = world.data.changes
    with pytest.raises(kind):
        await (GROWING | FREEING)[operation](world)
    assert (world.tree(), world.stat(ino), world.stat(ROOT_INO), world.fs.xattrs.list(ino, ALICE)) == before
    assert await world.read(ino) == b"content"
    assert world.data.changes == changes
    assert world.fs.handles.open_count == 0


@pytest.mark.parametrize("operation", GROWING)
async def test_a_full_pool_refuses_what_takes_space(world: World, operation: str) -> None:
    await prepared(world)
    world.data.refuse = PoolFullError("full")
    with pytest.raises(PoolFullError):
        await GROWING[operation](world)


@pytest.mark.parametrize("operation", FREEING)
async def test_a_full_pool_allows_what_takes_none(world: World, operation: str) -> None:
    await prepared(world)
    world.data.refuse = PoolFullError("full")
    changes = world.data.changes
    await FREEING[operation](world)
    assert world.data.changes > changes, "the idle commit must be started"


async def test_writes_say_how_much_they_will_store(world: World) -> None:
    ino = await world.file(b"a")
    world.data.admitted.clear()
    await world.write(ino, 10, b"x" * 100)
    assert world.data.admitted == [(100, False)]
