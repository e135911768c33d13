"""Pools in directories, trees to put into them, and the rescue program run as its users run it."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from ecfs.clock import SystemClock
from ecfs.commit.engine import Engine
from ecfs.drive.base import Drive
from ecfs.drive.local import LocalDrive
from ecfs.fs.attributes import Changes
from ecfs.fs.caller import Caller
from ecfs.fs.filesystem import FileSystem
from ecfs.geometry import Geometry
from ecfs.journal.create import create_pool
from ecfs.journal.opening import open_pool
from ecfs.pool.settings import Settings

PROGRAM = Path(__file__).parents[2] / "ecfs" / "rescue.py"
IS_ROOT = os.geteuid() == 0
CALLER = Caller(os.geteuid(), os.getegid())
PIECE = 1 << 20


class DiskPool:
    """A pool on k + m directories below one. Nothing is committed that a test does not ask for."""

    def __init__(self, path: Path, k: int = 4, m: int = 2) -> None:
        self.path = path
        self.geometry = Geometry(1, k, m)
        self.settings = Settings(idle_commit_s=10**6, max_commit_s=10**6)
        self.drives = [path / f"d{slot}" for slot in range(k + m)]
        self.scratch = path / "scratch"
        self.scratch.mkdir(parents=True)
        self.pool_id = ""

    async def create(self) -> None:
        owner = (os.geteuid(), os.getegid())
        self.pool_id = await create_pool(
            self._handles(self.drives), self.geometry, clock=SystemClock(), scratch=self.scratch, owner=owner
        )

    def _handles(self, places: Iterable[Path]) -> list[Drive]:
        return [LocalDrive(place) for place in places]

    @asynccontextmanager
    async def mounted(self, *, clean: bool = True, places: Iterable[Path] = ()) -> AsyncIterator[FileSystem]:
        """The file system of the opened pool; clean=False ends as a kill would. places: instead of all drives."""
        drives = self._handles(places or self.drives)
        pool = await open_pool(
            drives, pool_id=self.pool_id, clock=SystemClock(), scratch=self.scratch, settings=self.settings
        )
        engine = Engine(pool)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(engine.run)
                yield FileSystem(pool.db, engine, pool.clock)
                if clean:
                    assert await engine.close()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                for drive in drives:
                    await drive.close()
            pool.db.close()

    def copy(self, target: Path) -> list[Path]:
        """The drives as they are now, as a tool would clone them."""
        return [Path(shutil.copytree(drive, target / drive.name)) for drive in self.drives]


async def sync(fs: FileSystem) -> None:
    """Everything answered so far becomes durable."""
    engine = fs._core.data
    assert isinstance(engine, Engine)
    await engine.sync()


async def put(fs: FileSystem, name: bytes, data: bytes) -> None:
    """Replace the content of a file in the root."""
    inode = await fs.namespace.create(1, name, 0o644, CALLER, exclusive=False)
    handle = await fs.files.open(inode.ino, os.O_RDWR | os.O_TRUNC, CALLER)
    for start in range(0, len(data), PIECE):
        await fs.files.write(handle, start, data[start : start + PIECE])
    await fs.files.release(handle)


def contents(out: Path) -> dict[str, bytes]:
    """A tree that is one folder of files."""
    return {path.name: path.read_bytes() for path in out.iterdir()}


# ---- trees ------------------------------------------------------------------------------------------------------


class Node(NamedTuple):
    """What must be the same about a file, all but its names. data: hash of the content, or where a link leads."""

    mode: int
    owner: tuple[int, int]
    size: int
    rdev: int
    times: tuple[int, int]
    data: bytes
    xattrs: dict[str, bytes]
    names: frozenset[bytes]


Tree = dict[bytes, Node]


def snapshot(root: Path) -> Tree:
    """Every name below `root` and what it is; looks before it reads, since reading changes times."""
    found = list(_look(os.fsencode(root), b"."))
    names: dict[tuple[int, int], list[bytes]] = {}
    for name, info, _, _ in found:
        names.setdefault((info.st_dev, info.st_ino), []).append(name)
    return {
        name: Node(
            info.st_mode,
            (info.st_uid, info.st_gid),
            0 if stat.S_ISDIR(info.st_mode) else info.st_size,
            info.st_rdev,
            (info.st_atime_ns, info.st_mtime_ns),
            data,
            xattrs,
            frozenset(names[info.st_dev, info.st_ino]),
        )
        for name, info, data, xattrs in found
    }


def _look(root: bytes, name: bytes):
    path = os.path.join(root, name)
    info = os.lstat(path)
    xattrs = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
    data = b""
    if stat.S_ISREG(info.st_mode):
        with open(os.open(path, os.O_RDONLY | os.O_NOATIME), "rb") as file:  # it may have more names to come
            data = hashlib.file_digest(file, "blake2b").digest()
    elif stat.S_ISLNK(info.st_mode):
        data = os.readlink(path)
    yield name, info, data, xattrs
    if stat.S_ISDIR(info.st_mode):
        for inner in sorted(os.listdir(path)):
            yield from _look(root, inner if name == b"." else os.path.join(name, inner))


async def put_tree(fs: FileSystem, root: Path, tree: Tree) -> None:
    """Store a tree of the local file system, `tree` being its snapshot."""
    inos: dict[bytes, int] = {b".": 1}
    for name, node in tree.items():
        if name == b".":
            continue
        parent, leaf = inos[os.path.dirname(name) or b"."], os.path.basename(name)
        first = next((inos[other] for other in node.names if other in inos), None)
        if first is not None:
            await fs.namespace.link(first, parent, leaf)
            inos[name] = first
        else:
            inos[name] = await _put_node(fs, os.path.join(os.fsencode(root), name), node, parent, leaf)
    for name, node in reversed(tree.items()):
        await _put_attributes(fs, inos[name], node)


async def _put_node(fs: FileSystem, path: bytes, node: Node, parent: int, leaf: bytes) -> int:
    kind = stat.S_IFMT(node.mode)
    if kind == stat.S_IFDIR:
        return (await fs.namespace.mkdir(parent, leaf, 0o755, CALLER)).ino
    if kind == stat.S_IFLNK:
        return (await fs.namespace.symlink(parent, leaf, node.data, CALLER)).ino
    if kind != stat.S_IFREG:
        return (await fs.namespace.mknod(parent, leaf, node.mode, node.rdev, CALLER)).ino
    ino = (await fs.namespace.create(parent, leaf, 0o644, CALLER, exclusive=True)).ino
    await put_data(fs, ino, path, node.size)
    return ino


async def put_data(fs: FileSystem, ino: int, path: bytes, size: int) -> None:
    """Content with its holes."""
    handle = await fs.files.open(ino, os.O_RDWR, CALLER)
    with open(path, "rb") as file:
        for offset in range(0, size, PIECE):
            piece = file.read(PIECE)
            if piece.strip(b"\0"):
                await fs.files.write(handle, offset, piece)
    await fs.files.release(handle)
    await fs.attributes.set(ino, Changes(size=size, caller=CALLER))


async def _put_attributes(fs: FileSystem, ino: int, node: Node) -> None:
    for key, value in node.xattrs.items():
        await fs.xattrs.set(ino, os.fsencode(key), value, CALLER)
    uid, gid = node.owner
    await fs.attributes.set(ino, Changes(uid=uid, gid=gid, caller=CALLER))
    mode = None if stat.S_ISLNK(node.mode) else stat.S_IMODE(node.mode)
    atime, mtime = node.times
    await fs.attributes.set(ino, Changes(mode=mode, atime_ns=atime, mtime_ns=mtime, caller=CALLER))


# ---- the program ------------------------------------------------------------------------------------------------


def rescue(
    drives: Iterable[Path | str], out: Path | str, *options: str, program: Path = PROGRAM
) -> subprocess.CompletedProcess[str]:
    """Run it as on a machine that has nothing but Python: isolated, no site packages."""
    command = [sys.executable, "-I", "-S", str(program), *options, *map(str, drives), str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def seed_bytes(size: int, seed: int) -> bytes:
    """Bytes that don't repeat."""
    return hashlib.shake_128(seed.to_bytes(4, "little")).digest(size)
