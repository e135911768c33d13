"""Who may do what, and what it does to owners, modes and times: the same on the mount as on a plain directory."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.mount.fuse_mount import Mounted, fuse_mount

pytestmark = [pytest.mark.mount, pytest.mark.skipif(os.getuid() != 0, reason="only root may act as other users")]

OWNER, GROUP, OTHER_GROUP = 1000, 2000, 2001
LONG_AGO = 10**18


class Who(NamedTuple):
    """A process's user, group and supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


PEOPLE = {
    "root": Who(0, 0),
    "owner": Who(OWNER, GROUP, (OTHER_GROUP,)),
    "owner outside the group": Who(OWNER, 1000),
    "member": Who(1001, 1001, (GROUP,)),
    "stranger": Who(1002, 1002),
}
FILE_MODES = (0o644, 0o660, 0o6777, 0o2745)
FOLDER_MODES = (0o755, 0o770, 0o1777, 0o2777)


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with fuse_mount(tmp_path_factory.mktemp("fuse"), "allow_other", "suid", "dev") as mounted:
        yield mounted


@contextmanager
def acting_as(who: Who, folder: Path) -> Iterator[None]:
    """As `who` in `folder`, to which the way may be closed for him."""
    before = os.getcwd(), os.getgroups(), os.umask(0o022)
    os.chdir(folder)
    os.setgroups(who.groups)
    os.setegid(who.gid)
    os.seteuid(who.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before[1])
        os.chdir(before[0])
        os.umask(before[2])


def opened(path: str, flags: int) -> None:
    os.close(os.open(path, flags | os.O_NONBLOCK, 0o666))


def written(path: str, flags: int = os.O_WRONLY) -> None:
    fd = os.open(path, flags)
    try:
        os.write(fd, b"new")
    finally:
        os.close(fd)


def touched(path: str, ns: tuple[int, int] | None = None) -> None:
    os.utime(path, ns=ns) if ns else os.utime(path)


Operation = Callable[[], object]
"""In a folder as `arranged_file` or `arranged_folder` left it."""

