"""What the file system should be: a tree in plain dictionaries, whose every operation answers with an errno or 0.

Inodes carry the numbers that the real file system gave them, so that hard links compare by themselves. Nodes are never
changed, only exchanged; so a *moment*, the whole tree at one point, costs two shallow copies.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

ROOT = 1
NOREPLACE, EXCHANGE = 1, 2


@dataclass(frozen=True, slots=True)
class Node:
    """data: the bytes of a file or a symbolic link's target. parent: of a directory."""

    ino: int
    mode: int
    nlink: int
    mtime_ns: int
    data: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    parent: int = 0

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


Tree = dict[bytes, Node]
"""Every path below the root, and "" for the root."""


@dataclass
class Moment:
    """The tree at one point in time."""

    nodes: dict[int, Node]
    names: dict[tuple[int, bytes], int]

    def tree(self) -> Tree:
        children: dict[int, list[tuple[bytes, int]]] = {}
        for (parent, name), ino in self.names.items():
            children.setdefault(parent, []).append((name, ino))
        return dict(self._walk(b"", ROOT, children))

    def _walk(
        self, path: bytes, ino: int, children: dict[int, list[tuple[bytes, int]]]
    ) -> Iterator[tuple[bytes, Node]]:
        yield path, self.nodes[ino]
        for name, child in children.get(ino, ()):
            yield from self._walk(path + b"/" + name, child, children)


