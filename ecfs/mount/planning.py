"""From the arguments of `ecfs mount` to a plan, with every check that needs no drive. Runs before the fork."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ecfs.clock import SystemClock
from ecfs.control.runtime import leftovers, running
from ecfs.drive.registry import canonical_url, is_directory
from ecfs.errors import NotAPoolError, PoolLockedError, UsageError
from ecfs.mount.background import log_file
from ecfs.mount.locate import place_of, plain_path, read_pool, shown, urls_in
from ecfs.mount.making import may_be_made, plan_pool
from ecfs.mount.mountpoint import check_mountpoint
from ecfs.mount.options import parse_options
from ecfs.mount.page import plan_page
from ecfs.mount.patience import LEAVING_S, Tell, is_leaving, wait_for_end
from ecfs.mount.serving import Plan
from ecfs.mount.unmount import clear_stale
from ecfs.mount.url_list import planned_by_list
from ecfs.pool.poolfile import POOL_FILE, PoolFile
from ecfs.rpc.tls import TlsFiles

FUSE = "/dev/fuse"


def plan_mount(
    pool: Path, mountpoint: str, options: Sequence[str], *, create: bool, tell: Tell, tls: TlsFiles | None = None
) -> Plan:
    """The plan. Raises EcfsError; nothing was changed then, except that stale mounts are gone.

    tls: certificates for a list of nodes; a pool file names its own.
    """
    chosen = parse_options(options)
    page = plan_page(chosen)
    if not os.access(FUSE, os.R_OK | os.W_OK):
        why = "its mode keeps this user out" if os.path.exists(FUSE) else "load the kernel's fuse module"
        raise UsageError(f"{FUSE} can't be opened: {why}, or use ecfs put and ecfs get")
    file, make = _pool_file(pool, tls, create=create)
    _demand_utf8(str(file.path), plain_path(mountpoint))
    _refuse_second(file)
    _let_leave(file, mountpoint, tell)
    for note in _clear_stale(file, mountpoint):
        tell(note)
    base = str(file.path.parent)
    directories = filter(is_directory, (canonical_url(url, base) for url in file.urls))
    point, said = check_mountpoint(mountpoint, directories)
    name = str(file.path.parent if file.path.name == POOL_FILE else file.path).strip("/").replace("/", "-")
    for note in said:
        tell(note)
    return Plan(file, point, chosen, SystemClock(), make, tell, _nothing, str(log_file(name)), page)


def _nothing() -> None:
    """Until somebody listens."""


def _pool_file(pool: Path, tls: TlsFiles | None, *, create: bool) -> tuple[PoolFile, bool]:
    """The pool file with an absolute path, and whether its pool must be found or made first."""
    urls = urls_in(pool)
    if tls is not None and not urls:
        raise UsageError("--tls is for a list of nodes; a pool file names its certificates under [tls]")
    try:
        return read_pool(pool), False
    except NotAPoolError:
        if urls:
            return planned_by_list(place_of(pool), urls, tls, create=create), True
        if not (create and pool.is_dir() and may_be_made(pool)):
            raise
    file = plan_pool(pool, 4, 2)
    return replace(file, path=Path(os.path.realpath(file.path))), True


def _demand_utf8(*paths: str) -> None:
    """What other processes read of a mount, its entry in the runtime directory, is JSON."""
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{path!r} is not UTF-8: use or make a folder with another name") from error


def _refuse_second(file: PoolFile) -> None:
    for daemon in running():
        if daemon.pool_id == file.pool_id and not is_leaving(daemon):
            where = shown(Path(daemon.mountpoint))
            raise PoolLockedError(f"the pool is mounted on {where} already, by process {daemon.pid}")


def _let_leave(file: PoolFile, mountpoint: str, tell: Tell) -> None:
    """Whoever is about to give this folder or this pool back gets the time to do so (R14)."""
    point = plain_path(mountpoint)
    for daemon in running():
        if is_leaving(daemon) and (daemon.mountpoint == point or daemon.pool_id == file.pool_id):
            tell(f"waiting for process {daemon.pid}, which is storing what the last mount left")
            wait_for_end(daemon.pid, LEAVING_S)


def _clear_stale(file: PoolFile, mountpoint: str) -> list[str]:
    """Dead mounts on this folder, and those that this pool left elsewhere when its daemon died."""
    points = [plain_path(mountpoint)]
    points += [entry.mountpoint for entry in leftovers() if entry.pool_id == file.pool_id]
    cleared = [point for point in dict.fromkeys(points) if clear_stale(point)]
    return [f"took away the dead mount on {shown(Path(point))}, whose daemon is gone" for point in cleared]
