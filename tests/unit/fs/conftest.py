"""A file system over a real metadata database, with data in memory and a clock that ticks at every look."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ecfs.fs.attributes import Attributes
from ecfs.fs.caller import Caller
from ecfs.fs.errors import FsError
from ecfs.fs.filesystem import FileSystem, add_root
from ecfs.geometry import Geometry
from ecfs.meta import ROOT_INO, Database, Inode
from tests.unit.fs.fake_data import FakeData

ROOT = Caller(0, 0)
ALICE = Caller(1000, 100)
IN_ALICES_GROUP = Caller(1001, 1001, pid=7, groups_of=lambda pid: {100} if pid == 7 else set())
BOB = Caller(1002, 1002, pid=8, groups_of=IN_ALICES_GROUP.groups_of)
START = 1_700_000_000_000_000_000


class TickingClock:
    """One nanosecond later at every look, so that "was it touched" is never a matter of luck."""

    def __init__(self) -> None:
        self.now = START

    def wall_ns(self) -> int:
        self.now += 1
        return self.now

    def monotonic(self) -> float:
        return self.now / 1e9

    def token(self, size: int) -> bytes:
        return bytes(size)


@dataclass
class World:
    """The file system under test and short ways to use it."""

    fs: FileSystem
    db: Database
    data: FakeData
    clock: TickingClock = field(default_factory=TickingClock)

    async def file(self, name: bytes, content: bytes = b"", parent: int = ROOT_INO, mode: int = 0o644) -> int:
        inode = await self.fs.namespace.create(parent, name, mode, ALICE, exclusive=True)
        if content:
            await self.write(inode.ino, 0, content)
        return inode.ino

    async def directory(self, name: bytes, parent: int = ROOT_INO, mode: int = 0o755) -> int:
        return (await self.fs.namespace.mkdir(parent, name, mode, ALICE)).ino

    async def write(self, ino: int, offset: int, content: bytes, caller: Caller = ALICE) -> None:
        fh = await self.fs.files.open(ino, 2, caller)
        try:
            assert await self.fs.files.write(fh, offset, content) == len(content)
        finally:
            await self.fs.files.release(fh)

    async def read(self, ino: int, offset: int = 0, length: int = 1 << 20) -> bytes:
        fh = await self.fs.files.open(ino, 0, ALICE)
        try:
            return await self.fs.files.read(fh, offset, length)
        finally:
            await self.fs.files.release(fh)

    def stat(self, ino: int) -> Attributes:
        return self.fs.attributes.get(ino)

    def find(self, name: bytes, parent: int = ROOT_INO) -> Inode:
        inode = self.fs.namespace.lookup(parent, name)
        assert inode is not None, name
        return inode

    def tree(self, ino: int = ROOT_INO) -> dict[bytes, object]:
        """Names and inode numbers, directories as nested trees: to see that nothing changed."""
        entries = self.db.names.entries_with_inodes(ino, 0, 1000)
        return {n: self.tree(i.ino) if stat.S_ISDIR(i.mode) else (i.ino, i.nlink) for _, n, i in entries}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    db = Database.create(tmp_path, Geometry(1, 4, 2))
    clock = TickingClock()
    add_root(db, clock, uid=0, gid=0, mode=0o755)
    data = FakeData()
    yield World(FileSystem(db, data, clock), db, data, clock)
    db.close()


@contextmanager
def fails(number: int) -> Iterator[None]:
    """The block ends with this errno."""
    with pytest.raises(FsError) as caught:
        yield
    assert caught.value.errno == number, caught.value
