"""What programs do with single files on a real pool: databases, locks, holes, offsets, many links, full directories."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from ecfs.clock import SystemClock
from ecfs.fs.caller import Caller
from ecfs.meta import ROOT_INO
from ecfs.mount.volume import open_volume
from ecfs.pool.poolfile import POOL_FILE, read_pool_file
from tests.mount.real import Pool, call

pytestmark = pytest.mark.mount

PAGE = 4096


@pytest.mark.core
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_keeps_every_commit_through_lost_drives_and_a_killed_daemon(journal: str, pool: Pool) -> None:
    path = pool.mnt / "database"
    database = open_sqlite(path, journal)
    database.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)")
    for number in range(30):
        if number == 10:
            pool.lose(0, 3)
        database.execute("INSERT INTO t VALUES (?, ?)", (number, os.urandom(700)))
        database.commit()
    pool.kill()
    with contextlib.suppress(sqlite3.Error):
        database.close()
    pool.mount()
    again = open_sqlite(path, journal)
    assert again.execute("SELECT count(*) FROM t").fetchone() == (30,)
    assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again.execute("DELETE FROM t WHERE k % 2")
    again.commit()
    again.execute("VACUUM")
    assert again.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again.close()
    pool.ecfs("scrub", "mnt")


def open_sqlite(path: Path, journal: str) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    assert database.execute(f"PRAGMA journal_mode={journal}").fetchone() == (journal,)
    database.execute("PRAGMA synchronous=EXTRA")  # FULL does not sync the deletion of the journal
    return database


LOCKER = """
import fcntl, sys
path, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
lock = {"flock": fcntl.flock, "fcntl": fcntl.lockf}[kind]
for _ in range(count):
    with open(path, "r+") as file:
        lock(file, fcntl.LOCK_EX)
        number = int(file.read() or 0)
        file.seek(0)
        file.write(str(number + 1))
        file.flush()
"""


@pytest.mark.parametrize("kind", ["flock", "fcntl"])
def test_locks_keep_processes_apart(kind: str, pool: Pool) -> None:
    path, count = pool.mnt / "counter", 150
    path.touch()
    working = [subprocess.Popen([sys.executable, "-c", LOCKER, path, kind, str(count)]) for _ in range(4)]
    assert [process.wait(60) for process in working] == [0] * 4
    assert path.read_text() == str(4 * count)


APPENDER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(int(sys.argv[3])):
    os.write(fd, f"{sys.argv[2]} {number}\\n".encode() * 3)
"""


def test_several_processes_append_without_losing_a_line(pool: Pool) -> None:
    path, count = pool.mnt / "log", 300
    path.touch()
    working = [subprocess.Popen([sys.executable, "-c", APPENDER, path, str(who), str(count)]) for who in range(4)]
    assert [process.wait(60) for process in working] == [0] * 4
    pool.remount()
    lines = path.read_text().splitlines()
    assert len(lines) == 4 * 3 * count
    for who in range(4):
        assert [line for line in lines if line.startswith(f"{who} ")][::3] == [f"{who} {n}" for n in range(count)]


def test_a_shared_mapping_is_what_read_and_write_see_in_another_process(pool: Pool) -> None:
    path = pool.mnt / "shared"
    path.write_bytes(b"-" * 3 * PAGE)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[PAGE : PAGE + 5] = b"first"
        assert call(sys.executable, "-c", READ, path, str(PAGE)) == "first"
        call(sys.executable, "-c", "import os,sys; os.pwrite(os.open(sys.argv[1], 1), b'again', 4096)", path)
        assert mapped[PAGE : PAGE + 5] == b"again"
        file.truncate(PAGE + 2)
        file.truncate(3 * PAGE)
        assert mapped[PAGE : PAGE + 5] == b"ag\0\0\0"
        mapped[2 * PAGE] = 7
        mapped.flush()
    pool.remount()
    assert path.read_bytes() == b"-" * PAGE + b"ag" + b"\0" * (PAGE - 2) + b"\7" + b"\0" * (PAGE - 1)


READ = "import os,sys; print(os.pread(os.open(sys.argv[1], 0), 5, int(sys.argv[2])).decode(), end='')"


def test_o_direct_takes_any_offset_and_size(pool: Pool) -> None:
    path = pool.mnt / "direct"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    for number, (offset, length) in enumerate([(0, 1), (1, 511), (513, 5000), (100_003, 300_001)]):
        os.pwrite(fd, bytes([number + 1]) * length, offset)
        assert os.pread(fd, length + 10, offset)[:length] == bytes([number + 1]) * length
    os.close(fd)
    assert path.read_bytes()[512:514] == b"\0\3"


