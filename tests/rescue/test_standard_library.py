"""The long form: the standard library's tree from each four of six drives, of a closed and of a killed pool."""

from __future__ import annotations

import shutil
import sysconfig
from itertools import combinations
from pathlib import Path

import pytest
import trio

from tests.rescue.pools import DiskPool, put_tree, rescue, snapshot, sync


@pytest.mark.soak
@pytest.mark.parametrize("clean", [True, False])
def test_the_standard_library_comes_back_from_every_four_drives(clean: bool, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(sysconfig.get_path("stdlib"), tree, symlinks=True, ignore=shutil.ignore_patterns("site-packages"))
    expected = snapshot(tree)
    pool = DiskPool(tmp_path / "pool")

    async def fill() -> None:
        await pool.create()
        async with pool.mounted(clean=clean) as fs:
            await put_tree(fs, tree, expected)
            await sync(fs)

    trio.run(fill)
    shutil.rmtree(tree)
    for four in combinations(pool.drives, 4):
        result = rescue(four, tmp_path / "out")
        assert (result.returncode, result.stderr) == (0, ""), result.stdout
        assert snapshot(tmp_path / "out") == expected
        shutil.rmtree(tmp_path / "out")
