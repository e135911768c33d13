"""Drives that are small ext4 file systems fill up (R23, promise 9)."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.real import Pool, call
from tests.programs import place

pytestmark = pytest.mark.mount
MIB = 1 << 20
JOURNAL = 4 * 3 * 2 * MIB
"""What of the room for payload the journal may take at one time and not at another: on each of four data drives three
segments (two checkpoints are kept) of 1 MiB of records, where drives are this small, and the zeros ahead of them."""


@contextlib.contextmanager
def loop_drives(folder: Path, mib: list[int]) -> Iterator[None]:
    """drives/d0 … on file systems of their own."""
    mounted: list[Path] = []
    try:
        for slot, size in enumerate(mib):
            image, point = folder / f"{slot}.img", folder / "drives" / f"d{slot}"
            point.mkdir(parents=True)
            with image.open("wb") as file:
                file.truncate(size * MIB)
            call("mkfs.ext4", "-q", "-m", "0", image)
            call("mount", "-o", "loop", image, point)
            mounted.append(point)
        yield
    finally:
        for point in mounted:
            subprocess.run(["umount", "-l", point], check=False)


@pytest.fixture(params=[[48] * 6, [48, 48, 48, 24, 48, 48]], ids=["all-alike", "one-smaller"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    with loop_drives(tmp_path, request.param), place(tmp_path) as here:
        pool = Pool(here)
        pool.mount()
        yield pool
        pool.ecfs("umount", "mnt", status=None)


def fill(path: Path, seed: bytes) -> int:
    """Write until there is no room; returns how much was taken. Any other error is a failure."""
    block, size = (seed * 65536)[:65536], 0
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                size += file.write(block)
                if size % (4 * MIB) == 0:
                    os.fsync(file.fileno())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        os.fsync(file.fileno())
    return size


def is_whole(path: Path, seed: bytes, size: int) -> bool:
    expected, done = (seed * 65536)[:65536], 0
    with path.open("rb") as file:
        while piece := file.read(65536):
            if piece != expected[: len(piece)]:
                return False
            done += len(piece)
    return done >= size


def test_a_full_pool_says_enospc_keeps_everything_and_goes_on_after_rm(small: Pool) -> None:
    (small.mnt / "old").write_bytes(b"kept" * 200_000)
    free = os.statvfs(small.mnt)
    size = again = fill(small.mnt / "big", b"a")
    assert size > 0.6 * free.f_bavail * free.f_frsize  # df told the truth
    assert is_whole(small.mnt / "big", b"a", size)
    assert (small.mnt / "old").read_bytes() == b"kept" * 200_000
    assert '"state":"healthy"' in small.ecfs("status", "mnt", "--json").replace(" ", "").replace("\n", "")
    for _ in range(3):
        (small.mnt / "big").unlink()
        again = fill(small.mnt / "big", b"b")
        assert again > size - JOURNAL
        assert is_whole(small.mnt / "big", b"b", again)
    small.remount()
    assert is_whole(small.mnt / "big", b"b", again)
    assert (small.mnt / "old").read_bytes() == b"kept" * 200_000
    (small.mnt / "big").unlink()
    small.ecfs("scrub", "mnt", "--no-progress")


def test_a_full_pool_of_mostly_dead_stripes_recovers(small: Pool) -> None:
    """Every second block of the old file is overwritten: half of every stripe is dead."""
    size = fill(small.mnt / "big", b"a") // 4 // 65536 * 65536
    (small.mnt / "big").unlink()
    with (small.mnt / "mixed").open("wb", buffering=0) as file:
        for round_ in range(12):
            for at in range(round_ % 2 * 65536, size, 131072):
                os.pwrite(file.fileno(), bytes([round_]) * 65536, at)
            os.fsync(file.fileno())
    content = (small.mnt / "mixed").read_bytes()
    assert content[:65536] == bytes([10]) * 65536
    assert content[65536:131072] == bytes([11]) * 65536
