"""What programs see when something below goes wrong, and that nothing ends the mount but unmounting."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.fuse_mount import Mounted, fuse_mount

pytestmark = pytest.mark.mount


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with fuse_mount(tmp_path) as mounted:
        yield mounted


@contextmanager
def fails(number: int) -> Iterator[None]:
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as caught:
        yield
    assert caught.value.errno == number


def test_a_bug_is_eio_and_a_traceback_in_the_log_and_the_mount_goes_on(mounted: Mounted) -> None:
    path = mounted.path / "f"
    path.write_bytes(b"content")
    mounted.tell("break_reads")
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with fails(errno.EIO):
            file.read()
    assert "Traceback" in mounted.log.read_text()
    mounted.tell("mend_reads")
    assert path.read_bytes() == b"content"


def test_r6_stalled_changes_are_erofs_syncs_eio_and_every_dirty_handle_hears_of_it_once(mounted: Mounted) -> None:
    path = mounted.path / "f"
    first = os.open(path, os.O_CREAT | os.O_RDWR)
    second = os.open(path, os.O_RDWR)
    os.write(first, b"content")
    mounted.tell("fail_commit")
    mounted.tell("stall")
    with fails(errno.EROFS):
        os.write(first, b"more")
    with fails(errno.EROFS):
        (mounted.path / "d").mkdir()
    with fails(errno.EIO):
        os.fsync(first)
    assert os.pread(first, 10, 0) == b"content"
    mounted.tell("recover")
    os.fsync(first)
    with fails(errno.EIO):
        os.fsync(second)
    os.fsync(second)
    os.close(first)
    os.close(second)


def test_handles_and_inodes_are_given_back(mounted: Mounted) -> None:
    for number in range(50):
        (mounted.path / f"{number}").write_bytes(b"x")
    for number in range(50):
        os.unlink(mounted.path / f"{number}")
    deadline = 200
    while (mounted.tell("handles"), mounted.tell("inodes")) != ("0", "1") and deadline:
        deadline -= 1
    assert (mounted.tell("handles"), mounted.tell("inodes")) == ("0", "1")


def test_stopping_the_daemon_unmounts(mounted: Mounted) -> None:
    (mounted.path / "f").write_bytes(b"x")
    assert mounted.tell("stop") == "done"
    assert mounted.process.wait(20) == 0
    assert list(mounted.path.iterdir()) == []
    assert not os.path.ismount(mounted.path)


def test_unmounting_ends_the_daemon(mounted: Mounted) -> None:
    subprocess.run(["fusermount3", "-u", mounted.path], check=True)
    assert mounted.process.wait(20) == 0


def test_a_read_only_mount_refuses_changes(tmp_path: Path) -> None:
    with fuse_mount(tmp_path, "ro") as mounted, fails(errno.EROFS):
        (mounted.path / "f").write_bytes(b"x")


def test_it_says_what_it_is(mounted: Mounted) -> None:
    [line] = [line.split() for line in Path("/proc/mounts").read_text().splitlines() if str(mounted.path) in line]
    assert (line[0], line[2]) == ("ecfs", "fuse.ecfs")
    assert "default_permissions" in line[3]
