"""System calls on a real mount: reading and writing, names, times, kinds of files, permissions."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.fuse_mount import Mounted, fuse_mount

pytestmark = pytest.mark.mount

NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root may do this")
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with fuse_mount(tmp_path_factory.mktemp("fuse")) as mounted:
        yield mounted


@pytest.fixture
def folder(mounted: Mounted, request: pytest.FixtureRequest) -> Path:
    """A fresh directory on the mount."""
    path = mounted.path / f"{abs(hash(request.node.nodeid)):x}"
    path.mkdir()
    return path


def uncached(path: Path) -> bytes:
    """The content as the daemon has it, not the kernel's page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def put(path: Path, content: bytes = b"content") -> Path:
    path.write_bytes(content)
    return path


# ---- reading and writing


def test_truncate_in_both_directions_and_sparse(folder: Path) -> None:
    path = put(folder / "f", b"0123456789")
    with path.open("r+b") as file:
        file.truncate(4)
        file.truncate(1 << 40)
        file.seek((1 << 40) - 3)
        assert file.read() == b"\0\0\0"
        file.seek(0)
        assert file.read(6) == b"0123\0\0"
    assert path.stat().st_blocks * 512 <= 8192


def test_sixteen_tib_and_no_further(folder: Path) -> None:
    end = 16 << 40
    with (folder / "f").open("wb", buffering=0) as file:
        assert os.pwrite(file.fileno(), b"last", end - 4) == 4
        with pytest.raises(OSError, match="File too large") as caught:
            os.pwrite(file.fileno(), b"beyond", end)
    assert caught.value.errno == errno.EFBIG
    assert (folder / "f").stat().st_size == end


def test_times_of_every_operation(folder: Path) -> None:
    """Which of a file's and its directory's times an operation moves."""
    path = put(folder / "f")

    def moved(operation: Callable[[], object]) -> tuple[str, str]:
        before = path.stat(), folder.stat()
        operation()
        after = path.stat(), folder.stat()
        changed = [
            "".join(kind for kind in "amc" if getattr(a, f"st_{kind}time_ns") != getattr(b, f"st_{kind}time_ns"))
            for a, b in zip(after, before, strict=True)
        ]
        return changed[0], changed[1]

    assert moved(lambda: path.read_bytes()) == ("", "")
    assert moved(lambda: put(path, b"more")) == ("mc", "")
    assert moved(lambda: os.truncate(path, 2)) == ("mc", "")
    assert moved(lambda: path.chmod(0o600)) == ("c", "")
    assert moved(lambda: os.setxattr(path, "user.a", b"")) == ("c", "")
    assert moved(lambda: os.link(path, folder / "g")) == ("c", "mc")
    assert moved(lambda: os.rename(folder / "g", folder / "h")) == ("c", "mc")
    assert moved(lambda: os.unlink(folder / "h")) == ("c", "mc")
    assert moved(lambda: (folder / "d").mkdir()) == ("", "mc")
    assert moved(lambda: os.utime(path, ns=(1, 2))) == ("amc", "")


def test_utimensat_keeps_nanoseconds_now_and_omit(folder: Path) -> None:
    path = put(folder / "f")
    for when in (1_234_567_891_234_567_891, -1, 2**32 * 10**9 + 1):
        os.utime(path, ns=(when, when + 1))
        assert (path.stat().st_atime_ns, path.stat().st_mtime_ns) == (when, when + 1)
    now, omit = 0x3FFFFFFF, 0x3FFFFFFE
    times = (ctypes.c_long * 4)(0, omit, 0, now)
    before = path.stat()
    assert LIBC.utimensat(AT_FDCWD, os.fsencode(path), times, 0) == 0
    assert path.stat().st_atime_ns == before.st_atime_ns
    assert path.stat().st_mtime_ns != before.st_mtime_ns


@pytest.mark.parametrize("alignment", [512, 4096, 1])
def test_o_direct(folder: Path, alignment: int) -> None:
    """Sizes and offsets need no alignment."""
    path, page = folder / "f", mmap.mmap(-1, 8192)
    page[:] = bytes(range(256)) * 32
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    try:
        assert os.pwritev(fd, [page], alignment) == 8192
        assert os.preadv(fd, [back := bytearray(8192)], alignment) == 8192
        assert bytes(back) == bytes(page)
    finally:
        os.close(fd)
    assert uncached(path) == bytes(alignment) + bytes(page)


def test_mmap_shared_writes_are_seen_by_read_and_reach_the_daemon(folder: Path) -> None:
    path = put(folder / "f", bytes(3 * 4096 + 10))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[4090:4100] = b"0123456789"
        assert os.pread(file.fileno(), 10, 4090) == b"0123456789"
        os.pwrite(file.fileno(), b"written", 8192)
        assert mapping[8192:8199] == b"written"
        mapping.flush()
    content = uncached(path)
    assert (content[4090:4100], content[8192:8199], len(content)) == (b"0123456789", b"written", 3 * 4096 + 10)


