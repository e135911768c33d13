"""The folder to mount on: is it fit, is something mounted there, who uses it. Reads /proc; never waits for a mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ecfs.control.runtime import running
from ecfs.drive.location import mount_lines, unescape
from ecfs.errors import UsageError
from ecfs.mount.locate import plain_path, shown

MOUNTINFO = Path("/proc/self/mountinfo")
FUSE_TYPE = "fuse.ecfs"
READ_AHEAD_KIB = 4096
"""Buffered reads arrive in pieces of 128 KiB by default, which halves their rate. So much is four requests of 1 MiB
at a time, one to each data drive of a stripe: with two, half of the nodes are idle."""
BACKGROUND = 64
"""Requests of read-ahead and asynchronous I/O that the kernel keeps on their way."""


@dataclass(frozen=True)
class Mount:
    """A line of /proc/self/mountinfo. device: "major:minor"."""

    point: str
    kind: str
    device: str


def mounts() -> Iterator[Mount]:
    for fields, (kind, *_) in mount_lines(MOUNTINFO):
        yield Mount(unescape(fields[4]), kind, fields[2])


def mount_on(point: str) -> Mount | None:
    """What is mounted on exactly this place; of several the topmost."""
    return next((mount for mount in reversed(list(mounts())) if mount.point == point), None)


def is_stale(point: str) -> bool:
    """Whether a mount is left whose daemon is dead: "Transport endpoint is not connected"."""
    mount = mount_on(point)
    if mount is None or mount.kind != FUSE_TYPE or any(daemon.mountpoint == point for daemon in running()):
        return False  # a living daemon is not asked: it may hang
    try:
        os.statvfs(point)  # stat would be answered from the kernel's cache
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def check_mountpoint(argument: str, drives: Iterable[str]) -> tuple[str, list[str]]:
    """The absolute path to mount on, made if missing, and what to tell about it. Raises UsageError."""
    point = plain_path(argument)
    notes: list[str] = []
    mount = mount_on(point)
    if mount is not None:
        raise UsageError(f"{shown(Path(point))} is a mount point already ({mount.kind}): unmount it, or choose another")
    if os.path.islink(point):
        point = os.path.realpath(point)
    if not os.path.lexists(point):
        _make(point)
        notes.append(f"made {shown(Path(point))}")
    if not os.path.isdir(point):
        raise UsageError(f"{shown(Path(point))} is not a directory: choose an empty one")
    _check_apart(point, drives)
    hidden = len(os.listdir(point))
    if hidden:
        notes.append(f"{shown(Path(point))} is not empty: its {hidden} entries are hidden while it is mounted")
    return point, notes


def _make(point: str) -> None:
    try:
        os.mkdir(point)
    except OSError as error:
        raise UsageError(f"{shown(Path(point))} can't be made: {error.strerror}") from error


def _check_apart(point: str, drives: Iterable[str]) -> None:
    """A mount over a drive hides it, and a mount inside one would look like damage."""
    for drive in map(os.path.realpath, drives):
        if os.path.commonpath([point, drive]) in (point, drive):
            raise UsageError(f"{shown(Path(point))} and the drive {drive} lie within each other: mount elsewhere")


def raise_limits(point: str) -> None:
    """Larger read-ahead and more requests at once, where we are allowed to. Without them it only is slower."""
    mount = mount_on(point)
    if mount is None:
        return
    connection = Path("/sys/fs/fuse/connections") / mount.device.split(":")[1]
    for path, value in (
        (Path("/sys/class/bdi") / mount.device / "read_ahead_kb", READ_AHEAD_KIB),
        (connection / "max_background", BACKGROUND),
        (connection / "congestion_threshold", BACKGROUND * 3 // 4),
    ):
        with suppress(OSError):
            path.write_text(f"{value}\n")


def users(point: str, limit: int = 5) -> list[str]:
    """Processes that have something open or stand below `point`, as far as we may look."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(os.getpid()) and _uses(process, point):
            found.append(f"process {process.name} ({_command(process)})")
            if len(found) == limit:
                break
    return found


def _uses(process: Path, point: str) -> bool:
    links = [process / "cwd", process / "root"]
    with suppress(OSError):
        links += list((process / "fd").iterdir())
    for link in links:
        with suppress(OSError):
            target = os.readlink(link)
            if target == point or target.startswith(point + "/"):
                return True
    return False


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "gone"