@dataclass
class Model(Moment):
    """The tree as it is now, and who holds what. Each operation returns 0 after changing the tree, or an errno."""

    handles: dict[int, int] = field(default_factory=dict)
    """Open handles: number → inode."""
    wall_ns: Callable[[], int] = lambda: 0

    # ---- moments ----------------------------------------------------------------------------------------------------

    def moment(self) -> Moment:
        return Moment(dict(self.nodes), dict(self.names))

    def restart(self, moment: Moment) -> None:
        """The file system was opened at this moment: nobody holds anything, what had no name is gone."""
        self.handles.clear()
        self.names = dict(moment.names)
        named = {ROOT, *self.names.values()}
        self.nodes = {ino: node for ino, node in moment.nodes.items() if ino in named}

    # ---- names ------------------------------------------------------------------------------------------------------

    def make(self, parent: int, name: bytes, mode: int, ino: int, target: bytes = b"") -> int:
        """A directory, FIFO or symbolic link, or a file that must not be there. ino: what the real one got."""
        if (problem := self._directory(parent)) or (problem := self._vacant(parent, name)):
            return problem
        now, is_dir = self.wall_ns(), stat.S_ISDIR(mode)
        self.nodes[ino] = Node(ino, mode, 2 if is_dir else 1, now, target, parent=parent if is_dir else 0)
        self.names[parent, name] = ino
        self._touch(parent, now, links=int(is_dir))
        return 0

    def create(self, parent: int, name: bytes, mode: int, ino: int, *, exclusive: bool) -> int:
        there = self.names.get((parent, name))
        if there is None or self._directory(parent):
            return self._directory(parent) or self.make(parent, name, mode, ino)
        if exclusive:
            return errno.EEXIST
        return errno.EISDIR if self.nodes[there].is_dir else 0

    def link(self, ino: int, parent: int, name: bytes) -> int:
        node = self.nodes.get(ino)
        if node is None:
            return errno.ESTALE
        if node.is_dir:
            return errno.EPERM
        if node.nlink == 0:
            return errno.ENOENT
        if (problem := self._directory(parent)) or (problem := self._vacant(parent, name)):
            return problem
        self.nodes[ino] = replace(node, nlink=node.nlink + 1)
        self.names[parent, name] = ino
        self._touch(parent, self.wall_ns())
        return 0

    def unlink(self, parent: int, name: bytes) -> int:
        if problem := self._directory(parent) or self._absent(parent, name):
            return problem
        ino = self.names[parent, name]
        if self.nodes[ino].is_dir:
            return errno.EISDIR
        del self.names[parent, name]
        self._touch(parent, self.wall_ns())
        self._drop_name(ino)
        return 0

    def rmdir(self, parent: int, name: bytes) -> int:
        if problem := self._directory(parent) or self._absent(parent, name):
            return problem
        ino = self.names[parent, name]
        if not self.nodes[ino].is_dir:
            return errno.ENOTDIR
        if not self._is_empty(ino):
            return errno.ENOTEMPTY
        del self.names[parent, name]
        self._touch(parent, self.wall_ns(), links=-1)
        self._drop_name(ino)
        return 0

    def rename(self, old: int, name: bytes, new: int, other: bytes, flags: int) -> int:
        if problem := self._directory(old) or self._directory(new) or self._absent(old, name):
            return problem
        moved, target = self.names[old, name], self.names.get((new, other))
        if flags == EXCHANGE:
            return self._exchange(old, name, moved, new, other, target)
        if target is None:
            return self._move(old, name, moved, new, other)
        if flags == NOREPLACE:
            return errno.EEXIST
        if target == moved:
            return 0
        return self._replace(old, name, moved, new, other, target)

    def _move(self, old: int, name: bytes, moved: int, new: int, other: bytes) -> int:
        if self._into_itself(moved, old, new):
            return errno.EINVAL
        del self.names[old, name]
        self.names[new, other] = moved
        self._arrive(moved, old, new)
        self._touch_both(old, new)
        return 0

    def _replace(self, old: int, name: bytes, moved: int, new: int, other: bytes, target: int) -> int:
        if self._into_itself(moved, old, new):
            return errno.EINVAL
        if problem := self._replaceable(self.nodes[moved], self.nodes[target]):
            return problem
        del self.names[old, name]
        self.names[new, other] = moved
        if self.nodes[target].is_dir:
            self._links(new, -1)
        self._arrive(moved, old, new)
        self._touch_both(old, new)
        self._drop_name(target)
        return 0

    def _replaceable(self, moved: Node, target: Node) -> int:
        if not target.is_dir:
            return errno.ENOTDIR if moved.is_dir else 0
        if not moved.is_dir:
            return errno.EISDIR
        return 0 if self._is_empty(target.ino) else errno.ENOTEMPTY

    def _exchange(self, old: int, name: bytes, moved: int, new: int, other: bytes, target: int | None) -> int:
        if target is None:
            return errno.ENOENT
        if self._into_itself(moved, old, new) or self._into_itself(target, new, old):
            return errno.EINVAL
        if moved != target:
            self.names[old, name], self.names[new, other] = target, moved
            self._arrive(moved, old, new)
            self._arrive(target, new, old)
        self._touch_both(old, new)
        return 0

    # ---- files ------------------------------------------------------------------------------------------------------

    def open(self, ino: int, fh: int) -> int:
        node = self.nodes.get(ino)
        if node is None:
            return errno.ESTALE
        if not node.is_file and not stat.S_ISFIFO(node.mode):
            return errno.EISDIR if node.is_dir else errno.ELOOP
        self.handles[fh] = ino
        return 0

    def release(self, fh: int) -> int:
        """The inode that the handle held; `forget` it when the real one was let go."""
        return self.handles.pop(fh)

    def read(self, fh: int, offset: int, length: int) -> bytes | int:
        if fh not in self.handles:
            return errno.EBADF
        return self.nodes[self.handles[fh]].data[offset : offset + length]

    def write(self, fh: int, offset: int, data: bytes) -> int:
        if fh not in self.handles:
            return errno.EBADF
        node = self.nodes[self.handles[fh]]
        old = node.data.ljust(offset, b"\0")
        new = old[:offset] + data + old[offset + len(data) :]
        self.nodes[node.ino] = replace(node, data=new, mtime_ns=self.wall_ns())
        return 0

    def truncate(self, ino: int, size: int) -> int:
        node = self.nodes.get(ino)
        if node is None:
            return errno.ESTALE
        if not node.is_file:
            return errno.EISDIR if node.is_dir else errno.EINVAL
        self.nodes[ino] = replace(node, data=node.data[:size].ljust(size, b"\0"), mtime_ns=self.wall_ns())
        return 0

    def chmod(self, ino: int, bits: int) -> int:
        if (node := self.nodes.get(ino)) is None:
            return errno.ESTALE
        self.nodes[ino] = replace(node, mode=stat.S_IFMT(node.mode) | bits)
        return 0

    def set_xattr(self, ino: int, name: bytes, value: bytes) -> int:
        if (node := self.nodes.get(ino)) is None:
            return errno.ESTALE
        self.nodes[ino] = replace(node, xattrs=tuple(sorted({**dict(node.xattrs), name: value}.items())))
        return 0

    def remove_xattr(self, ino: int, name: bytes) -> int:
        if (node := self.nodes.get(ino)) is None:
            return errno.ESTALE
        if name not in dict(node.xattrs):
            return errno.ENODATA
        self.nodes[ino] = replace(node, xattrs=tuple(each for each in node.xattrs if each[0] != name))
        return 0

    # ---- rules ------------------------------------------------------------------------------------------------------

    def _directory(self, ino: int) -> int:
        """Why nothing can be made, found or removed in this inode; 0 if it can."""
        node = self.nodes.get(ino)
        if node is None:
            return errno.ESTALE
        if not node.is_dir:
            return errno.ENOTDIR
        return 0 if node.nlink else errno.ENOENT

    def _vacant(self, parent: int, name: bytes) -> int:
        return errno.EEXIST if (parent, name) in self.names else 0

    def _absent(self, parent: int, name: bytes) -> int:
        return 0 if (parent, name) in self.names else errno.ENOENT

    def _is_empty(self, ino: int) -> bool:
        return all(parent != ino for parent, _ in self.names)

    def _into_itself(self, moved: int, source: int, parent: int) -> bool:
        if source == parent or not self.nodes[moved].is_dir:
            return False
        while parent != ROOT:
            if parent == moved:
                return True
            parent = self.nodes[parent].parent
        return False

    def _arrive(self, moved: int, old: int, new: int) -> None:
        if self.nodes[moved].is_dir and old != new:
            self.nodes[moved] = replace(self.nodes[moved], parent=new)
            self._links(old, -1)
            self._links(new, 1)

    def _links(self, ino: int, step: int) -> None:
        self.nodes[ino] = replace(self.nodes[ino], nlink=self.nodes[ino].nlink + step)

    def _touch(self, ino: int, now: int, links: int = 0) -> None:
        node = self.nodes[ino]
        self.nodes[ino] = replace(node, mtime_ns=now, nlink=node.nlink + links)

    def _touch_both(self, old: int, new: int) -> None:
        for ino in {old, new}:
            self._touch(ino, self.wall_ns())

    def _drop_name(self, ino: int) -> None:
        node = self.nodes[ino]
        self.nodes[ino] = replace(node, nlink=0 if node.is_dir else node.nlink - 1)
        self.forget(ino)

    def forget(self, ino: int) -> None:
        """An inode without a name goes when nobody holds it."""
        if ino in self.nodes and self.nodes[ino].nlink == 0 and ino not in self.handles.values():
            del self.nodes[ino]


def new_model(root_mode: int, mtime_ns: int, wall_ns: Callable[[], int]) -> Model:
    """An empty tree."""
    return Model({ROOT: Node(ROOT, root_mode, 2, mtime_ns, parent=ROOT)}, {}, wall_ns=wall_ns)
