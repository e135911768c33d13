"""Coming and going: every way to end is clean, dead mounts are cleared, a second mount is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.real import Pool, call
from tests.programs import wait_for_end

pytestmark = pytest.mark.mount


def by_signal(number: int) -> Callable[[Pool], None]:
    return lambda pool: os.kill(pool.place.pid(), number)


ENDS: dict[str, Callable[[Pool], object]] = {
    "ecfs umount": lambda pool: pool.ecfs("umount", "mnt"),
    "ecfs umount --force": lambda pool: pool.ecfs("umount", "--force", "mnt"),
    "ecfs umount by pool": lambda pool: pool.ecfs("umount", "drives"),
    "fusermount3": lambda pool: call("fusermount3", "-u", pool.mnt),
    "SIGTERM": by_signal(signal.SIGTERM),
    "SIGINT": by_signal(signal.SIGINT),
    "SIGHUP": by_signal(signal.SIGHUP),
}


@pytest.mark.parametrize("how", ENDS)
def test_every_end_stores_everything(how: str, pool: Pool) -> None:
    pid = pool.place.pid()
    (pool.mnt / "file").write_bytes(b"a" * 300_000)
    ENDS[how](pool)
    assert wait_for_end(pid)
    assert not os.path.ismount(pool.mnt)
    assert list((pool.place.private / "run").iterdir()) == []
    assert not list(pool.place.private.glob("ecfs-scratch-*"))
    # All was committed and a checkpoint written: nothing is left in the journal to be replayed.
    assert "healthy" in pool.ecfs("status", "drives")
    pool.mount()
    assert (pool.mnt / "file").read_bytes() == b"a" * 300_000


@pytest.mark.parametrize("how", ["fusermount3", "SIGTERM"])
def test_every_end_stores_everything_when_the_runtime_directory_is_gone(how: str, pool: Pool) -> None:
    """It is removed when its user logs out. The daemon ended with an error then, or, after a signal, never."""
    pid = pool.place.pid()
    shutil.rmtree(pool.place.private / "run")
    (pool.mnt / "file").write_bytes(b"a" * 300_000)
    if how == "SIGTERM":
        os.kill(pid, signal.SIGTERM)
    else:
        call("fusermount3", "-u", pool.mnt)
    assert wait_for_end(pid)
    assert not os.path.ismount(pool.mnt)
    (log,) = pool.place.private.rglob("*.log")
    assert "ended: everything is stored" in log.read_text()
    assert "Traceback" not in log.read_text()
    pool.mount()
    assert (pool.mnt / "file").read_bytes() == b"a" * 300_000


def test_a_mount_right_after_an_unmount_waits_for_the_last_one(pool: Pool, tree: Path) -> None:
    for number in range(3):
        call("cp", "-a", tree / "json", pool.mnt / str(number))
        call("fusermount3", "-u", pool.mnt)
        pool.mount()
        assert len(list(pool.mnt.iterdir())) == number + 1


def test_a_mount_right_after_a_signal_waits_too(pool: Pool) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        pid = pool.place.pid()
        (pool.mnt / str(number)).write_bytes(b"x")
        os.kill(pid, number)
        subprocess.run(["sleep", "0.05"], check=True)
        pool.mount()
        assert pool.place.pid() != pid
        assert (pool.mnt / str(number)).read_bytes() == b"x"


def test_the_kernel_may_read_ahead(pool: Pool) -> None:
    device = pool.mnt.stat().st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if os.access(setting, os.W_OK):
        assert int(setting.read_text()) == 4096


def test_a_dead_mount_is_cleared_by_the_next_one(pool: Pool) -> None:
    (pool.mnt / "file").write_bytes(b"kept")
    pool.ecfs("sync", "mnt")
    pool.kill()
    with pytest.raises(OSError, match="not connected"):
        list(pool.mnt.iterdir())
    assert f"the daemon of {pool.mnt} has died; to go on: ecfs mount drives" in pool.ecfs("status", "mnt")
    said = pool.ecfs("mount", "drives", "mnt")
    assert "took away the dead mount on mnt" in said
    assert (pool.mnt / "file").read_bytes() == b"kept"


def test_a_dead_mount_elsewhere_of_the_same_pool_is_cleared_too(pool: Pool) -> None:
    pool.kill()
    pool.ecfs("mount", "drives", "other")
    assert list(pool.mnt.iterdir()) == []


def test_a_dead_mount_can_be_taken_away_by_hand(pool: Pool) -> None:
    pool.kill()
    assert "took away its dead mount" in pool.ecfs("umount", "mnt")
    assert not os.path.ismount(pool.mnt)
    assert "not mounted" in pool.ecfs("umount", "mnt", status=2)


@pytest.mark.directories
def test_a_lost_pool_file_is_written_again(pool: Pool) -> None:
    (pool.mnt / "file").write_bytes(b"x")
    pool.umount()
    pool_file = pool.place.path / "drives" / "pool.toml"
    before = pool_file.read_text()
    pool_file.unlink()
    assert "this writes it again: ecfs mount drives" in pool.ecfs("status", "drives", status=2)
    assert "is not empty" in pool.ecfs("create", "drives", status=2)
    assert "wrote it again" in pool.ecfs("mount", "drives", "mnt")
    assert (pool.mnt / "file").read_bytes() == b"x"
    assert pool_file.read_text() == before


def test_scratch_that_a_killed_daemon_left_is_removed(pool: Pool) -> None:
    pool.kill()
    (left,) = pool.place.private.glob("ecfs-scratch-*")
    pool.mount()
    assert not left.exists()


def test_a_second_mount_is_refused_and_names_the_first(pool: Pool) -> None:
    for point in ("mnt", "other"):
        said = pool.ecfs("mount", "drives", point, status=2)
        assert f"mounted on mnt already, by process {pool.place.pid()}" in said
    # Also where the other daemon can't be seen: then the drives' own locks decide.
    pool.place.extra["ECFS_RUNTIME_DIR"] = str(pool.place.private / "blind")
    said = pool.ecfs("mount", "drives", "other", status=2)
    assert f"locked by process {pool.place.pid()}" in said
    for command in (("scrub", "drives"), ("put", "drives", "/etc/passwd"), ("replace", "drives", "0", "x")):
        assert f"locked by process {pool.place.pid()}" in pool.ecfs(*command, status=2)


def test_a_folder_in_use_is_not_taken_away(pool: Pool) -> None:
    user = subprocess.Popen(["sleep", "60"], cwd=pool.mnt)
    try:
        said = pool.ecfs("umount", "mnt", status=2)
        assert f"in use by process {user.pid} (sleep)" in said
        assert f"ecfs umount --force {pool.mnt}" in said  # a path that leads there from wherever one stands
        assert os.path.ismount(pool.mnt)
        (pool.mnt / "file").write_bytes(b"goes on")
        pool.ecfs("umount", "--force", "mnt")
        assert not os.path.ismount(pool.mnt)
    finally:
        user.kill()
        user.wait()
    pool.mount()
    assert (pool.mnt / "file").read_bytes() == b"goes on"


@pytest.mark.parametrize("slow", [0.3, 3.0])
def test_a_folder_that_nobody_uses_is_taken_away_by_force_in_order(pool: Pool, slow: float) -> None:
    """However long after it did its work the program that unmounts ends."""
    (pool.place.private / "bin").mkdir()
    program = pool.place.private / "bin" / "fusermount3"
    program.write_text(f'#!/bin/sh\n{shutil.which("fusermount3")} "$@"; status=$?; sleep {slow}; exit $status\n')
    program.chmod(0o755)
    pool.umount()
    pool.place.extra["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    pool.mount()
    (pool.mnt / "file").write_bytes(b"stored")
    pool.ecfs("umount", "--force", "mnt")
    assert pool.place.logs().count("ended: everything is stored") == 2
    pool.mount()
    assert (pool.mnt / "file").read_bytes() == b"stored"


def test_in_front(pool: Pool) -> None:
    pool.umount()
    process = pool.place.start("mount", "-f", "drives", "mnt")
    assert process.stdout is not None
    assert any("mounted on" in line for line in process.stdout)  # after what it warns of
    (pool.mnt / "file").write_bytes(b"x")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def test_read_only(pool: Pool) -> None:
    (pool.mnt / "file").write_bytes(b"x")
    pool.umount()
    pool.ecfs("mount", "-o", "ro", "drives", "mnt")
    assert (pool.mnt / "file").read_bytes() == b"x"
    with pytest.raises(OSError, match="Read-only"):
        (pool.mnt / "other").write_bytes(b"x")
    pool.umount()


def test_an_end_that_could_not_store_everything_says_so(pool: Pool) -> None:
    file = os.open(pool.mnt / "file", os.O_WRONLY | os.O_CREAT)
    pool.lose(0, 1, 2)
    with contextlib.suppress(OSError):  # whether the daemon has noticed yet decides which of these fails
        os.write(file, b"lost" * 100)
    with pytest.raises(OSError, match="Input/output error"):
        os.fsync(file)
    os.close(file)
    assert "could not be made durable" in pool.ecfs("umount", "mnt", status=1)


@pytest.mark.directories
def test_a_pool_is_made_where_there_is_none(tmp_path: Path, pool: Pool) -> None:
    pool.umount()
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / "README").write_text("not a drive")
    assert "is not a pool" in pool.ecfs("mount", "--no-create", "fresh", "mnt", status=2)
    assert "made a new pool in fresh" in pool.ecfs("mount", "fresh", "mnt")
    pool.umount()
    # It has a pool file now: whatever happens to the drives, nothing is made there by itself again (R10).
    for slot in range(6):
        call("rm", "-rf", tmp_path / "fresh" / f"d{slot}")
    said = pool.ecfs("mount", "fresh", "mnt", status=3)
    assert "no drive of the pool is here" in said or "are needed" in said
    assert sorted(path.name for path in (tmp_path / "fresh").iterdir()) == ["README", "pool.toml"]


def test_sync_makes_everything_durable(pool: Pool) -> None:
    (pool.mnt / "file").write_bytes(b"x" * 1000)
    pool.ecfs("sync", "mnt")
    pool.kill()
    pool.mount()
    assert (pool.mnt / "file").read_bytes() == b"x" * 1000


def test_files_without_fuse_through_a_mounted_pool(pool: Pool, tree: Path, tmp_path: Path) -> None:
    pool.ecfs("put", "drives", "-r", tree, "/")
    call("diff", "-r", "--no-dereference", tree, pool.mnt / "tree")
    pool.umount()
    pool.ecfs("get", "drives", "-r", "tree", "back")
    call("diff", "-r", "--no-dereference", tree, tmp_path / "back")
    pool.ecfs("rm", "drives", "-r", "tree")
    assert pool.ecfs("ls", "drives") == ""
    pool.mount()
    assert list(pool.mnt.iterdir()) == []


@pytest.mark.directories
def test_demo(pool: Pool) -> None:
    said = pool.ecfs("demo")
    assert "Every byte came back" in said
    assert said.count("all 40 files are equal") == 3


def test_status_of_a_daemon_that_hangs(pool: Pool) -> None:
    os.kill(pool.place.pid(), signal.SIGSTOP)
    assert "does not answer" in pool.ecfs("status", status=2)
    os.kill(pool.place.pid(), signal.SIGCONT)
    assert json.loads(pool.ecfs("status", "--json"))["state"] == "healthy"
