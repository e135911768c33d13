"""All six drives are replaced by larger ones, one after the other: the pool grows when the last small one is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.real import Pool
from tests.mount.test_full_drives import loop_drives
from tests.programs import place

pytestmark = [pytest.mark.mount, pytest.mark.timeout(600)]
SMALL, LARGE = 48, 96
MIB = 1 << 20


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    (tmp_path / "new").mkdir()
    with loop_drives(tmp_path, [SMALL] * 6), loop_drives(tmp_path / "new", [LARGE] * 6), place(tmp_path) as here:
        pool = Pool(here)
        pool.mount()
        yield pool
        pool.ecfs("umount", "mnt", status=None)


def new(pool: Pool, slot: int) -> Path:
    return pool.place.path / "new" / "drives" / f"d{slot}" / "ecfs"


def room(pool: Pool) -> int:
    """Bytes that df shows in all."""
    found = os.statvfs(pool.mnt)
    return found.f_blocks * found.f_frsize


def settled(pool: Pool, least: int) -> int:
    """The same, once the drives were asked again."""
    deadline = time.monotonic() + 60
    while room(pool) < least and time.monotonic() < deadline:
        time.sleep(0.5)
    return room(pool)


@pytest.mark.soak
def test_six_larger_drives_make_a_larger_pool(pool: Pool) -> None:
    (pool.mnt / "kept").write_bytes(os.urandom(20 * MIB))
    kept = (pool.mnt / "kept").read_bytes()
    before = room(pool)
    for slot in range(6):
        said = pool.ecfs("replace", "mnt", str(slot), new(pool, slot), "--no-progress")
        assert f"Drive {slot} is {new(pool, slot)} from now on." in said
        if slot < 5:
            assert room(pool) < 1.2 * before  # the smallest decides
    assert settled(pool, int(1.7 * before)) > 1.7 * before
    assert (pool.mnt / "kept").read_bytes() == kept
    pool.remount()
    assert (pool.mnt / "kept").read_bytes() == kept
    (pool.mnt / "more").write_bytes(b"x" * int(1.2 * before))  # more than it could hold before
    pool.ecfs("sync", "mnt")
    shutil.rmtree(new(pool, 0))
    shutil.rmtree(new(pool, 5))
    assert (pool.mnt / "kept").read_bytes() == kept
    text = (pool.place.path / "drives" / "pool.toml").read_text()
    assert all(f"new/drives/d{slot}/ecfs" in text for slot in range(6))


def test_a_replacement_that_was_killed_is_finished_by_the_same_command(pool: Pool) -> None:
    (pool.mnt / "kept").write_bytes(os.urandom(40 * MIB))
    kept = (pool.mnt / "kept").read_bytes()
    pool.ecfs("sync", "mnt")
    replacing = pool.place.start("replace", "mnt", "3", new(pool, 3))
    deadline = time.monotonic() + 60
    while not new(pool, 3).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    pool.kill()  # the daemon, not the command
    replacing.communicate(timeout=60)
    subprocess.run(["umount", "-l", pool.mnt], check=False)
    pool.mount()
    assert (pool.mnt / "kept").read_bytes() == kept
    pool.ecfs("replace", "mnt", "3", new(pool, 3), "--no-progress", status=None)
    assert "healthy" in pool.ecfs("status", "mnt")
    shutil.rmtree(pool.drive(0) / "s")
    shutil.rmtree(pool.drive(1) / "s")
    assert (pool.mnt / "kept").read_bytes() == kept
