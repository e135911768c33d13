"""The same operation on the mount and on a plain directory must end the same way, in answer, errno and tree."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ecfs.fs.acl import ACCESS, DEFAULT
from tests.mount.fuse_mount import Mounted, fuse_mount

pytestmark = pytest.mark.mount

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with fuse_mount(tmp_path_factory.mktemp("fuse")) as mounted:
        yield mounted


def renameat2(old: Path, new: Path, flags: int) -> None:
    if LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def put(path: Path, content: bytes = b"content") -> Path:
    path.write_bytes(content)
    return path


def made(base: Path) -> Path:
    """A file, a link to it, a full and an empty directory, a symlink, a FIFO."""
    os.link(put(base / "file"), base / "link")
    (base / "full/inner").mkdir(parents=True)
    (base / "empty").mkdir()
    (base / "symlink").symlink_to("file")
    os.mkfifo(base / "fifo")
    return base


KINDS = ("file", "link", "full", "empty", "symlink", "fifo", "nothing")
Operation = Callable[[Path], object]


def opened(path: Path, flags: int) -> None:
    os.close(os.open(path, flags | os.O_NONBLOCK))


def linked(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


def twice(operation: Operation) -> Operation:
    return lambda path: (operation(path), operation(path))


ON_ONE: dict[str, Operation] = {
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "readlink": os.readlink,
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "symlink": lambda path: path.symlink_to("x"),
    "truncate": lambda path: os.truncate(path, 3),
    "create": lambda path: opened(path, os.O_CREAT | os.O_EXCL | os.O_RDWR),
    "write": lambda path: opened(path, os.O_RDWR | os.O_TRUNC),
    "nofollow": lambda path: opened(path, os.O_NOFOLLOW),
    "directory": lambda path: opened(path, os.O_DIRECTORY),
    "below": lambda path: put(path / "child"),
    "chmod": lambda path: path.chmod(0o7640),
    "no such xattr": lambda path: os.getxattr(path, "user.none"),
    "remove no such xattr": lambda path: os.removexattr(path, "user.none"),
    "remove no such list": lambda path: os.removexattr(path, ACCESS),
    "remove no such default list": lambda path: os.removexattr(path, DEFAULT),
    "xattr": lambda path: os.setxattr(path, "user.a", b"1", follow_symlinks=False),
    "xattr too long": lambda path: os.setxattr(path, "user.a", b"x" * 65537),
    "xattr of a long name": lambda path: os.setxattr(path, "user." + "n" * 251, b"x"),
    "replace no such xattr": lambda path: os.setxattr(path, "user.a", b"", os.XATTR_REPLACE),
    "create an xattr twice": twice(lambda path: os.setxattr(path, "user.a", b"", os.XATTR_CREATE)),
    "negative size": lambda path: os.truncate(path, -1),
}

ON_TWO: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda old, new: os.link(old, new, follow_symlinks=False),
    "rename": os.rename,
    "noreplace": lambda old, new: renameat2(old, new, NOREPLACE),
    "exchange": lambda old, new: renameat2(old, new, EXCHANGE),
}

ON_TREE: dict[str, Operation] = {
    "into itself": lambda base: os.rename(base / "full", base / "full/inner/x"),
    "exchange with inner": lambda base: renameat2(base / "full", base / "full/inner", EXCHANGE),
    "over its parent": lambda base: os.rename(base / "full/inner", base / "full"),
    "up": lambda base: os.rename(base / "full/inner", base / "inner"),
    "name of 255": lambda base: put(base / ("x" * 255)),
    "name of 256": lambda base: put(base / ("x" * 256)),
    "lookup of 256": lambda base: os.stat(base / ("x" * 256)),
    "symlink of 4096": lambda base: (base / "s").symlink_to("x" * 4096),
    "symlink to itself": lambda base: opened(linked(base / "s", "s"), 0),
    "name of odd bytes": lambda base: os.mkdir(os.fsencode(base) + b"/\xff\xfe\n"),
}


def operations() -> Iterator[tuple[str, Operation]]:
    """By name; each is given a directory as `made` left it."""
    yield from ON_TREE.items()
    for name, on_one in ON_ONE.items():
        for kind in KINDS:
            yield f"{name} {kind}", partial(lambda op, kind, base: op(base / kind), on_one, kind)
    for name, on_two in ON_TWO.items():
        for old, new in itertools.product(KINDS, KINDS):
            yield f"{name} {old} {new}", partial(lambda op, a, b, base: op(base / a, base / b), on_two, old, new)


def outcome(operation: Operation, base: Path) -> object:
    """What it returned, or its errno."""
    try:
        result = operation(base)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None if isinstance(result, Path) else result


def snapshot(base: Path) -> dict[str, tuple[object, ...]]:
    """Everything below `base` that must be equal: kinds, modes, link counts, sizes, contents."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [base, *sorted(base.rglob("*"))]:
        status = path.lstat()
        regular, directory = stat.S_ISREG(status.st_mode), stat.S_ISDIR(status.st_mode)
        content = path.read_bytes() if regular else os.readlink(path) if path.is_symlink() else None
        size = 0 if directory else status.st_size
        name = os.fsencode(path.relative_to(base)).hex()
        found[name] = (oct(status.st_mode), status.st_nlink, status.st_uid, status.st_gid, size, content)
    return found


OPERATIONS = dict(operations())


@pytest.mark.parametrize("name", OPERATIONS)
def test_same_as_on_a_plain_directory(name: str, mounted: Mounted, tmp_path: Path) -> None:
    plain, folder = tmp_path / "plain", mounted.path / name.replace("/", "-")
    plain.mkdir()
    folder.mkdir()
    results = [(outcome(OPERATIONS[name], made(base)), snapshot(base)) for base in (plain, folder)]
    assert results[1] == results[0]
