"""The files of a mounted pool by path: through its folder, so that the kernel's caches and everybody's rights hold."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from ecfs.mount.tree import CHUNK, FileError, Item, split_path, temporary_name


class MountedTree:
    """`Tree` over a mount point."""

    def __init__(self, point: Path) -> None:
        self._point = point

    async def find(self, path: str) -> Item | None:
        try:
            place = self._at(path)
            return _item(place, place.lstat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FileError(path, error.errno or 0) from error

    async def entries(self, path: str) -> list[Item]:
        with _explained(path):
            place = self._at(path)
            return [_item(entry, entry.lstat()) for entry in sorted(place.iterdir())]

    async def read(self, path: str) -> AsyncIterator[bytes]:
        with _explained(path):
            async with await trio.open_file(self._at(path), "rb") as file:
                while data := await file.read(CHUNK):
                    yield data

    async def write(self, path: str, data: AsyncIterable[bytes], mode: int, mtime_ns: int | None) -> None:
        with _explained(path):
            place = self._at(path)
            building = place.with_name(temporary_name(place.name))
            building.unlink(missing_ok=True)
            try:
                await _fill(building, data, mode, mtime_ns)
                building.rename(place)
            except BaseException:
                building.unlink(missing_ok=True)
                raise

    async def readlink(self, path: str) -> str:
        with _explained(path):
            return str(self._at(path).readlink())

    async def symlink(self, path: str, target: str) -> None:
        with _explained(path):
            self._at(path).symlink_to(target)

    async def mkdir(self, path: str, mode: int) -> None:
        with _explained(path):
            self._at(path).mkdir(mode)

    async def remove(self, path: str, *, directory: bool) -> None:
        with _explained(path):
            place = self._at(path)
            await trio.to_thread.run_sync(place.rmdir if directory else place.unlink)

    async def sync(self) -> None:
        with _explained("/"):
            await trio.to_thread.run_sync(_sync_directory, self._point)

    def _at(self, path: str) -> Path:
        """Where the path lies. The way must not lead over a symbolic link: that could lead out of the pool."""
        place = self._point
        parts = split_path(path)
        for part in parts[:-1]:
            place /= part
            if stat.S_ISLNK(place.lstat().st_mode):
                raise NotADirectoryError(20, os.strerror(20))
        return place / parts[-1] if parts else place


async def _fill(place: Path, data: AsyncIterable[bytes], mode: int, mtime_ns: int | None) -> None:
    async with await trio.open_file(place, "xb") as file:
        async for piece in data:
            await file.write(piece)
        os.fchmod(file.fileno(), mode)
    if mtime_ns is not None:
        os.utime(place, ns=(mtime_ns, mtime_ns))


def _item(place: Path, found: os.stat_result) -> Item:
    return Item(place.name, found.st_mode, found.st_size, found.st_mtime_ns)


def _sync_directory(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(path, error.errno or 0) from error
