"""mount(8), fstab, and ordinary users."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.real import Pool
from tests.programs import ROOT, Place, place

pytestmark = pytest.mark.mount

NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root may use mount(8)")
NOBODY = 65534
HELPER = Path("/sbin/mount.fuse.ecfs")


@pytest.fixture
def helper(pool: Pool) -> Iterator[Pool]:
    """The helper where mount(8) looks for it; what was there comes back afterwards."""
    kept = HELPER.with_suffix(".kept")
    if HELPER.is_symlink() or HELPER.exists():
        HELPER.rename(kept)
    environment = " ".join(f"{name}='{value}'" for name, value in pool.place.environment.items() if "ECFS" in name)
    code = "from ecfs.cli.mount_helper import main; raise SystemExit(main())"
    HELPER.write_text(f"#!/bin/sh\nexec env PYTHONPATH='{ROOT}' {environment} {sys.executable} -c '{code}' \"$@\"\n")
    HELPER.chmod(0o755)
    try:
        yield pool
    finally:
        HELPER.unlink()
        if kept.exists():
            kept.rename(HELPER)


def mount(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def options_of(point: Path) -> tuple[str, str]:
    """Source and options, as /proc/mounts has them."""
    [line] = [line.split() for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == str(point)]
    return line[0], line[3]


@NEEDS_ROOT
def test_mount_t_fuse_ecfs_with_options_and_remount_refused(helper: Pool) -> None:
    helper.umount()
    drives = helper.place.path / "drives"
    done = mount("-t", "fuse.ecfs", drives, helper.mnt, "-o", "ro,noexec,nosuid,_netdev,nofail,noatime")
    assert done.returncode == 0, done.stderr
    source, options = options_of(helper.mnt)
    assert source == str(drives)
    assert {"ro", "noexec", "nosuid", "allow_other", "default_permissions"} <= set(options.split(","))

    refused = mount("-o", "remount,rw", helper.mnt)
    assert refused.returncode == 32
    assert refused.stderr == "ecfs: remount is not supported: ecfs umount, then mount with the other options\n"
    subprocess.run(["umount", helper.mnt], check=True)


@NEEDS_ROOT
def test_a_line_of_fstab_mounts_once_and_makes_no_pool(helper: Pool, tmp_path: Path) -> None:
    (helper.mnt / "file").write_bytes(b"kept")
    helper.umount()
    fstab = tmp_path / "fstab"
    fstab.write_text(f"{helper.place.path / 'drives'} {helper.mnt} fuse.ecfs _netdev,nofail,x-systemd.requires=d 0 0\n")
    for _ in range(2):  # the second time it is there already
        done = mount("-T", fstab, "-a")
        assert done.returncode == 0, done.stderr
    assert (helper.mnt / "file").read_bytes() == b"kept"
    helper.umount()

    (tmp_path / "vacant").mkdir()
    done = mount("-t", "fuse.ecfs", tmp_path / "vacant", helper.mnt)
    assert done.returncode == 32
    assert len(done.stderr.splitlines()) == 1
    assert list((tmp_path / "vacant").iterdir()) == []


def test_unknown_options_are_refused_with_one_line(pool: Pool) -> None:
    pool.umount()
    said = pool.ecfs("mount", "-o", "writebak", "drives", "mnt", status=2)
    assert said == "ecfs: unknown mount option 'writebak': did you mean writeback?\n"


def test_an_ordinary_user_mounts_for_himself(tmp_path: Path) -> None:
    """With fusermount3; devices and setuid programs on it mean nothing."""
    with fuse_for_everybody(), place(tmp_path) as here:
        folder = own_folder(here)
        run_as_nobody(here, folder, "mount", "drives", "mnt")
        try:
            run_as_nobody(here, folder, "put", "drives", sys.executable, "program")
            run_as_nobody(here, folder, "scrub", "--no-progress", "mnt")
            assert {"nosuid", "nodev"} <= set(options_of(folder / "mnt")[1].split(","))
            refused = run_as_nobody(here, folder, "mount", "-o", "suid", "drives", "mnt", status=2)
            assert refused == "ecfs: only root may mount with suid or dev\n"
        finally:
            run_as_nobody(here, folder, "umount", "mnt")


# May read everything, so that a checkout below a private home works; has no other right of root's.
AS_NOBODY = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
AS_NOBODY += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]


@contextlib.contextmanager
def fuse_for_everybody() -> Iterator[None]:
    """As udev has it; a machine without udev may keep /dev/fuse for root."""
    device = Path("/dev/fuse")
    mode = stat.S_IMODE(device.stat().st_mode)
    if os.getuid() == 0:
        device.chmod(0o666)
    try:
        yield
    finally:
        if os.getuid() == 0:
            device.chmod(mode)


def own_folder(here: Place) -> Path:
    """Where that user may do as he likes; `here` keeps sockets and logs there too."""
    folder = here.private / "his"
    folder.mkdir()
    (folder / "drives").mkdir()
    (folder / "mnt").mkdir()
    if os.getuid() == 0:
        for path in (here.private, *here.private.rglob("*")):
            shutil.chown(path, NOBODY, NOBODY)
    assert stat.S_ISDIR(folder.stat().st_mode)
    return folder


def run_as_nobody(here: Place, folder: Path, *arguments: str, status: int = 0) -> str:
    """`ecfs` by a user who is not root; nobody's, if we are."""
    command = [sys.executable, "-m", "ecfs", *arguments]
    if os.getuid() == 0:
        command = AS_NOBODY + command
    done = subprocess.run(
        command, cwd=folder, env=here.environment | {"HOME": str(folder)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}{here.logs()}"
    return done.stdout + done.stderr
