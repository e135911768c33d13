"""The main promise, with ordinary programs: any two drives may go, also under load, and scrub makes all whole again."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.mount.real import Pool, assert_same, call

pytestmark = pytest.mark.mount


@pytest.mark.core
@pytest.mark.everywhere
def test_a_copied_tree_is_the_same_and_stays_so(pool: Pool, tree: Path) -> None:
    call("cp", "-a", tree, pool.mnt)
    assert_same(tree, pool.mnt / "tree")
    pool.remount()
    assert_same(tree, pool.mnt / "tree")
    assert json.loads(pool.ecfs("status", "--json"))["state"] == "healthy"


@pytest.mark.core
def test_two_drives_deleted_under_load_then_two_others(pool: Pool, tree: Path, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", tree)
    call("cp", "-a", tree, pool.mnt / "before")
    copying = subprocess.Popen(["cp", "-a", tree, pool.mnt / "during"])
    pool.lose(0)
    cloning = subprocess.Popen(["git", "clone", "-q", repository, pool.mnt / "clone"])
    pool.lose(3)
    assert (copying.wait(60), cloning.wait(60)) == (0, 0)
    call("cp", "-a", tree, pool.mnt / "after")
    assert_whole(pool, tree, repository)
    assert json.loads(pool.ecfs("status", "--json", status=1))["may_lose"] == 0

    assert "healthy" in pool.ecfs("scrub", "mnt")
    assert pool.drive(0).is_dir()
    assert pool.drive(3).is_dir()
    pool.lose(1, 4)
    pool.remount()
    assert_whole(pool, tree, repository)


def make_repository(where: Path, tree: Path) -> Path:
    shutil.copytree(tree / "json", where)
    call("git", "init", "-q", cwd=where)
    call("git", "add", ".", cwd=where)
    call("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "all", cwd=where)
    return where


def assert_whole(pool: Pool, tree: Path, repository: Path) -> None:
    for name in ("before", "during", "after"):
        assert_same(tree, pool.mnt / name)
    call("git", "fsck", "--strict", cwd=pool.mnt / "clone")
    call("diff", "-r", "-x", ".git", repository, pool.mnt / "clone")


def test_every_pair_of_drives_may_be_missing(pool: Pool, tree: Path) -> None:
    call("cp", "-a", tree / "json", tree / "large", pool.mnt)
    pool.umount()
    for pair in itertools.combinations(range(6), 2):
        for slot in pair:
            pool.drive(slot).rename(pool.place.path / f"away{slot}")
        pool.mount()
        call("cmp", tree / "large", pool.mnt / "large")
        assert_same(tree / "json", pool.mnt / "json")
        for slot in pair:
            (pool.place.path / f"away{slot}").rename(pool.drive(slot))
        pool.until_healthy()
        pool.umount()
    assert "healthy" in pool.ecfs("scrub", "drives")


@pytest.mark.directories
def test_drives_swapped_by_name_are_known_by_their_identity(pool: Pool, tree: Path) -> None:
    call("cp", "-a", tree, pool.mnt)
    pool.umount()
    pool.drive(0).rename(pool.drive(9))
    pool.drive(5).rename(pool.drive(0))
    pool.drive(9).rename(pool.drive(5))
    pool.mount()
    assert_same(tree, pool.mnt / "tree")
    status = json.loads(pool.ecfs("status", "--json"))
    assert status["state"] == "healthy"
    assert [Path(drive["url"]).name for drive in status["drives"]] == ["d5", "d1", "d2", "d3", "d4", "d0"]


@pytest.mark.directories
def test_a_pool_moved_as_a_whole_is_the_same_pool(pool: Pool, tree: Path) -> None:
    call("cp", "-a", tree, pool.mnt)
    pool.umount()
    (pool.place.path / "drives").rename(pool.place.path / "elsewhere")
    shutil.rmtree(pool.place.path / "elsewhere" / "d2")
    pool.ecfs("mount", "elsewhere", "mnt")
    assert_same(tree, pool.mnt / "tree")
    assert "healthy" in pool.ecfs("scrub")
    assert (pool.place.path / "elsewhere" / "d2").is_dir()
    assert not (pool.place.path / "drives").exists()


@pytest.mark.directories
def test_replacing_a_drive_while_mounted(pool: Pool, tree: Path) -> None:
    call("cp", "-a", tree, pool.mnt)
    pool.lose(2)
    pool.ecfs("replace", "mnt", "2", "new disk")
    assert json.loads(pool.ecfs("status", "--json"))["state"] == "healthy"
    pool.remount()
    pool.lose(0, 1)
    pool.remount()
    assert_same(tree, pool.mnt / "tree")
    assert 'url = "../new disk"' not in (pool.place.path / "drives" / "pool.toml").read_text()
    assert "new disk" in (pool.place.path / "drives" / "pool.toml").read_text()


def test_a_deleted_drive_shows_without_any_io(pool: Pool) -> None:
    pool.lose(4)
    wait = subprocess.run(["sleep", "2"], check=True)
    assert wait.returncode == 0
    drive = json.loads(pool.ecfs("status", "--json", status=1))["drives"][4]
    assert (drive["state"], drive["usable"]) == ("absent", False)
    assert "drive 4: online → absent: " in pool.place.logs()