def test_bytes_at_16_tib_through_loss_and_scrub(pool: Pool) -> None:
    path, last = pool.mnt / "far", (16 << 40) - PAGE
    with path.open("wb") as file:
        for offset in (0, 5 << 30, 1 << 40, last):
            os.pwrite(file.fileno(), b"here" * (PAGE // 4), offset)
        with pytest.raises(OSError, match="File too large"):
            os.pwrite(file.fileno(), b"x" * 2, (16 << 40) - 1)
    pool.lose(2, 3)
    pool.ecfs("scrub", "mnt")
    pool.lose(0, 1)
    pool.remount()
    assert path.stat().st_size == 16 << 40
    assert path.stat().st_blocks == 4 * PAGE // 512
    with path.open("rb") as file:
        assert os.pread(file.fileno(), PAGE + 4, last - 4) == b"\0\0\0\0" + b"here" * (PAGE // 4)
        assert os.pread(file.fileno(), 6, (5 << 30) - 2) == b"\0\0here"


def test_4000_hard_links(pool: Pool) -> None:
    path, folder = pool.mnt / "file", pool.mnt / "links"
    path.write_bytes(b"shared")
    folder.mkdir()
    for number in range(4_000):
        os.link(path, folder / str(number))
    pool.remount()
    assert path.stat().st_nlink == 4_001
    assert (folder / "3999").samefile(path)
    path.unlink()
    call("rm", "-rf", folder / "5", folder / "77")
    assert (folder / "0").stat().st_nlink == 3998


def test_posix_fallocate_keeps_no_extent_per_block(pool: Pool) -> None:
    """glibc writes one byte per 4 KiB, since the library has no fallocate."""
    path, size = pool.mnt / "reserved", 8 << 20
    with path.open("w+b") as file:
        os.write(file.fileno(), b"kept")
        os.posix_fallocate(file.fileno(), 0, size)
        assert os.fstat(file.fileno()).st_size == size
        assert os.fstat(file.fileno()).st_blocks == 1
        assert os.pread(file.fileno(), size, 0) == b"kept" + b"\0" * (size - 4)
        os.pwrite(file.fileno(), b"x" * size, 0)
        os.posix_fallocate(file.fileno(), 0, 2 * size)
    assert path.stat().st_blocks * 512 == size
    pool.remount()
    assert path.read_bytes() == b"x" * size + b"\0" * size


def test_directories_of_4000_names(pool: Pool) -> None:
    fill_and_read(pool, 4000)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.directories
def test_a_directory_of_100000_names(pool: Pool) -> None:
    fill_and_read(pool, 100_000)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.directories
def test_a_directory_of_a_million_names_is_read_whole_while_names_go(pool: Pool) -> None:
    """Filled without the kernel, because a million requests take long; everything else through it."""
    folder, count = pool.mnt / "full", 1_000_000
    pool.umount()
    trio.run(make_names, pool.place.path / "drives", folder.name, count)
    pool.mount()
    pool.lose(0, 1)
    assert (folder / f"{count // 2:07}").exists()
    assert not (folder / "none").exists()
    seen = set()
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            seen.add(entry.name)
            if number % 100 == 0:
                os.unlink(entry.path)
    assert len(seen) == count
    pool.ecfs("scrub", "mnt")
    pool.remount()
    left = os.listdir(folder)
    assert len(left) == len(seen.intersection(left)) == count - count // 100
    (folder / left[0]).rename(folder / "renamed")
    assert (folder / "renamed").exists()


async def make_names(drives: Path, folder: str, count: int) -> None:
    """Empty files by the file system of a pool that is not mounted."""
    file, caller = read_pool_file(drives / POOL_FILE), Caller(os.getuid(), os.getgid())
    async with open_volume(file, clock=SystemClock(), tell=print) as volume:
        made = await volume.fs.namespace.mkdir(ROOT_INO, folder.encode(), 0o755, caller)
        for number in range(count):
            await volume.fs.namespace.mknod(made.ino, b"%07d" % number, stat.S_IFREG | 0o644, 0, caller)


def fill_and_read(pool: Pool, count: int) -> None:
    folder = pool.mnt / "full"
    folder.mkdir()
    for number in range(count):
        os.mknod(folder / f"{number:07}")
    pool.remount()
    assert len(set(os.listdir(folder))) == count
    assert (folder / f"{count // 2:07}").exists()
    assert not (folder / "none").exists()
    with os.scandir(folder) as entries:
        for entry in entries:
            os.unlink(entry.path)
    folder.rmdir()


def test_a_lock_belongs_to_the_open_file(pool: Pool) -> None:
    path = pool.mnt / "file"
    path.touch()
    with path.open("r+b") as one, path.open("r+b") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
