"""Where a directory lies: which file system, mounted where, how deep below (R10)."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ecfs.drive.base import Location

MOUNTINFO = Path("/proc/self/mountinfo")
DESCRIPTORS = Path("/proc/self/fdinfo")
DISKS_BY_UUID = "/dev/disk/by-uuid"

NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|glusterfs|lustre|ncpfs|nfs4?|orangefs|smb[23]?|smbfs|"
    r"fuse\.(ceph|glusterfs|juicefs|rclone|s3fs|sshfs)"
)
"""Where a lock taken here says nothing to the other hosts (R19)."""

FSID_IS_UUID = frozenset({"btrfs", "ext2", "ext3", "ext4", "zfs"})
"""Their f_fsid comes from the file system's UUID. Elsewhere it does not: on XFS it is the device number."""


@dataclass(frozen=True)
class Mount:
    """source: the device, where there is one."""

    point: str
    kind: str
    source: str


def locate(path: str) -> Location:
    """Location of `path`, or of its nearest existing ancestor where it is gone; `below` is that of `path` itself.

    How stable `filesystem` is: for ext2/3/4, btrfs and ZFS "type:f_fsid", and for others with an entry under
    /dev/disk/by-uuid "type:UUID", for as long as the file system exists. Otherwise (tmpfs, overlay, containers without
    /dev/disk) "type:dev:MAJOR:MINOR", until the next mount: after a reboot such a place counts as another one, so that
    a missing directory there is never recreated without being asked for.
    """
    path = os.path.realpath(path)
    descriptor = os.open(_nearest(path), os.O_PATH | os.O_CLOEXEC)
    try:
        mount = mount_of(descriptor)
        below = os.path.relpath(path, mount.point)
        return Location(_name(descriptor, mount.kind), _text(mount.point), _text(below))
    finally:
        os.close(descriptor)


def filesystem_of(descriptor: int) -> str:
    """`Location.filesystem` of an open file or directory."""
    return _name(descriptor, mount_of(descriptor).kind)


def _text(path: str) -> str:
    """As UTF-8 that can be sent and stored: a name in another encoding, behind a link, would end the commit that tells
    of the drive, and the engine with it."""
    return os.fsencode(path).decode(errors="backslashreplace")


def is_network(path: str) -> str | None:
    """The type of the network file system that `path` lies on, None for a local one."""
    descriptor = os.open(_nearest(os.path.realpath(path)), os.O_PATH | os.O_CLOEXEC)
    try:
        kind = mount_of(descriptor).kind
    finally:
        os.close(descriptor)
    return kind if NETWORK.fullmatch(kind) else None


def _nearest(path: str) -> str:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def mount_of(descriptor: int) -> Mount:
    """The mount that an open file belongs to: by the kernel's own number, so that mounts over mounts don't confuse."""
    number = _mount_number(descriptor)
    for candidate, mount in _mounts():
        if candidate == number:
            return mount
    raise OSError(errno.ENODEV, f"{MOUNTINFO} does not list the file system")


def _mount_number(descriptor: int) -> int:
    for line in (DESCRIPTORS / str(descriptor)).read_text().splitlines():
        if line.startswith("mnt_id:"):
            return int(line.split()[1])
    raise OSError(errno.ENODEV, "the kernel does not say on which mount this lies")


def _mounts() -> Iterator[tuple[int, Mount]]:
    """(number, mount) per line: number parent major:minor root POINT options [tags …] - KIND source options."""
    for fields, (kind, source, *_) in mount_lines(MOUNTINFO):
        yield int(fields[0]), Mount(unescape(fields[4]), kind, unescape(source))


def mount_lines(mountinfo: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The words before and behind the dash of each line, as they are written there. Format: proc(5), mountinfo."""
    # Lines end with \n only: a path may hold \r or what else Python takes for the end of a line.
    for line in os.fsdecode(mountinfo.read_bytes()).split("\n")[:-1]:
        before, _, after = line.partition(" - ")
        yield before.split(" "), after.split(" ")


def unescape(text: str) -> str:
    """Space, tab, newline and backslash are written as \\ooo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _name(descriptor: int, kind: str) -> str:
    if kind in FSID_IS_UUID and (number := os.fstatvfs(descriptor).f_fsid):
        return f"{kind}:{number & (1 << 64) - 1:016x}"
    device = os.fstat(descriptor).st_dev
    uuid = _uuid_of(device)
    return f"{kind}:{uuid}" if uuid else f"{kind}:dev:{os.major(device)}:{os.minor(device)}"


def _uuid_of(device: int) -> str | None:
    try:
        with os.scandir(DISKS_BY_UUID) as scan:
            return next((entry.name for entry in scan if entry.stat().st_rdev == device), None)
    except OSError:
        return None
