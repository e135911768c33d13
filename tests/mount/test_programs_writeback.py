"""With -o writeback the kernel keeps what was written for a while; what programs see must be the same as without."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.differential.run import Sides, assert_same
from tests.differential.steps import random_steps, with_disasters
from tests.differential.world import two_sides
from tests.mount.real import Pool, mounted_pool

pytestmark = pytest.mark.mount

LONG_AGO = 10**18


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with mounted_pool(tmp_path_factory.mktemp("writeback"), "writeback") as made:
        yield made


@pytest.fixture
def path(pool: Pool) -> Path:
    path = pool.mnt / "file"
    path.write_bytes(b"-" * 5000)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return path


def seen(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


def test_size_and_time_after_write_and_append_stay_through_sync_close_and_remount(pool: Pool, path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(b"more")
        size, moved = seen(path)
        assert (size, moved > LONG_AGO) == (5004, True)
        time.sleep(0.5)  # the daemon commits meanwhile
        os.fsync(file.fileno())
        assert seen(path) == (size, moved)
    assert seen(path) == (size, moved)
    pool.remount()
    assert seen(path) == (size, moved)


def test_a_time_set_by_hand_survives_data_that_was_still_dirty(pool: Pool, path: Path) -> None:
    """What cp -p and rsync do."""
    with path.open("r+b", buffering=0) as file:
        file.write(b"new")
        os.utime(path, ns=(LONG_AGO, LONG_AGO + 7))
    path.rename(path.with_name("renamed"))
    pool.remount()
    assert seen(path.with_name("renamed")) == (5000, LONG_AGO + 7)
    assert path.with_name("renamed").read_bytes() == b"new" + b"-" * 4997


def test_part_of_a_page_through_a_handle_that_may_not_read(pool: Pool, path: Path) -> None:
    pool.remount()
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"x", 4500)
    os.close(fd)
    pool.remount()
    assert path.read_bytes() == b"-" * 4500 + b"x" + b"-" * 499


def test_mmap_then_truncate_both_ways(pool: Pool, path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 5000) as mapped:
        mapped[0:4] = mapped[4990:4994] = b"MMAP"
        mapped.flush()
        assert seen(path)[1] > LONG_AGO
        os.ftruncate(file.fileno(), 100)
        os.ftruncate(file.fileno(), 6000)
    expected = b"MMAP" + b"-" * 96 + b"\0" * 5900
    assert path.read_bytes() == expected
    pool.remount()
    assert path.read_bytes() == expected


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    with two_sides("writeback") as both:
        yield both


@pytest.mark.parametrize("steps", [200, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])])
def test_random_steps_as_on_a_plain_directory(steps: int, sides: Sides) -> None:
    for number in range(0, steps, 200):
        chance = Random(f"writeback {number}")
        assert_same(with_disasters(random_steps(chance, 200), chance, 100), sides)
