"""A write takes a file's capabilities away, and asking whether it has any does not cost a request before each write."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.fuse_mount import Mounted, fuse_mount

pytestmark = [pytest.mark.mount, pytest.mark.skipif(os.getuid() != 0, reason="only root may set capabilities")]

NAME = "security.capability"
MAY_BIND_LOW_PORTS = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""vfs_cap_data, revision 2, effective."""
STRANGER = 1001


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with fuse_mount(tmp_path_factory.mktemp("fuse"), "allow_other", "suid") as mounted:
        yield mounted


def grant(path: Path) -> None:
    os.setxattr(path, NAME, MAY_BIND_LOW_PORTS)


def write(fd: int) -> None:
    os.pwrite(fd, b"new", 0)


def truncate(fd: int) -> None:
    os.ftruncate(fd, 1)


def give_away(fd: int) -> None:
    os.fchown(fd, STRANGER, -1)


def chmod(fd: int) -> None:
    os.fchmod(fd, 0o755)


def left(path: Path, change: Callable[[int], None], written_before: int) -> list[object]:
    """What a change leaves of the capabilities and of the mode, and once more after they were granted again."""
    found: list[object] = []
    path.write_bytes(b"content")
    with path.open("rb+") as file:
        for _ in range(written_before):
            write(file.fileno())
        for _ in range(2):
            grant(path)
            path.chmod(0o755)
            change(file.fileno())
            found.append((os.listxattr(path), oct(path.stat().st_mode)))
    return found


@pytest.mark.parametrize("written_before", [0, 1, 3])
@pytest.mark.parametrize("change", [write, truncate, give_away, chmod])
def test_capabilities_go_as_on_a_plain_directory(
    change: Callable[[int], None], written_before: int, mounted: Mounted
) -> None:
    """Also when the kernel has learned that there are none."""
    name = f"{change.__name__}{written_before}"
    with tempfile.TemporaryDirectory() as plain:
        should = left(Path(plain) / name, change, written_before)
    assert left(mounted.path / name, change, written_before) == should


def test_others_lose_setuid_with_a_write_when_many_went_before(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mounted.path)  # the way there is closed for others
    path = Path("setuid")
    path.write_bytes(b"content")
    os.chown(path, STRANGER, STRANGER)
    os.seteuid(STRANGER)
    try:
        fd = os.open(path, os.O_WRONLY)
        for _ in range(3):
            write(fd)
        path.chmod(0o6711)
        write(fd)
        os.close(fd)
    finally:
        os.seteuid(0)
    assert path.stat().st_mode & 0o7777 == 0o711


@pytest.mark.parametrize("opener", [STRANGER, 0], ids=["his own handle", "root's handle"])
@pytest.mark.parametrize("options", [(), ("writeback",)], ids=["plain", "writeback"])
def test_what_others_wrote_runs_with_their_own_rights(
    options: tuple[str, ...], opener: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, without a look at its mode in between: the kernel goes by what it was told before the write."""
    with fuse_mount(tmp_path, "allow_other", "suid", *options) as mounted, monkeypatch.context() as inside:
        inside.chdir(mounted.path)
        shutil.copy("/usr/bin/id", "id")
        os.chmod("id", 0o4777)
        os.seteuid(opener)
        fd = os.open("id", os.O_WRONLY)
        os.seteuid(STRANGER)
        try:
            os.pwrite(fd, b"\x7fELF", 0)
        finally:
            os.seteuid(0)
            os.close(fd)
        ran = subprocess.run(["./id", "-u"], user=STRANGER, check=True, capture_output=True, text=True)
        assert ran.stdout == f"{STRANGER}\n"


def test_a_write_is_one_request(mounted: Mounted) -> None:
    with (mounted.path / "log").open("wb", buffering=0) as file:
        file.write(b"first")
        before = int(mounted.tell("asked"))
        for _ in range(100):
            file.write(b"more")
        assert int(mounted.tell("asked")) == before
    assert (mounted.path / "log").read_bytes() == b"first" + 100 * b"more"
