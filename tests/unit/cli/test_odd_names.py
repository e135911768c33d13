"""Names and places that are allowed and unusual: not UTF-8, long in bytes, with odd characters; a deleted one."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from ecfs.cli import main
from ecfs.control.client import call
from ecfs.control.runtime import Mounted
from ecfs.drive import location
from ecfs.errors import UsageError
from ecfs.mount import mountpoint, planning
from tests.unit.cli.conftest import Run

MOUNTS = b"""\
22 28 0:20 / /sys rw,nosuid - sysfs sysfs rw
23 28 0:21 / /mnt/a\xc2\x85b rw - fuse.x x rw
24 28 0:22 / /mnt/c\rd\x0ce rw - fuse.x x rw
25 28 0:23 / /mnt/f\\040\xff rw - ext4 /dev/sda rw
"""
POINTS = ["/sys", "/mnt/a\x85b", "/mnt/c\rd\x0ce", "/mnt/f \udcff"]


def test_a_mount_with_an_odd_name_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any user may make one, and every command reads the list."""
    listed = tmp_path / "mountinfo"
    listed.write_bytes(MOUNTS)
    monkeypatch.setattr(mountpoint, "MOUNTINFO", listed)
    monkeypatch.setattr(location, "MOUNTINFO", listed)
    assert [mount.point for mount in mountpoint.mounts()] == POINTS
    assert [mount.point for _, mount in location._mounts()] == POINTS


def test_files_whose_names_are_not_utf_8(here: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"f\xff")
    (here / name).write_bytes(b"one")
    monkeypatch.setattr(sys, "argv", ["ecfs", "put", "drives", name, "/"])
    assert run("put", "drives", name, "/").status == 0
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["ls", "drives"]) == 0
    out.flush()
    assert out.buffer.getvalue() == b"f\xff\n"


def test_a_folder_whose_name_is_not_utf_8_is_refused_before_anything_is_made(here: Path, run: Run) -> None:
    ran = run("mount", "drives", os.fsdecode(b"m\xff"))
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "is not UTF-8" in ran.err
    assert not os.path.lexists(b"m\xff")


def test_names_that_are_long_in_bytes(here: Path, run: Run) -> None:
    name = "ж" * 127
    (here / name).write_bytes(b"one")
    assert run("put", "drives", name, "/").status == 0
    (here / name).unlink()
    assert run("get", "drives", name, ".").status == 0
    assert (here / name).read_bytes() == b"one"


def test_whoever_stands_in_a_deleted_directory_gets_an_answer(here: Path, run: Run) -> None:
    gone = here / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert run("status", here / "drives").status == 0
    ran = run("status", "drives")
    assert (ran.status, ran.err) == (
        2,
        "ecfs: the directory in which you are was deleted: cd to another, or give absolute paths\n",
    )


def test_a_pool_of_nodes_is_mounted_on_the_folder_in_which_one_stands(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's address is no path below it."""
    monkeypatch.setattr(planning, "FUSE", "/dev/null")
    lines = ["[pool]", f'id = "{"0" * 32}"', *(f'[[drive]]\nurl = "127.0.0.1:{port}"' for port in range(1, 7))]
    (here / "nodes.toml").write_text("\n".join(lines))
    plan = planning.plan_mount(Path("nodes.toml"), ".", (), create=False, tell=lambda text: None)
    assert plan.point == str(here)


def test_a_name_that_can_not_be_sent_is_refused_in_words() -> None:
    daemon = Mounted("0" * 32, "/pool.toml", "/m", 1, "mounted")
    with pytest.raises(UsageError, match="not UTF-8"):
        call(daemon, "file", {"path": "f\udcff"})
