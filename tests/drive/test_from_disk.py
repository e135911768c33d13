"""What a scrub reads comes from the disk and not from memory, on file systems with and without O_DIRECT."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecfs.drive import from_disk
from ecfs.drive.local import LocalDrive
from ecfs.errors import ShardCorruptError
from tests.contract.test_shards import KEY, a_shard
from tests.drive.test_local import make_drive

ODD = [0, 1, 4095, 4096, 4097, (1 << 20) + 336, from_disk.SIZE, from_disk.SIZE + 1]


def written(path: Path, size: int) -> bytes:
    data = os.urandom(size)
    path.write_bytes(data)
    return data


def whole(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with from_disk.whole(descriptor) as data:
            return bytes(data)
    finally:
        os.close(descriptor)


@pytest.fixture(params=["ext4", "xfs"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    """Where a file system of its own is mounted, and the image that it lies in."""
    image, point = tmp_path / "image", tmp_path / "disk"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(300 << 20)  # the least for XFS
    subprocess.run([f"mkfs.{request.param}", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    yield point, image
    subprocess.run(["umount", "-l", point], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk image")
async def test_rot_beneath_what_the_kernel_remembers(disk: tuple[Path, Path]) -> None:
    """A bit flips on the disk after the kernel has read it: programs don't see it yet, a scrub must."""
    point, image = disk
    mark = b"unmistakable" * 20_000
    drive = await make_drive(point / "d0")
    await drive.put(KEY, [a_shard(data=mark)])
    await drive.sync()
    await drive.verify(KEY)
    assert await drive.get(KEY) == a_shard(data=mark)  # and it is in memory from now on
    content = image.read_bytes()
    at = content.index(mark[:4096])
    with image.open("r+b") as file:
        file.seek(at + 100)
        file.write(b"X")
    assert await drive.get(KEY) == a_shard(data=mark)
    with pytest.raises(ShardCorruptError):
        await drive.verify(KEY)
    await drive.close()


@pytest.mark.parametrize("size", ODD)
def test_every_length(tmp_path: Path, size: int) -> None:
    data = written(tmp_path / "file", size)
    assert whole(tmp_path / "file") == data


@pytest.mark.parametrize("size", ODD)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_without_direct_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, number: int) -> None:
    """Then what the kernel remembers was dropped before."""
    dropped = []
    real = fcntl.fcntl

    def refuses(descriptor: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETFL and argument & os.O_DIRECT:
            raise OSError(number, os.strerror(number))
        return real(descriptor, command, argument)

    data = written(tmp_path / "file", size)
    monkeypatch.setattr(fcntl, "fcntl", refuses)
    monkeypatch.setattr(os, "posix_fadvise", lambda descriptor, *asked: dropped.append(asked))
    assert whole(tmp_path / "file") == data
    assert dropped == [(0, 0, os.POSIX_FADV_DONTNEED)]


def test_a_read_that_ends_early_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, real = written(tmp_path / "file", 100_000), os.preadv
    monkeypatch.setattr(os, "preadv", lambda descriptor, views, at: real(descriptor, [views[0][:4096]], at))
    assert whole(tmp_path / "file") == data


def test_a_disk_that_can_not_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    written(tmp_path / "file", 100_000)
    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(OSError, match="Input/output"):
        whole(tmp_path / "file")


def test_a_buffer_that_is_used_again_shows_nothing_of_before(tmp_path: Path) -> None:
    written(tmp_path / "long", 1 << 20)
    for size in (10, 5000, 0):
        data = written(tmp_path / "short", size)
        assert whole(tmp_path / "long")
        assert whole(tmp_path / "short") == data


async def test_what_is_open_stays_as_it_was(tmp_path: Path) -> None:
    """A descriptor that went past the cache writes as before: at any offset, in any length."""
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        os.write(descriptor, b"x" * 5000)
        with from_disk.whole(descriptor):
            pass
        assert not fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT
        assert os.pwrite(descriptor, b"y", 3) == 1
        with from_disk.whole(descriptor) as data:
            assert bytes(data) == b"xxxy" + b"x" * 4996
    finally:
        os.close(descriptor)


async def test_a_replaced_shard_is_compared_with_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive: LocalDrive = await make_drive(tmp_path / "d0")
    await drive.put(KEY, [b"old"])

    def wrong(descriptor: int, views: list[memoryview], at: int) -> int:
        views[0][:3] = b"???"
        return 3

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", wrong)
        with pytest.raises(ShardCorruptError):
            await drive.put(KEY, [b"new"], replace=True)
    assert await drive.get(KEY) == b"old"
    await drive.close()
