"""Making a pool: the drives first, `pool.toml` last (R10). What a crash in between leaves is never a pool."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ecfs.clock import Clock
from ecfs.codec import self_test
from ecfs.drive.registry import canonical_url, open_drive
from ecfs.errors import DriveError, RefusedError, UsageError
from ecfs.geometry import MAX_DRIVES
from ecfs.journal.create import create_pool
from ecfs.mount.locate import open_drives, shown
from ecfs.mount.scratch import scratch_directory
from ecfs.pool.identity import Identity
from ecfs.pool.judge import look
from ecfs.pool.poolfile import POOL_FILE, PoolFile, default_pool_file, read_pool_file, render_pool_file, with_pool_id


def plan_pool(pool: Path, k: int, m: int, urls: tuple[str, ...] = ()) -> PoolFile:
    """The pool file of the pool to be made at POOL, checked as far as nothing needs to be touched."""
    if pool.is_file() or pool.suffix == ".toml":
        return _planned_by_file(pool, urls)
    if (pool / POOL_FILE).exists():
        raise RefusedError(f"{shown(pool)} is a pool already: mount it with: ecfs mount {shown(pool)} MOUNTPOINT")
    if pool.exists() and not pool.is_dir():
        raise UsageError(f"{shown(pool)} is not a directory")
    if not pool.absolute().parent.is_dir():
        raise UsageError(f"{shown(pool.absolute().parent)} does not exist: make it, or mount what belongs there")
    file = default_pool_file(pool, k, m)
    _ = file.geometry
    if urls:
        if len(urls) != k + m:
            raise UsageError(f"{k} data + {m} parity needs {k + m} drives, {len(urls)} are given")
        file = replace(file, urls=tuple(canonical_url(url) for url in urls))
    return file


def _planned_by_file(path: Path, urls: tuple[str, ...]) -> PoolFile:
    if urls:
        raise UsageError(f"{path} lists the drives itself: leave out the URLs, or give a directory as POOL")
    if not path.is_file():
        raise UsageError(f"{path} does not exist: write a pool file that lists the drives, or give a directory as POOL")
    file = read_pool_file(path)
    if file.pool_id:
        raise RefusedError(f"{path} is a pool already: mount it with: ecfs mount {path} MOUNTPOINT")
    return file


async def make_pool(file: PoolFile, clock: Clock) -> PoolFile:
    """Make the drives and write the pool file. Raises RefusedError before anything is changed if a place is taken."""
    self_test()
    drives = open_drives(file, clock)
    with _directory(file.path.parent), scratch_directory() as scratch:
        owner = (os.getuid(), os.getgid())
        try:
            pool_id = await create_pool(drives, file.geometry, clock=clock, scratch=scratch, owner=owner)
        except DriveError as error:
            place = file.path.parent if error.slot is None else drives[error.slot].url
            text = f"{place}: {error.args[0]}; no pool was made: remove what was begun, then try again"
            raise RefusedError(text) from error
        made = replace(file, pool_id=pool_id)
        text = with_pool_id(file.path.read_text(), pool_id) if file.path.exists() else render_pool_file(made)
        save_text(file.path, text)
    return made


async def restore_pool_file(directory: Path, clock: Clock) -> PoolFile | None:
    """Write the pool file of a pool that lost it, if the drives beside it say whose they are; None if none does.

    Raises RefusedError if they say something that would have to be guessed at.
    """
    found = await _identities([directory / f"d{slot}" for slot in range(MAX_DRIVES)], clock)
    if not found:
        return None
    named = {(identity.pool_id, identity.k, identity.m) for identity in found}
    if len(named) > 1:
        raise RefusedError(f"{shown(directory)} has drives of several pools and no {POOL_FILE}: sort them out by hand")
    ((pool_id, k, m),) = named
    if len(found) < k:
        few = f"{len(found)} of {k + m} drives"
        raise RefusedError(f"{shown(directory)} has no {POOL_FILE} and only {few} of its pool: bring back others")
    file = replace(default_pool_file(directory, k, m), pool_id=pool_id)
    save_text(file.path, render_pool_file(file))
    return file


async def _identities(places: list[Path], clock: Clock) -> list[Identity]:
    """What member drives at these places say of themselves."""
    found = []
    for place in places:
        drive = open_drive(str(place), slot=None, clock=clock)
        sight = await look(drive, exclusive=False)
        await drive.close()
        if sight.is_member and sight.identity is not None:
            found.append(sight.identity)
    return found


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    """Make it if it is missing; if nothing came of it, take it away again."""
    there = path.is_dir()
    path.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        if not there:
            with suppress(OSError):
                path.rmdir()
        raise


def save_text(path: Path, text: str) -> None:
    """Replace a file atomically and durably: that which a link leads to, with its mode. A new one is readable by all,
    since it holds no secret, and says where the drives are."""
    path = Path(os.path.realpath(path))
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def may_be_made(pool: Path) -> bool:
    """Whether POOL is a directory (or nothing yet) in which `ecfs mount` may make a pool by itself: no pool file, and
    no d0 … d5 that holds anything. What those hold is judged again, drive by drive, before anything is written."""
    if pool.suffix == ".toml" or (pool.exists() and not pool.is_dir()):
        return False
    return not (pool / POOL_FILE).exists()