ON_FILE: dict[str, Operation] = {
    "read": lambda: opened("file", os.O_RDONLY),
    "write": lambda: written("file"),
    "append": lambda: written("file", os.O_WRONLY | os.O_APPEND),
    "read and write": lambda: opened("file", os.O_RDWR),
    "open with O_TRUNC": lambda: opened("file", os.O_WRONLY | os.O_TRUNC),
    "open with O_NOATIME": lambda: opened("file", os.O_RDONLY | os.O_NOATIME),
    "open with O_CREAT": lambda: opened("file", os.O_RDONLY | os.O_CREAT),
    "truncate": lambda: os.truncate("file", 1),
    "truncate to the same size": lambda: os.truncate("file", 7),
    "may execute": lambda: os.access("file", os.X_OK, effective_ids=True),
    "may read and write": lambda: os.access("file", os.R_OK | os.W_OK, effective_ids=True),
    "chmod": lambda: os.chmod("file", 0o600),
    "chmod with setuid and setgid": lambda: os.chmod("file", 0o6755),
    "chmod with the sticky bit": lambda: os.chmod("file", 0o1644),
    "chown to another user": lambda: os.chown("file", 1001, -1),
    "chown to himself": lambda: os.chown("file", OWNER, -1),
    "chgrp to its own group": lambda: os.chown("file", -1, GROUP),
    "chgrp to another group of his": lambda: os.chown("file", -1, OTHER_GROUP),
    "chgrp to a foreign group": lambda: os.chown("file", -1, 3000),
    "chown to nobody else": lambda: os.chown("file", -1, -1),
    "chown of a symlink": lambda: os.lchown("symlink", OWNER, OTHER_GROUP),
    "set times to now": lambda: touched("file"),
    "set times": lambda: touched("file", (LONG_AGO + 1, LONG_AGO + 2)),
    "set a user xattr": lambda: os.setxattr("file", "user.a", b"1"),
    "set a trusted xattr": lambda: os.setxattr("file", "trusted.a", b"1"),
    "read a user xattr": lambda: os.getxattr("file", "user.old"),
    "remove a user xattr": lambda: os.removexattr("file", "user.old"),
    "list xattrs": lambda: sorted(os.listxattr("file")),
}
ON_FOLDER: dict[str, Operation] = {
    "list": lambda: sorted(os.listdir("folder")),
    "stat inside": lambda: os.stat("folder/his").st_size,
    "make a file": lambda: opened("folder/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "make a folder": lambda: os.mkdir("folder/new", 0o777),
    "make a setgid folder": lambda: os.mkdir("folder/new", 0o2777),
    "make a symlink": lambda: os.symlink("x", "folder/new"),
    "make a FIFO": lambda: os.mkfifo("folder/new", 0o666),
    "make a socket": lambda: os.mknod("folder/new", stat.S_IFSOCK | 0o666),
    "make a device": lambda: os.mknod("folder/new", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
    "make a block device": lambda: os.mknod("folder/new", stat.S_IFBLK | 0o666, os.makedev(7, 300)),
    "make a setuid file": lambda: os.mknod("folder/new", stat.S_IFREG | 0o6777),
    "link into it": lambda: os.link("file", "folder/new"),
    "unlink a file of the owner": lambda: os.unlink("folder/his"),
    "unlink a file of a stranger": lambda: os.unlink("folder/strange"),
    "unlink what is not there": lambda: os.unlink("folder/none"),
    "rmdir": lambda: os.rmdir("folder/empty"),
    "rmdir what is not empty": lambda: os.rmdir("folder/full"),
    "rename inside": lambda: os.rename("folder/his", "folder/new"),
    "rename over a file of a stranger": lambda: os.rename("folder/his", "folder/strange"),
    "rename over a file of the owner": lambda: os.rename("folder/strange", "folder/his"),
    "rename out": lambda: os.rename("folder/his", "open/new"),
    "rename in": lambda: os.rename("open/loose", "folder/new"),
    "rename a folder out": lambda: os.rename("folder/empty", "open/new"),
    "set times of the folder to now": lambda: touched("folder"),
    "chmod of the folder": lambda: os.chmod("folder", 0o3777),
    "chgrp of the folder": lambda: os.chown("folder", -1, OTHER_GROUP),
}


def arranged_file(base: Path, mode: int) -> None:
    """A file of OWNER and GROUP with `mode`, and a link to it."""
    (base / "file").write_bytes(b"content")
    (base / "symlink").symlink_to("file")
    for name in ("file", "symlink"):
        os.lchown(base / name, OWNER, GROUP)
    os.setxattr(base / "file", "user.old", b"value")
    (base / "file").chmod(mode)


def arranged_folder(base: Path, mode: int) -> None:
    """A folder of OWNER and GROUP with `mode`, and one where everybody may do everything."""
    for name in ("folder", "folder/empty", "folder/full", "folder/full/inner", "open"):
        (base / name).mkdir()
        os.chown(base / name, OWNER, GROUP)
    for name, uid in (("folder/his", OWNER), ("folder/strange", 1002), ("open/loose", OWNER)):
        (base / name).write_bytes(b"content")
        os.chown(base / name, uid, GROUP)
    (base / "open").chmod(0o777)
    (base / "folder").chmod(mode)


Arrange = Callable[[Path, int], None]


def arranged(base: Path, arrange: Arrange, mode: int) -> Path:
    """A directory in which everything was last changed LONG_AGO."""
    base.mkdir()
    base.chmod(0o777)
    arrange(base, mode)
    for path in (base, *base.rglob("*")):
        os.utime(path, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)
    return base


def outcome(operation: Operation, who: Who, base: Path) -> object:
    """What it returned, or its errno; and what it left."""
    with acting_as(who, base):
        try:
            answer = operation()
        except OSError as error:
            answer = errno.errorcode[error.errno or 0]
    return answer, {str(path.relative_to(base)): facts(path) for path in (base, *base.rglob("*"))}


def facts(path: Path) -> tuple[object, ...]:
    """Kind and rights, links, owners, size; and whether reading or changing moved the file's times."""
    status = path.lstat()
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    moved = status.st_mtime_ns != LONG_AGO, status.st_atime_ns == LONG_AGO + 1
    return oct(status.st_mode), status.st_nlink, status.st_uid, status.st_gid, status.st_rdev, size, moved


def differences(name: str, plain: Path, tested: Path) -> Iterator[str]:
    operation = (ON_FILE | ON_FOLDER)[name]
    arrange, modes = (arranged_file, FILE_MODES) if name in ON_FILE else (arranged_folder, FOLDER_MODES)
    for mode in modes:
        for person, who in PEOPLE.items():
            should, is_ = (
                outcome(operation, who, arranged(base / f"{mode:o} {person}", arrange, mode))
                for base in (plain, tested)
            )
            if should != is_:
                yield f"{mode:o}, {person}: {is_}, should be {should}"


@pytest.mark.parametrize("name", [*ON_FILE, *ON_FOLDER])
def test_the_same_rights_as_on_a_plain_directory(name: str, mounted: Mounted) -> None:
    tested = mounted.path / name
    tested.mkdir()
    with tempfile.TemporaryDirectory() as plain:
        assert list(differences(name, Path(plain), tested)) == []
