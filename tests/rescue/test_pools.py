"""Whole pools restored by the program alone: from every four drives, killed, damaged, mixed up."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest
import trio

from ecfs.fs.filesystem import FileSystem
from ecfs.fs.rename import Place
from tests.rescue.pools import DiskPool, Tree, put, put_tree, rescue, seed_bytes, snapshot, sync
from tests.rescue.trees import make_tree

MIB = 1 << 20
FOURS = list(combinations(range(6), 4))


def state(drives: list[Path]) -> dict[str, tuple[bytes, int]]:
    """Every byte and every time of what lies on drives."""
    files = [path for drive in drives for path in drive.rglob("*")]
    return {str(f): (f.read_bytes() if f.is_file() else b"", f.stat().st_mtime_ns) for f in files}


# ---- one of everything, from each four drives -----------------------------------------------------------------


class Stored:
    """A pool with the tree, closed cleanly and killed."""

    def __init__(self, path: Path) -> None:
        make_tree(path / "tree")
        self.tree: Tree = snapshot(path / "tree")
        self.pool = DiskPool(path / "pool")
        trio.run(self._store, path / "tree")
        self.clean = self.pool.copy(path / "clean")
        trio.run(self._change)
        self.killed = self.pool.drives
        self.changed = self._changed()

    async def _store(self, tree: Path) -> None:
        await self.pool.create()
        async with self.pool.mounted() as fs:
            await put_tree(fs, tree, self.tree)

    async def _change(self) -> None:
        """Commits of every kind, which only the journal has; and one file that no commit has."""
        async with self.pool.mounted(clean=False) as fs:
            await put(fs, b"new", b"new bytes")
            await sync(fs)
            await put(fs, b"new", seed_bytes(5 * MIB, 7))
            await fs.namespace.unlink(1, b"seven")
            await fs.namespace.unlink(1, b"empty")
            await fs.xattrs.remove(self._ino(fs, b"big"), b"user.large")
            await sync(fs)
            await fs.renaming.rename(Place(1, b"new"), Place(1, b"renamed"))
            await sync(fs)
            await put(fs, b"never synced", seed_bytes(20 * MIB, 8))

    def _changed(self) -> Tree:
        """What `_change` left of the tree, apart from the root and new files."""
        left = {name: node for name, node in self.tree.items() if name not in (b".", b"seven", b"empty")}
        left[b"many/7"] = left[b"many/7"]._replace(names=frozenset([b"many/7"]))
        for name in left[b"big"].names:
            left[name] = left[name]._replace(xattrs={})
        return left

    def _ino(self, fs: FileSystem, name: bytes) -> int:
        inode = fs.namespace.lookup(1, name)
        assert inode is not None
        return inode.ino


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return Stored(tmp_path_factory.mktemp("stored"))


@pytest.mark.parametrize("four", FOURS)
def test_any_four_drives_give_back_everything(stored: Stored, four: tuple[int, ...], tmp_path: Path) -> None:
    result = rescue([stored.clean[slot] for slot in reversed(four)], tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert snapshot(tmp_path / "out") == stored.tree
    assert os.stat(tmp_path / "out" / "sparse").st_blocks * 512 < 2 * MIB


@pytest.mark.parametrize("four", [FOURS[0], FOURS[7], FOURS[14]])
def test_a_killed_pool_is_restored_up_to_its_last_commit(stored: Stored, four: tuple[int, ...], tmp_path: Path) -> None:
    result = rescue([stored.killed[slot] for slot in four], tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    restored = snapshot(tmp_path / "out")
    assert (tmp_path / "out" / "renamed").read_bytes() == seed_bytes(5 * MIB, 7)
    assert set(restored) - set(stored.changed) == {b".", b"renamed"}
    assert {name: restored[name] for name in stored.changed} == stored.changed


def test_drives_are_only_read(stored: Stored, tmp_path: Path) -> None:
    before = state(stored.clean)
    assert rescue(stored.clean, tmp_path / "out").returncode == 0
    assert state(stored.clean) == before
