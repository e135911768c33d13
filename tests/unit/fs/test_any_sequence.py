"""Any sequence of operations leaves metadata that agree with themselves, and data of exactly the files that exist."""

from __future__ import annotations

import contextlib
import stat
import tempfile
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ecfs.fs.attributes import Changes
from ecfs.fs.errors import FsError
from ecfs.fs.filesystem import FileSystem, add_root
from ecfs.fs.rename import EXCHANGE, NOREPLACE, Place
from ecfs.geometry import Geometry
from ecfs.meta import ROOT_INO, Database, cross_check
from tests.unit.fs.conftest import ALICE, TickingClock, World
from tests.unit.fs.fake_data import FakeData

OPERATIONS = [
    "create",
    "mkdir",
    "mkdir",
    "symlink",
    "fifo",
    "link",
    "unlink",
    "rmdir",
    "rename",
    "rename",
    "noreplace",
    "exchange",
    "exchange",
    "write",
    "truncate",
    "open",
    "close",
    "hold",
    "forget",
    "setxattr",
    "removexattr",
]
STEP = st.tuples(
    st.sampled_from(OPERATIONS),
    st.integers(0, 5),  # which directory, of those that exist
    st.sampled_from([b"a", b"b", b"c"]),
    st.integers(0, 5),
    st.sampled_from([b"a", b"b", b"c"]),
)
Step = tuple[str, int, bytes, int, bytes]


class Actor:
    """Does one step after the other; remembers what is open and what the kernel holds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.handles: list[int] = []
        self.held: list[int] = []

    def directories(self) -> list[int]:
        """By number, those held without a name too: the kernel may ask for them."""
        inodes = (self.world.db.names.inode(ino) for ino in range(1, 200))
        return [inode.ino for inode in inodes if inode is not None and stat.S_ISDIR(inode.mode)]

    async def do(self, step: Step) -> None:
        what, first, name, second, other = step
        directories = self.directories()
        here, there = directories[first % len(directories)], directories[second % len(directories)]
        with contextlib.suppress(FsError):
            if what in ("rename", "noreplace", "exchange"):
                flags = {"rename": 0, "noreplace": NOREPLACE, "exchange": EXCHANGE}[what]
                await self.world.fs.renaming.rename(Place(here, name), Place(there, other), flags)
            elif what in ("unlink", "rmdir"):
                await getattr(self.world.fs.namespace, what)(here, name)
            elif what in ("create", "mkdir", "symlink", "fifo"):
                await self.make(what, here, name)
            else:
                await self.use(what, here, name, there, other)

    async def make(self, what: str, here: int, name: bytes) -> None:
        names = self.world.fs.namespace
        if what == "create":
            await names.create(here, name, 0o644, ALICE, exclusive=False)
        elif what == "mkdir":
            await names.mkdir(here, name, 0o755, ALICE)
        elif what == "symlink":
            await names.symlink(here, name, b"target", ALICE)
        else:
            await names.mknod(here, name, stat.S_IFIFO | 0o600, 0, ALICE)

    async def use(self, what: str, here: int, name: bytes, there: int, other: bytes) -> None:
        fs = self.world.fs
        if what == "close" and self.handles:
            await fs.files.release(self.handles.pop())
        elif what == "forget" and self.held:
            ino = self.held.pop()
            fs.handles.forget(ino, 1)
            await fs.orphans.released([ino])
        elif (inode := fs.namespace.lookup(here, name)) is None:
            return
        elif what == "link":
            await fs.namespace.link(inode.ino, there, other)
        elif what == "write":
            await self.world.write(inode.ino, 5000, b"x" * 5000)
        elif what == "truncate":
            await fs.attributes.set(inode.ino, Changes(size=4097))
        elif what == "open":
            self.handles.append(await fs.files.open(inode.ino, 2, ALICE))
        elif what == "hold":
            fs.handles.remember(inode.ino)
            self.held.append(inode.ino)
        elif what == "setxattr":
            await fs.xattrs.set(inode.ino, b"user.x", name, ALICE)
        elif what == "removexattr":
            await fs.xattrs.remove(inode.ino, b"user.x")


async def run(steps: list[Step], db: Database) -> None:
    clock, data = TickingClock(), FakeData()
    add_root(db, clock, uid=0, gid=0)
    world = World(FileSystem(db, data, clock), db, data, clock)
    actor = Actor(world)
    for step in steps:
        await actor.do(step)
        assert list(cross_check(db)) == []
    existing = {ino for ino in range(1, 200) if db.names.inode(ino) is not None}
    assert data.files <= existing
    await FileSystem(db, data, clock).clean_orphans()
    assert list(cross_check(db)) == []
    assert db.names.orphans() == []
    assert db.names.inode(ROOT_INO) is not None


@settings(max_examples=150)
@given(steps=st.lists(STEP, max_size=40))
def test_any_sequence_keeps_the_metadata_consistent(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        db = Database.create(Path(scratch), Geometry(1, 4, 2))
        try:
            trio.run(run, steps, db)
        finally:
            db.close()
