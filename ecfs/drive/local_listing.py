"""Going through a local drive's directory, a few hundred names at a time."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator, Iterator
from contextlib import closing

from ecfs.drive.base import BLOB_NAMES, KEY_PATTERN, Entry
from ecfs.drive.held import open_directory
from ecfs.drive.local_lock import NOTE
from ecfs.drive.local_root import FENCE, Root
from ecfs.drive.local_segments import DIRECTORY as SEGMENTS
from ecfs.drive.local_segments import records_end

CHUNK = 512
"""Names per thread hop: a million names never lie in memory at once."""

LAYOUT = ("s", "c", "j")
Entries = Generator[Entry, None, None]

OWN_NAMES = BLOB_NAMES | {FENCE, NOTE, *LAYOUT}
EPOCH = re.compile(r"[0-9a-f]{8}")


def is_scenery(name: str) -> bool:
    """What a fresh disk has, or our own temporary names: neither ecfs's data nor anybody's."""
    return name.startswith(".") or name == "lost+found"


def entries(root: Root, prefix: str) -> Entries:
    """Every shard or segment below a prefix; names that ecfs would not give are left out."""
    for directory in _directories(root, prefix):
        for name, found in _files(root, directory):
            key = f"{directory}/{name}"
            if KEY_PATTERN.fullmatch(key) and stat.S_ISREG(found.st_mode):
                yield Entry(key, _length(root, key) if directory == SEGMENTS else found.st_size)


def _length(root: Root, segment: str) -> int:
    """Bytes of a segment's records, without the zeros ahead."""
    with root.directory.use() as held:
        try:
            descriptor = os.open(segment, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=held)
        except FileNotFoundError:
            return 0  # deleted since
    try:
        return records_end(descriptor)
    finally:
        os.close(descriptor)


def _directories(root: Root, prefix: str) -> Iterator[str]:
    if prefix != "s/":
        yield prefix.rstrip("/")
        return
    for name, found in _files(root, "s"):
        if EPOCH.fullmatch(name) and stat.S_ISDIR(found.st_mode):
            yield f"s/{name}"


def _files(root: Root, directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Names and what they are. An epoch that was never prepared has none; one of s, c, j missing is an error."""
    with root.directory.use() as held:
        try:
            descriptor = open_directory(directory, held)
        except FileNotFoundError:
            if directory in LAYOUT:
                raise
            return
    try:
        with os.scandir(descriptor) as scan:
            for entry in scan:
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # deleted since
    finally:
        os.close(descriptor)


def strays(root: Root, limit: int) -> list[str]:
    """Up to `limit` names that ecfs did not put there, relative to the drive."""
    found: list[str] = []
    with closing(_strays(root)) as names:
        for name in names:
            found.append(name)
            if len(found) == limit:
                break
    return found


def _strays(root: Root) -> Generator[str, None, None]:
    present = set()
    for name, _ in _files(root, "."):
        if name in OWN_NAMES:
            present.add(name)
        elif not is_scenery(name):
            yield name
    for directory in present.intersection(LAYOUT):
        yield from _strays_below(root, directory)


def _strays_below(root: Root, directory: str) -> Iterator[str]:
    for name, found in _files(root, directory):
        path = f"{directory}/{name}"
        if directory == "s" and EPOCH.fullmatch(name) and stat.S_ISDIR(found.st_mode):
            yield from _strays_below(root, path)
        elif not (KEY_PATTERN.fullmatch(path) and stat.S_ISREG(found.st_mode)):
            yield path
