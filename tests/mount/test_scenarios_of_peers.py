"""What the tests of other dispersed file systems try and no other test here does, on a real mount."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.mount.real import Pool, assert_same, call, mounted_pool

pytestmark = pytest.mark.mount

SIZES = (0, 1, 1000, 12345, 65536, 1_048_576, 4_194_305)


@pytest.mark.parametrize(("k", "m"), [(2, 1), (8, 3), pytest.param(5, 2, marks=pytest.mark.soak)])
def test_other_geometries_and_odd_sizes_with_every_drive_down_in_turn(k: int, m: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for size in SIZES:
        (source / str(size)).write_bytes(random.Random(size).randbytes(size))
    with mounted_pool(tmp_path, create=("--data", str(k), "--parity", str(m))) as pool:
        call("cp", "-a", source, pool.mnt / "copy")
        for first in range(0, k + m, m):
            slots = [(first + more) % (k + m) for more in range(m)]
            pool.lose(*slots)
            pool.remount()
            assert_same(source, pool.mnt / "copy")
            call("cp", "-a", source, pool.mnt / f"without{first}")
            assert "healthy" in pool.ecfs("scrub", "mnt", "--no-progress")
        pool.remount()
        for first in range(0, k + m, m):
            assert_same(source, pool.mnt / f"without{first}")


def test_an_open_file_outlives_the_drives_it_was_opened_on(pool: Pool) -> None:
    """Opened with two drives away, written on through their return, a replacement and the loss of two others."""
    pool.lose(0, 1)
    pieces = [bytes([number]) * 700_000 for number in range(4)]
    with (pool.mnt / "file").open("w+b", buffering=0) as file:
        file.write(pieces[0])
        os.fsync(file.fileno())
        pool.ecfs("scrub", "mnt", "--no-progress")
        file.write(pieces[1])
        os.fsync(file.fileno())
        pool.ecfs("replace", "mnt", "2", "new disk", "--no-progress")
        file.write(pieces[2])
        pool.lose(3, 4)
        file.write(pieces[3])
        os.fsync(file.fileno())
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
        assert os.pread(file.fileno(), 4_000_000, 0) == b"".join(pieces)


def test_a_drive_is_lost_and_files_change_while_a_scrub_runs(pool: Pool, tree: Path) -> None:
    call("cp", "-a", tree, pool.mnt / "before")
    pool.ecfs("sync", "mnt")
    pool.lose(5)
    scrub = pool.place.start("scrub", "mnt", "--no-progress", "--rate", "20M")
    subprocess.run(["sleep", "1"], check=True)
    pool.lose(2)
    call("cp", "-a", tree, pool.mnt / "during")
    call("rm", "-r", pool.mnt / "before" / "encodings")
    out, err = scrub.communicate(timeout=120)
    assert scrub.returncode in (0, 1), out + err
    assert "Traceback" not in out + err
    assert "healthy" in pool.ecfs("scrub", "mnt", "--no-progress")
    pool.lose(0, 1)
    pool.remount()
    assert_same(tree, pool.mnt / "during")
    call("cmp", tree / "large", pool.mnt / "before" / "large")


def test_two_drives_whose_every_shard_is_zeroed_or_cut(pool: Pool, tree: Path) -> None:
    """Silent damage of whole drives under a running mount: read around, found, repaired; then two others may go."""
    call("cp", "-a", tree, pool.mnt)
    pool.remount()
    for path in [path for path in (pool.drive(1) / "s").rglob("*") if path.is_file()]:
        path.write_bytes(bytes(path.stat().st_size))
    for path in [path for path in (pool.drive(4) / "s").rglob("*") if path.is_file()]:
        os.truncate(path, path.stat().st_size // 2)
    assert_same(tree, pool.mnt / "tree")
    assert "healthy" in pool.ecfs("scrub", "mnt", "--no-progress")
    pool.lose(0, 3)
    pool.remount()
    assert_same(tree, pool.mnt / "tree")
