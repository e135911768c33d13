"""The moments that a crash may return to, and how to read a tree back."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

from ecfs.errors import StripeLostError
from ecfs.fs.caller import Caller
from ecfs.fs.filesystem import FileSystem
from ecfs.meta import Inode
from tests.sim.model import ROOT, Moment, Node, Tree

SOMEBODY = Caller(1000, 1000)
ROOT_USER = Caller(0, 0)


class Violation(AssertionError):
    """A promise was broken."""


AT_A_TIME = 6000
"""Bytes."""


@dataclass
class History:
    """The newest moments. `first` is the number of the oldest one that is kept: the floor, below which no crash may
    fall, because an fsync was answered at or after it."""

    moments: list[Moment] = field(default_factory=list)
    first: int = 0

    @property
    def newest(self) -> int:
        return self.first + len(self.moments) - 1

    def answered(self, moment: Moment) -> None:
        self.moments.append(moment)

    def durable(self, number: int) -> None:
        """Everything up to this moment can't be lost any more."""
        if number > self.first:
            del self.moments[: number - self.first]
            self.first = number

    def restart(self, moment: Moment) -> None:
        """The pool was opened to this moment, which settles it."""
        self.first = self.newest + 1
        self.moments = [moment]

    def find(self, tree: Tree) -> Moment | None:
        """The newest allowed moment that looks like this."""
        return next((moment for moment in reversed(self.moments) if moment.tree() == tree), None)

    def recovered(self, tree: Tree, label: str) -> Moment:
        """The moment that a recovery came back to. Raises Violation if it is none."""
        moment = self.find(tree)
        if moment is None:
            raise Violation(
                f"{label}: the tree equals none of moments {self.first} to {self.newest};"
                f" beside the oldest: {difference(self.moments[0].tree(), tree)};"
                f" beside the newest: {difference(self.moments[-1].tree(), tree)}"
            )
        return moment


def difference(wanted: Tree, found: Tree) -> str:
    """What is where it should not be, in one line."""
    lines = [f"{path.decode()} missing" for path in wanted.keys() - found.keys()]
    lines += [f"{path.decode()} unexpected" for path in found.keys() - wanted.keys()]
    lines += [
        f"{path.decode() or '/'}: {_node_difference(node, found[path])}"
        for path, node in wanted.items()
        if path in found and found[path] != node
    ]
    return "; ".join(sorted(lines)[:6]) or "nothing"


def _node_difference(wanted: Node, found: Node) -> str:
    fields = ("ino", "mode", "nlink", "mtime_ns", "xattrs", "parent")
    parts = [
        f"{name} {getattr(wanted, name)} → {getattr(found, name)}"
        for name in fields
        if getattr(wanted, name) != getattr(found, name)
    ]
    if wanted.data != found.data:
        at = next((i for i, (a, b) in enumerate(zip(wanted.data, found.data, strict=False)) if a != b), -1)
        parts.append(f"{len(wanted.data)} → {len(found.data)} bytes, first different at {at}")
    return ", ".join(parts)


async def read_tree(fs: FileSystem, lost: set[bytes] | None = None) -> Tree:
    """Everything that programs can see, by way of the file system. lost: if given, gets the paths of files that can't
    be read, which are then left out."""
    tree: Tree = {}
    root = fs.namespace.lookup(ROOT, b".")
    assert root is not None
    await _read_into(fs, tree, b"", root, lost)
    return tree


async def _read_into(fs: FileSystem, tree: Tree, path: bytes, inode: Inode, lost: set[bytes] | None) -> None:
    try:
        tree[path] = await read_node(fs, inode)
    except StripeLostError:
        if lost is None:
            raise
        lost.add(path)
    if stat.S_ISDIR(inode.mode):
        fh = fs.directories.open(inode.ino, SOMEBODY)
        entries = [(entry.name, entry.inode) for entry in fs.directories.read(fh, 2)]
        await fs.directories.release(fh)
        for name, child in entries:
            await _read_into(fs, tree, path + b"/" + name, child, lost)


async def read_node(fs: FileSystem, inode: Inode) -> Node:
    names = fs.xattrs.list(inode.ino, ROOT_USER)
    xattrs = tuple((name, fs.xattrs.get(inode.ino, name)) for name in sorted(names))
    data = await _data_of(fs, inode)
    parent = inode.parent if stat.S_ISDIR(inode.mode) else 0
    return Node(inode.ino, inode.mode, inode.nlink, inode.mtime_ns, data, xattrs, parent)


async def _data_of(fs: FileSystem, inode: Inode) -> bytes:
    """Every second file at once, the others in requests of which most lie in one shard: those are read another way."""
    if stat.S_ISLNK(inode.mode):
        return fs.namespace.readlink(inode.ino)
    if not stat.S_ISREG(inode.mode):
        return b""
    fh = await fs.files.open(inode.ino, 0, SOMEBODY)
    try:
        step = AT_A_TIME if inode.ino % 2 else max(inode.size, 1)
        return b"".join([await fs.files.read(fh, at, step) for at in range(0, inode.size, step)])
    finally:
        await fs.files.release(fh)
