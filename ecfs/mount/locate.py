"""What a person means by POOL or MOUNTPOINT. Looks at names only: a dead mount must not make a command hang."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ecfs.clock import Clock
from ecfs.control.runtime import LEAVING, Mounted, leftovers, running
from ecfs.drive.base import Drive
from ecfs.drive.registry import Access, canonical_url, check_distinct, open_drive
from ecfs.errors import EcfsError, NotAPoolError, UsageError
from ecfs.pool.poolfile import POOL_FILE, PoolFile, find_pool_file, read_pool_file

DEFAULT_POOL = "drives"


@dataclass(frozen=True)
class Target:
    """What was meant. file is None if the pool file can't be read, which only a running daemon makes up for."""

    file: PoolFile | None
    mounted: Mounted | None

    @property
    def pool_file(self) -> PoolFile:
        if self.file is None:
            raise NotAPoolError("the pool file can't be read")
        return self.file

    @property
    def name(self) -> str:
        """How the pool is called in messages and in commands to type."""
        path = self.file.path if self.file is not None else Path(self.mounted.pool_file if self.mounted else POOL_FILE)
        return shown(path.parent if path.name == POOL_FILE else path)


def shown(path: Path) -> str:
    """A path as one would type it from here: relative if that is shorter. The daemon stands on "/", and not where the
    person is who reads its messages: there it is absolute."""
    try:
        standing = os.getcwd()
    except FileNotFoundError:
        return str(path)  # the person stands in a directory that was deleted: as it was typed
    absolute = os.path.abspath(path)
    relative = os.path.relpath(absolute)
    here = standing != "/" and len(relative) < len(absolute) and not relative.startswith("../..")
    return relative if here else absolute


def find_target(argument: str | None) -> Target:
    """The pool that POOL or MOUNTPOINT (or anything below one) names; a mount point whose daemon died still names its
    pool. Raises NotAPoolError, UsageError."""
    daemons = running()
    if argument is None:
        return _without_argument(daemons)
    mounted = mounted_at(argument, daemons)
    if mounted is not None:
        return Target(_try_read(Path(mounted.pool_file)), mounted)
    dead = mounted_at(argument, leftovers())
    if dead is not None:
        return _by_pool(Path(dead.pool_file), daemons)
    return _by_pool(Path(argument), daemons)


def _without_argument(daemons: list[Mounted]) -> Target:
    if Path(DEFAULT_POOL, POOL_FILE).is_file():
        here = _by_pool(Path(DEFAULT_POOL), daemons)
        if here.mounted is not None or not daemons:
            return here
    if len(daemons) == 1:
        return Target(_try_read(Path(daemons[0].pool_file)), daemons[0])
    if daemons:
        names = ", ".join(shown(Path(daemon.mountpoint)) for daemon in daemons)
        raise UsageError(f"several pools are mounted ({names}): say which one")
    raise NotAPoolError(
        f"no pool is mounted and ./{DEFAULT_POOL} is none: name one, or make one with: ecfs create {DEFAULT_POOL}"
    )


def _by_pool(pool: Path, daemons: list[Mounted]) -> Target:
    pool = place_of(pool)
    path = os.path.realpath(pool / POOL_FILE if pool.is_dir() else pool)
    for daemon in daemons:
        if daemon.pool_file == path:
            return Target(_try_read(Path(path)), daemon)
    file = read_pool(pool)
    return Target(file, next((daemon for daemon in daemons if daemon.pool_id == file.pool_id), None))


def read_pool(pool: Path) -> PoolFile:
    """The pool file that POOL names, with its real path, so that it is the same from wherever one looks.

    Raises NotAPoolError (also for a list of drives of which no pool was made), UsageError.
    """
    pool = place_of(pool)
    if pool.is_dir() and not (pool / POOL_FILE).exists() and any(pool.glob("d[0-9]*/*")):
        name = shown(pool)
        raise NotAPoolError(f"{name} has drives but no {POOL_FILE}; this writes it again: ecfs mount {name} MOUNTPOINT")
    file = read_pool_file(find_pool_file(pool))
    if not file.pool_id:
        raise NotAPoolError(f"{shown(pool)} lists drives, but no pool was made of them: ecfs create {shown(pool)}")
    return replace(file, path=Path(os.path.realpath(file.path)))


def urls_in(pool: Path) -> tuple[str, ...]:
    """The drives that POOL names by a comma-separated list, canonical; none if it is no list. Raises UsageError."""
    text = str(pool)
    if "," not in text or os.path.lexists(pool):
        return ()
    # As a path, grpc://host has lost a slash.
    return tuple(canonical_url(re.sub(r"^([a-z0-9]+):/(?=[^/])", r"\1://", url)) for url in text.split(",") if url)


def place_of(pool: Path) -> Path:
    """Where the pool file of POOL lies: for a list of drives, among this user's state."""
    urls = urls_in(pool)
    if not urls:
        return pool
    digest = hashlib.blake2b("\n".join(sorted(urls)).encode(), digest_size=6).hexdigest()
    first = re.sub(r"[^A-Za-z0-9.-]+", "-", min(urls)).strip("-")
    return state_directory() / f"{first}-{digest}.toml"


def state_directory() -> Path:
    """Where this host keeps what is not in a pool: pool files of pools that were named by their drives, events that
    wait for the on_event command."""
    if chosen := os.environ.get("ECFS_STATE_DIR"):
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/ecfs")
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "ecfs"


def _try_read(path: Path) -> PoolFile | None:
    try:
        return read_pool_file(path)
    except EcfsError:
        return None


def mounted_at(argument: str, daemons: Iterable[Mounted]) -> Mounted | None:
    """The daemon whose mount point this is, or lies above it."""
    path = plain_path(argument)
    for daemon in daemons:
        if daemon.state != LEAVING and (path == daemon.mountpoint or path.startswith(daemon.mountpoint + "/")):
            return daemon
    return None


def file_on_pool(argument: str) -> tuple[Mounted, str] | None:
    """The daemon and the path below its mount point, if the argument names a file there that is no directory."""
    daemon = mounted_at(argument, running())
    path = plain_path(argument)
    if daemon is None or path == daemon.mountpoint or os.path.isdir(argument):
        return None
    return daemon, os.path.relpath(path, daemon.mountpoint)


def plain_path(argument: str | Path) -> str:
    """Absolute, with the symbolic links of the parent followed. The last part is not looked at: if it is a mount
    whose daemon hangs, so would we."""
    absolute = os.path.abspath(argument)
    return os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute)).rstrip("/") or "/"


def open_drives(file: PoolFile, clock: Clock) -> list[Drive]:
    """The drives that the pool file lists, by slot, not attached yet. Raises UsageError."""
    base = str(file.path.resolve().parent)
    urls = [canonical_url(url, base) for url in file.urls]
    check_distinct(urls)
    access = access_of(file)
    return [open_drive(url, slot=slot, clock=clock, access=access) for slot, url in enumerate(urls)]


def access_of(file: PoolFile) -> Access:
    """What its drives need besides their URLs."""
    return Access(file.pool_id, file.tls)
