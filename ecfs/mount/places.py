"""Keeping `pool.toml` true when a drive has moved to another place."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ecfs.drive.registry import canonical_url
from ecfs.errors import EcfsError
from ecfs.mount.making import save_text
from ecfs.mount.risk import risks_of
from ecfs.pool.poolfile import PoolFile, read_pool_file, with_url


class Places:
    """Where the pool file says that drives are, as it is now. Should it be gone or broken: as it was."""

    def __init__(self, file: PoolFile) -> None:
        self._path = file.path
        self._known = urls_of(file)
        self._read: tuple[int, ...] = ()

    def __call__(self) -> list[str]:
        """Asked all the time while a drive is away: parsing takes milliseconds of the event loop."""
        with suppress(EcfsError, OSError):
            found = self._path.stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            if version != self._read:
                self._known = urls_of(read_pool_file(self._path))
                self._read = version
        return self._known


def urls_of(file: PoolFile) -> list[str]:
    """The drives' places, canonical, by position."""
    base = os.path.realpath(file.path.parent)
    return [canonical_url(url, base) for url in file.urls]


def move_place(pool_file: Path, slot: int, old: str, new: str) -> None:
    """The drive that was at `old` is at `new` from now on. Relative where it lies beside the pool file, so that the
    pool can still be moved as a whole. Raises UsageError."""
    file = read_pool_file(pool_file)
    base = str(pool_file.parent)
    listed = next((url for url in file.urls if canonical_url(url, base) == old), file.urls[slot])
    save_text(pool_file, with_url(pool_file.read_text(), listed, _as_written(new, base)))


def _as_written(url: str, base: str) -> str:
    inside = url.startswith("/") and os.path.commonpath([url, base]) == base
    return os.path.relpath(url, base) if inside else url


def risks(file: PoolFile) -> list[str]:
    """What a person should know who puts the drives there."""
    return [f"warning: {line}" for line in risks_of(urls_of(file), file.m)]
