"""A tree with one of everything that a rescue must bring back."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests.rescue.pools import IS_ROOT, seed_bytes

MIB = 1 << 20
DEPTH = 15
"""Folders within each other, each with a name of 200 characters."""


def make_tree(root: Path) -> None:
    """Empty, inline, packed, striped and sparse files, links, odd names, attributes, old and far times."""
    root.mkdir()
    (root / "empty").touch()
    (root / "inline").write_bytes(b"small enough for the metadata")
    (root / "big").write_bytes(seed_bytes(9 * MIB + 12345, 1))
    _make_sparse(root / "sparse")
    many = root / "many"
    many.mkdir()
    for number in range(60):
        (many / f"{number}").write_bytes(seed_bytes(number * 997, 100 + number))
    os.link(root / "big", many / "hard link to big")
    os.link(many / "7", root / "seven")
    os.symlink("many/../big", root / "link")
    os.symlink(b"/nowhere/\xff", root / "dangling")
    _make_odd_names(os.fsencode(root))
    _make_deep(root / "deep")
    os.mkfifo(root / "fifo", 0o620)
    _make_attributes(root)
    _set_times(root)


def _make_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.seek(5 * MIB)
        file.write(seed_bytes(100_000, 2))
        file.truncate(40 * MIB + 1)


def _make_odd_names(root: bytes) -> None:
    for name in (b"\xff\xfe", b"new\nline", b"-rf", b" ", "schön".encode(), b"n" * 255):
        with open(os.path.join(root, name), "wb") as file:
            file.write(name)
    os.mkdir(os.path.join(root, b"\x80dir"))
    with open(os.path.join(root, b"\x80dir", b"inner"), "wb") as file:
        file.write(b"inner")


def _make_deep(path: Path) -> None:
    path.mkdir()
    inner = path
    for _ in range(DEPTH):
        inner = inner / ("d" * 200)
        inner.mkdir()
    (inner / "bottom").write_bytes(b"reached")


def _make_attributes(root: Path) -> None:
    os.setxattr(root / "inline", "user.colour", b"red\0\xff")
    os.setxattr(root / "inline", "user.empty", b"")
    os.setxattr(root / "big", "user.large", seed_bytes(3000, 3))
    os.setxattr(root / "many", "user.of a folder", b"yes")
    os.setxattr(root, "user.root", b"top")
    (root / "big").chmod(0o444)
    (root / "inline").chmod(0o000 if IS_ROOT else 0o400)  # who reads it back must be able to
    (root / "empty").chmod(0o600)
    closed = root / "closed"
    closed.mkdir()
    (closed / "file").write_bytes(b"behind a closed door")
    if IS_ROOT:
        _make_roots_things(root)
        closed.chmod(0o000)
    else:
        closed.chmod(0o500)
    (root / "many").chmod(0o1777)


def _make_roots_things(root: Path) -> None:
    os.mknod(root / "device", 0o020640, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket"))
    os.setxattr(root / "link", "trusted.of_a_link", b"1", follow_symlinks=False)
    os.chown(root / "link", 1234, 1234, follow_symlinks=False)
    os.chown(root / "inline", 1234, 4321)
    os.chown(root / "empty", 1, 2)
    (root / "empty").chmod(0o6755)


def _set_times(root: Path) -> None:
    paths = [
        os.path.join(folder, name) for folder, inner, names in os.walk(os.fsencode(root)) for name in inner + names
    ]
    for number, path in enumerate(reversed(paths)):
        mtime = -5 if number == 3 else 10**18 + number * 1_000_000_007
        os.utime(path, ns=(mtime + 12345, mtime), follow_symlinks=False)
    os.utime(root, ns=(10**18, 10**18 + 1))
