"""POSIX access control lists, as the kernel stores them in extended attributes.

The kernel enforces them; kept in step here is what they share with the mode bits: setting a list sets the mode, chmod
changes the list, and what is made in a directory with a default list inherits it.

::

    offset  size  field (little-endian)
         0     4  version, 2
         4     8  per entry: tag u16, permissions u16, user or group id u32
"""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ecfs.fs.errors import FsError
from ecfs.fs.inodes import HAS_XATTRS
from ecfs.meta import Inode
from ecfs.meta.namespace import Namespace as Names

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAGS = {_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER}
_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")


@dataclass(frozen=True, slots=True)
class Entry:
    """tag: whom it is about; perm: 3 bits; ident: user or group id, or 0xFFFFFFFF."""

    tag: int
    perm: int
    ident: int


def parse(value: bytes) -> list[Entry]:
    """Raises EINVAL unless it is a complete list: owner, group and others once, a mask if it names anyone else."""
    if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
        raise FsError(errno.EINVAL, "an access control list of odd length")
    if _HEADER.unpack_from(value) != (_VERSION,):
        raise FsError(errno.EOPNOTSUPP, "an access control list of another version")
    entries = [Entry(*fields) for fields in _ENTRY.iter_unpack(value[_HEADER.size :])]
    tags = [entry.tag for entry in entries]
    once = all(tags.count(tag) == 1 for tag in (_USER_OBJ, _GROUP_OBJ, _OTHER)) and tags.count(_MASK) <= 1
    masked = _MASK in tags or not {_USER, _GROUP} & set(tags)
    if not (once and masked and set(tags) <= _TAGS and all(entry.perm <= 7 for entry in entries)):
        raise FsError(errno.EINVAL, "not a valid access control list")
    return entries


def build(entries: Iterable[Entry]) -> bytes:
    """The opposite of `parse`."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(e.tag, e.perm, e.ident) for e in entries)


def mode_of(entries: list[Entry], mode: int) -> int:
    """`mode` with the nine permission bits that the list means; the group's are the mask where there is one."""
    bits = {entry.tag: entry.perm for entry in entries}
    group = bits.get(_MASK, bits[_GROUP_OBJ])
    return mode & ~0o777 | bits[_USER_OBJ] << 6 | group << 3 | bits[_OTHER]


def with_mode(entries: list[Entry], mode: int, *, mask: bool = False) -> list[Entry]:
    """The list with the permissions of `mode`; with `mask`, those that both allow."""
    group_tag = _MASK if any(entry.tag == _MASK for entry in entries) else _GROUP_OBJ
    wanted = {_USER_OBJ: mode >> 6 & 7, group_tag: mode >> 3 & 7, _OTHER: mode & 7}
    return [
        replace(entry, perm=wanted[entry.tag] & (entry.perm if mask else 7)) if entry.tag in wanted else entry
        for entry in entries
    ]


def says_more_than_mode(entries: list[Entry]) -> bool:
    """Whether the list must be kept, because mode bits can't say it."""
    return len(entries) > 3


def follow_chmod(names: Names, inode: Inode, mode: int) -> None:
    """Inside a change: chmod changes the access list too."""
    if not inode.flags & HAS_XATTRS:
        return
    value = names.get_xattr(inode.ino, ACCESS)
    if value is not None:
        names.set_xattr(inode.ino, ACCESS, build(with_mode(parse(value), mode)))


def to_be_inherited(names: Names, parent: int, mode: int) -> int:
    """Bytes of metadata that `inherit` will add to something new of this mode; to be admitted like an attribute that is
    set: a list of 64 KiB, inherited a thousand times a second, filled drives before the next look at their room."""
    directory = names.inode(parent)
    if directory is None or not directory.flags & HAS_XATTRS:
        return 0
    default = names.get_xattr(parent, DEFAULT)
    return 0 if default is None else len(default) * (2 if stat.S_ISDIR(mode) else 1)


def inherit(names: Names, directory: Inode, inode: Inode) -> Inode:
    """Inside a change: give something new what its directory's default list says. The inode as it is then.

    The mode came masked by the umask, which a default list should replace: so this may give less than the list would,
    never more than the program asked for (docs/LIMITS.md).
    """
    if not directory.flags & HAS_XATTRS or stat.S_ISLNK(inode.mode):
        return inode
    default = names.get_xattr(directory.ino, DEFAULT)
    if default is None:
        return inode
    entries = with_mode(parse(default), inode.mode, mask=True)
    attributes = {ACCESS: build(entries)} if says_more_than_mode(entries) else {}
    if stat.S_ISDIR(inode.mode):
        attributes[DEFAULT] = default
    for name, value in attributes.items():
        names.set_xattr(inode.ino, name, value)
    flags = inode.flags | HAS_XATTRS if attributes else inode.flags
    made = inode._replace(mode=mode_of(entries, inode.mode), flags=flags)
    names.update_inode(inode.ino, mode=made.mode, flags=made.flags)
    return made
