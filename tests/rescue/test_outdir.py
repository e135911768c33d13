"""What the disks under drives and OUTDIR may do: unreadable sectors, no attributes, no room."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ecfs import rescue
from ecfs.fs.filesystem import FileSystem
from tests.rescue.pools import CALLER, DiskPool, contents, put, seed_bytes, sync

BIG = seed_bytes(3_000_000, 1)
SECTOR = 4096


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def pool(tmp_path: Path) -> DiskPool:
    pool = DiskPool(tmp_path / "pool")
    trio.run(fill, pool)
    return pool


async def fill(pool: DiskPool) -> None:
    await pool.create()
    async with pool.mounted(clean=False) as fs:
        await put(fs, b"big", BIG)
        await put(fs, b"small", b"small")
        await fs.xattrs.set(ino(fs, b"small"), b"user.a", b"1", CALLER)
        await sync(fs)


def ino(fs: FileSystem, name: bytes) -> int:
    inode = fs.namespace.lookup(1, name)
    assert inode is not None
    return inode.ino


def run(pool: DiskPool, out: Path, *slots: int) -> int:
    return rescue.main([*(str(pool.drives[slot]) for slot in slots or range(6)), str(out)])


def test_unreadable_sectors(pool: DiskPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad sector in every shard, each in another block: no shard can be read as a whole."""
    whole, bad = os.pread, {os.stat(path).st_ino: slot for slot, path in shards(pool)}

    def pread(file: int, length: int, offset: int) -> bytes:
        slot = bad.get(os.fstat(file).st_ino, -1)
        sector = SECTOR + (2 * slot + 1) * rescue.BLOCK
        if slot >= 0 and offset < sector + SECTOR and sector < offset + length:
            raise OSError(errno.EIO, "Input/output error")
        return whole(file, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    assert run(pool, tmp_path / "out") == 0
    assert contents(tmp_path / "out") == {"big": BIG, "small": b"small"}


def shards(pool: DiskPool) -> list[tuple[int, Path]]:
    return [(slot, path) for slot, drive in enumerate(pool.drives) for path in (drive / "s").glob("*/*")]


def test_attributes_that_outdir_does_not_take_are_named(
    pool: DiskPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "setxattr", refuse)
    assert run(pool, tmp_path / "out") == 1
    assert contents(tmp_path / "out") == {"big": BIG, "small": b"small"}
    assert "small: attribute user.a: Operation not supported" in capsys.readouterr().out


def test_a_full_outdir_ends_it_in_one_line(
    pool: DiskPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    assert run(pool, tmp_path / "out") == 2
    assert capsys.readouterr().err == "rescue.py: OUTDIR: No space left on device, after 0 files\n"
    assert not (tmp_path / "out").exists()


def test_the_name_of_an_existing_file_is_never_taken(
    pool: DiskPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where OUTDIR's file system takes two names for one."""
    monkeypatch.setattr(rescue.Restorer, "_exists", staticmethod(lambda name, folder: name == b"small"))
    assert run(pool, tmp_path / "out") == 1
    assert contents(tmp_path / "out") == {"big": BIG}
    assert "small: taken by a file" in capsys.readouterr().out
