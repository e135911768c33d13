"""From the arguments of `ecfs mount` to a plan, with every check that needs no drive. Runs before the fork."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ecfs.clock import SystemClock
from ecfs.control.runtime import leftovers, running
from ecfs.drive.registry import canonical_url
from ecfs.errors import NotAPoolError, PoolLockedError, UsageError
from ecfs.mount.background import log_file
from ecfs.mount.locate import plain_path, read_pool, shown
from ecfs.mount.making import may_be_made, plan_pool
from ecfs.mount.mountpoint import check_mountpoint
from ecfs.mount.options import parse_options
from ecfs.mount.patience import is_leaving
from ecfs.mount.serving import Plan
from ecfs.mount.unmount import clear_stale
from ecfs.pool.poolfile import PoolFile


def plan_mount(pool: Path, mountpoint: str, options: Sequence[str], *, create: bool) -> tuple[Plan, list[str]]:
    """The plan, and what to tell. Raises EcfsError; nothing was changed then, except that stale mounts are gone."""
    chosen = parse_options(options)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise UsageError("/dev/fuse can't be opened: load the kernel's fuse module, or use ecfs put and ecfs get")
    file, make = _pool_file(pool, create=create)
    _refuse_second(file)
    notes = _clear_stale(file, mountpoint)
    base = str(file.path.parent)
    point, said = check_mountpoint(mountpoint, [canonical_url(url, base) for url in file.urls])
    name = str(file.path.parent).strip("/").replace("/", "-")
    plan = Plan(file, point, chosen, SystemClock(), make, _nothing, _nothing, str(log_file(name)))
    return plan, notes + said


def _nothing(text: str = "") -> None:
    """Until somebody listens."""


def _pool_file(pool: Path, *, create: bool) -> tuple[PoolFile, bool]:
    """The pool file with an absolute path, and whether its pool must be made first."""
    try:
        return read_pool(pool), False
    except NotAPoolError:
        if not (create and pool.is_dir() and may_be_made(pool)):
            raise
    file = plan_pool(pool, 4, 2)
    return replace(file, path=Path(os.path.realpath(file.path))), True


def _refuse_second(file: PoolFile) -> None:
    for daemon in running():
        if daemon.pool_id == file.pool_id and not is_leaving(daemon):
            where = shown(Path(daemon.mountpoint))
            raise PoolLockedError(f"the pool is mounted on {where} already, by process {daemon.pid}")


def _clear_stale(file: PoolFile, mountpoint: str) -> list[str]:
    """Dead mounts on this folder, and those that this pool left elsewhere when its daemon died."""
    points = [plain_path(mountpoint)]
    points += [entry.mountpoint for entry in leftovers() if entry.pool_id == file.pool_id]
    cleared = [point for point in dict.fromkeys(points) if clear_stale(point)]
    return [f"took away the dead mount on {shown(Path(point))}, whose daemon is gone" for point in cleared]
