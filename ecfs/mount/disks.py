"""Which disk a directory is on: partitions, volumes and loop files followed down to what would break.

Names what /sys knows. Where it knows nothing (tmpfs, overlay, network), the mount point stands for the disk.
"""

from __future__ import annotations

import os
from pathlib import Path

from ecfs.drive.location import mount_of

SYSTEM = Path("/sys/dev/block")


def disk_of(path: str) -> str:
    """ "disk sda", "disks sda+sdb" for what is spread over several, or "that of /mnt" where no disk is known."""
    place = _existing(os.path.realpath(path))
    disks = _disks_below(place, depth=8)
    if not disks:
        return f"that of {_mount_point(place)}"
    return "+".join(sorted(disks))


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _mount_point(path: str) -> str:
    device = os.stat(path).st_dev
    while path != "/" and os.stat(os.path.dirname(path)).st_dev == device:
        path = os.path.dirname(path)
    return path


def _disks_below(path: str, depth: int) -> set[str]:
    """The disks that a file or directory lies on; empty if that can't be told."""
    try:
        return _disks_of(SYSTEM / _device_number(path), depth)
    except OSError:
        return set()


def _device_number(path: str) -> str:
    device = os.stat(path).st_dev
    if not os.major(device):
        # Btrfs and its like have numbers of their own; the mount says which device they are on.
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            device = os.stat(mount_of(descriptor).source).st_rdev
        finally:
            os.close(descriptor)
    return f"{os.major(device)}:{os.minor(device)}"


def _disks_of(device: Path, depth: int) -> set[str]:
    """device: a directory of /sys that tells of a block device."""
    device = device.resolve(strict=True)
    if depth <= 0:
        return set()
    if (device / "partition").exists():
        return _disks_of(device.parent, depth - 1)
    below = list((device / "slaves").iterdir()) if (device / "slaves").is_dir() else []
    if below:
        return set().union(*(_disks_of(each, depth - 1) for each in below))
    backing = device / "loop" / "backing_file"
    if backing.exists():
        file = backing.read_text().strip()
        return _disks_below(file, depth - 1) or {_mount_point(_existing(os.path.dirname(file)))}
    return {device.name}