def test_mmap_of_a_file_opened_for_appending_writes_in_place(folder: Path) -> None:
    """A page written back through an appending handle must not be appended."""
    path = put(folder / "f", bytes(8192))
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    with mmap.mmap(fd, 8192) as mapping:
        mapping[0:5] = b"start"
        mapping.flush()
    os.write(fd, b"end")
    os.close(fd)
    assert uncached(path) == b"start" + bytes(8187) + b"end"


APPENDER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for i in range(200):
    os.write(fd, b"%s %03d\\n" % (sys.argv[2].encode(), i))
"""


def test_appending_from_two_processes_loses_nothing(folder: Path) -> None:
    path = put(folder / "log", b"")
    writers = [subprocess.Popen([sys.executable, "-c", APPENDER, path, name]) for name in ("one", "two")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = uncached(path).decode().splitlines()
    for name in ("one", "two"):
        assert [line for line in lines if line.startswith(name)] == [f"{name} {i:03}" for i in range(200)]
    assert len(lines) == 400


def test_locks_work_between_processes(folder: Path) -> None:
    path = put(folder / "f")
    script = (
        "import fcntl,sys\n"
        "try: getattr(fcntl, sys.argv[2])(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(7)"
    )
    for kind in ("flock", "lockf"):
        with path.open("r+b") as file:
            getattr(fcntl, kind)(file, fcntl.LOCK_EX)
            assert subprocess.run([sys.executable, "-c", script, path, kind], check=False).returncode == 7
        assert subprocess.run([sys.executable, "-c", script, path, kind], check=False).returncode == 0


# ---- names


def test_an_unlinked_open_file_lives_until_it_is_closed(mounted: Mounted, folder: Path) -> None:
    before = mounted.tell("inodes")
    with (folder / "f").open("w+b") as file:
        file.write(b"still here")
        os.unlink(folder / "f")
        file.seek(0)
        assert file.read() == b"still here"
        assert os.fstat(file.fileno()).st_nlink == 0
        assert int(mounted.tell("inodes")) == int(before) + 1
    for _ in range(100):
        if mounted.tell("inodes") == before:
            break
    assert mounted.tell("inodes") == before


def test_a_directory_removed_under_a_process(folder: Path) -> None:
    script = (
        "import os,sys\nos.chdir(sys.argv[1]); os.rmdir(sys.argv[1])\n"
        "assert os.listdir('.') == [], os.listdir('.')\n"
        "try: open('x', 'w')\nexcept FileNotFoundError: sys.exit(0)\nsys.exit(1)"
    )
    (folder / "d").mkdir()
    result = subprocess.run([sys.executable, "-c", script, folder / "d"], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr) in ((0, ""), (1, "FileNotFoundError")), result.stderr


def test_deleting_while_reading_a_directory_of_5000(folder: Path) -> None:
    for number in range(5000):
        os.mknod(folder / f"{number:04}", stat.S_IFREG | 0o600)
    seen = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            seen.add(entry.name)
            os.unlink(entry.path)
    assert seen == {f"{number:04}" for number in range(5000)}
    assert list(folder.iterdir()) == []


def test_making_while_reading_shows_the_old_ones_once(folder: Path) -> None:
    for number in range(1000):
        os.mknod(folder / f"old{number:04}", stat.S_IFREG | 0o600)
    names = []
    with os.scandir(folder) as entries:
        for index, entry in enumerate(entries):
            names.append(entry.name)
            if index < 300:
                os.mknod(folder / f"new{index:04}", stat.S_IFREG | 0o600)
    old = [name for name in names if name.startswith("old")]
    assert sorted(old) == [f"old{number:04}" for number in range(1000)]
    assert len(set(names)) == len(names)


class Dirent(ctypes.Structure):
    _fields_ = (
        ("ino", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("length", ctypes.c_ushort),
        ("kind", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


def test_telldir_and_seekdir_return_to_every_entry(folder: Path) -> None:
    for number in range(300):
        os.mknod(folder / f"{number:03}", stat.S_IFREG | 0o600)
    LIBC.opendir.restype = ctypes.c_void_p
    LIBC.readdir.restype, LIBC.readdir.argtypes = ctypes.POINTER(Dirent), [ctypes.c_void_p]
    LIBC.telldir.restype, LIBC.telldir.argtypes = ctypes.c_long, [ctypes.c_void_p]
    LIBC.seekdir.argtypes, LIBC.closedir.argtypes = [ctypes.c_void_p, ctypes.c_long], [ctypes.c_void_p]
    directory = LIBC.opendir(os.fsencode(folder))
    places = []
    while True:
        place = LIBC.telldir(directory)
        if not (entry := LIBC.readdir(directory)):
            break
        places.append((place, entry.contents.name))
    assert len(places) == 302
    for place, name in places[::-7]:
        LIBC.seekdir(directory, place)
        assert LIBC.readdir(directory).contents.name == name
    LIBC.closedir(directory)


def test_deep_trees(folder: Path) -> None:
    path = folder
    for number in range(200):
        path = path / f"{number:010}"
        path.mkdir()
    put(path / "leaf", b"deep")
    assert (path / "leaf").read_bytes() == b"deep"
    assert sum(len(files) for _, _, files in os.walk(folder)) == 1


def test_the_longest_symlink(folder: Path) -> None:
    (folder / "s").symlink_to("x" * 4095)
    assert os.readlink(folder / "s") == "x" * 4095
    assert (folder / "s").lstat().st_size == 4095


def test_hard_links_share_everything(folder: Path) -> None:
    path = put(folder / "0")
    for number in range(1, 200):
        os.link(path, folder / str(number))
    assert path.stat().st_nlink == 200
    (folder / "77").write_bytes(b"changed")
    assert path.read_bytes() == b"changed"
    os.unlink(path)
    assert (folder / "1").stat().st_nlink == 199


@NEEDS_ROOT
def test_devices_keep_their_numbers_and_fifos_and_sockets_work(folder: Path) -> None:
    for kind, device in ((stat.S_IFCHR, os.makedev(1, 3)), (stat.S_IFBLK, os.makedev(259, 70_000))):
        os.mknod(folder / str(kind), kind | 0o600, device)
        found = (folder / str(kind)).stat()
        assert (stat.S_IFMT(found.st_mode), found.st_rdev) == (kind, device)
    assert (folder / str(stat.S_IFCHR)).read_bytes() == b""  # /dev/null
    os.mkfifo(folder / "fifo")
    reader = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(folder / "fifo", os.O_WRONLY)
    assert (os.write(writer, b"through"), os.read(reader, 10)) == (7, b"through")
    os.close(reader)
    os.close(writer)


@NEEDS_ROOT
def test_setuid_goes_when_another_user_writes_or_the_owner_changes(folder: Path) -> None:
    path = put(folder / "f")
    for change in (
        lambda: as_user("open('f', 'r+b').write(b'x')", folder),
        lambda: as_user("os.truncate('f', 1)", folder),
        lambda: os.chown(path, 5, 5),
    ):
        path.chmod(0o6777)
        change()
        assert stat.S_IMODE(path.stat().st_mode) == 0o777


def as_user(code: str, cwd: Path, uid: int = 12345) -> int:
    """Exit status of Python code run in `cwd` as another user, to whom the way there may be closed."""
    prelude = f"import os; os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
    command = [sys.executable, "-I", "-c", prelude + code]
    return subprocess.run(command, check=False, capture_output=True, cwd=cwd).returncode


@NEEDS_ROOT
def test_the_kernel_checks_permissions(folder: Path) -> None:
    path = put(folder / "secret")
    path.chmod(0o600)
    read = "open('secret').read()"
    assert as_user(read, folder) == 1
    path.chmod(0o604)
    assert as_user(read, folder) == 0
    folder.chmod(0o1777)
    assert as_user("os.unlink('secret')", folder) == 1, "sticky"
    folder.chmod(0o777)
    assert as_user("os.unlink('secret')", folder) == 0


@NEEDS_ROOT
def test_access_control_lists_are_enforced_inherited_and_follow_chmod(folder: Path) -> None:
    path = put(folder / "f")
    path.chmod(0o600)
    read = "open('f').read()"
    subprocess.run(["setfacl", "-m", "u:12345:r", path], check=True)
    assert as_user(read, folder) == 0
    assert as_user(read, folder, 54321) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    assert as_user(read, folder) == 1, "chmod changed the mask"
    subprocess.run(["setfacl", "-d", "-m", "u:12345:rwx", folder], check=True)
    inherited = put(folder / "inherited")
    listed = subprocess.run(["getfacl", "-pc", inherited], check=True, capture_output=True, text=True).stdout
    assert "user:12345:rwx" in listed
    subprocess.run(["setfacl", "-b", path], check=True)
    assert os.listxattr(path) == []


@NEEDS_ROOT
@pytest.mark.parametrize("name", ["user.a", "trusted.b", "security.c"])
def test_xattrs_by_the_usual_tools(folder: Path, name: str) -> None:
    path = put(folder / "f")
    subprocess.run(["setfattr", "-n", name, "-v", "0x00ff41", path], check=True)
    shown = subprocess.run(
        ["getfattr", "-n", name, "-e", "hex", "--only-values", "--absolute-names", path],
        check=True,
        capture_output=True,
    ).stdout
    assert shown == b"\x00\xffA"
    assert os.listxattr(path) == [name]
    subprocess.run(["setfattr", "-x", name, path], check=True)
    assert os.listxattr(path) == []


def test_statfs_counts_what_is_used(folder: Path) -> None:
    before = os.statvfs(folder)
    put(folder / "f", b"x" * (1 << 20))
    after = os.statvfs(folder)
    assert (before.f_bfree - after.f_bfree) * before.f_frsize == 1 << 20
    assert after.f_namemax == 255
