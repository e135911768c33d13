"""Turning a vacant place into a local drive, so that a crash leaves it vacant or complete (R22).

Where nothing lies yet, or an empty directory, the drive is built beside it as ``NAME.joining-<hex>``, synced, and
renamed: the rename is the one moment at which the drive exists. What a crash leaves beside it is removed by the next
create of the same place, unless another process is still building it (it holds the lock).

A mount point can't be renamed over, and a directory with lost+found or dotfiles should keep them. There the drive is
built in place, between two marks: an empty directory ``.joining-<hex>`` is made first and removed last, and the
identity is written after everything else. A crash before the identity leaves the mark and nothing of value, which
counts as vacant (`is_vacant` also demands that s, c and j are empty); a crash after it leaves a complete drive, from
which the next exclusive attach removes the mark.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from ecfs.drive.base import BLOB_NAMES
from ecfs.drive.held import (
    MODE_DIRECTORY,
    create_file,
    held_descriptor,
    make_directory,
    open_directory,
    sync_directory,
    write_all,
)
from ecfs.drive.local_listing import LAYOUT, is_scenery
from ecfs.drive.local_lock import NOTE, sign, take_lock
from ecfs.drive.local_root import JOINING, Root, Token
from ecfs.drive.location import filesystem_of
from ecfs.errors import DriveError, DriveLockedError, DriveUnreachableError, DriveWrongError

IDENTITY = "identity"
UNFINISHED = (BLOB_NAMES - {IDENTITY}) | {*LAYOUT, NOTE}
"""What a crashed build in place may have left; anything more and the place is not vacant."""

CANT_RENAME = frozenset({errno.EBUSY, errno.ENOTEMPTY, errno.EEXIST, errno.EXDEV})
NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def is_vacant(path: str) -> bool:
    """See `Drive.is_vacant`."""
    try:
        directory = open_directory(path)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    try:
        return _is_vacant(directory)
    finally:
        os.close(directory)


def _is_vacant(directory: int) -> bool:
    with os.scandir(directory) as scan:
        names = {entry.name for entry in islice(scan, 1000)}
    things = {name for name in names if not is_scenery(name)}
    if not things:
        return True
    marked = any(JOINING.fullmatch(name) for name in names)
    return marked and things <= UNFINISHED and not any(_has_entries(name, directory) for name in things & set(LAYOUT))


def _has_entries(name: str, root: int) -> bool:
    directory = open_directory(name, root)
    try:
        with os.scandir(directory) as scan:
            return next(scan, None) is not None
    finally:
        os.close(directory)


@dataclass(frozen=True)
class Demands:
    """lock: must the directory be locked? filesystem: where it must lie, "" for anywhere (see `Drive.create`)."""

    lock: bool
    filesystem: str = ""

    def check(self, descriptor: int, path: str) -> None:
        """Raise DriveWrongError unless the directory that is about to be written to lies where it must."""
        if self.filesystem and (found := filesystem_of(descriptor)) != self.filesystem:
            raise DriveWrongError(f"{path} now lies on {found}, not on {self.filesystem}: mount its disk")


def build(path: str, blobs: Mapping[str, bytes], token: Token, demands: Demands) -> Root:
    """Make the drive and return it open and locked. Raises DriveWrongError if the place is not vacant."""
    target = os.path.realpath(path)
    if not is_vacant(target):
        raise DriveWrongError(f"{path} is not empty: a new drive needs an empty or missing directory")
    if not os.path.isdir(os.path.dirname(target)):
        raise DriveUnreachableError(f"{os.path.dirname(target)} does not exist: make it, or mount what belongs there")
    root = None
    if _can_be_renamed_over(target):
        root = _build_beside(path, target, blobs, token, demands)
    if root is None:
        root = _build_in_place(path, blobs, token, demands)
    return root


def _can_be_renamed_over(target: str) -> bool:
    """Missing, or empty to the last dotfile and not a mount point."""
    if not os.path.isdir(target):
        return True
    return not os.listdir(target) and os.stat(target).st_dev == os.stat(os.path.dirname(target)).st_dev


# ---- beside the place, then renamed ---------------------------------------------------------------------------------


def _build_beside(path: str, target: str, blobs: Mapping[str, bytes], token: Token, demands: Demands) -> Root | None:
    """None if the place exists and can only be built in."""
    parent = open_directory(os.path.dirname(target))
    name = os.path.basename(target)
    building = f"{name}.joining-{token(8).hex()}"
    try:
        demands.check(parent, path)
        _remove_stale(name, parent)
        make_directory(building, parent)
        root = Root(path, held_descriptor(open_directory(building, parent)), token)
        try:
            _fill(root, blobs, demands)
            os.rename(building, name, src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)
            root.check()
            sign(root)
            return root
        except BaseException:
            root.directory.close()
            raise
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True, dir_fd=parent)
        if error.errno in CANT_RENAME | NOT_ALLOWED and os.path.isdir(target):
            return None
        raise
    except DriveError:
        shutil.rmtree(building, ignore_errors=True, dir_fd=parent)
        raise
    finally:
        os.close(parent)


def _fill(root: Root, blobs: Mapping[str, bytes], demands: Demands) -> None:
    """Layout and blobs of a directory that has no name yet: no order matters, all is synced before the rename."""
    take_lock(root, required=demands.lock)
    with root.directory.use() as directory:
        for name in LAYOUT:
            make_directory(name, directory)
            sync_directory(name, directory)
        for name, data in blobs.items():
            descriptor = create_file(name, directory)
            try:
                write_all(descriptor, [data])
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        os.fsync(directory)


def _remove_stale(name: str, parent: int) -> None:
    """Remove what crashed builds of this place left behind; whoever still builds holds the lock of its directory."""
    pattern = re.compile(re.escape(name) + r"\.joining-[0-9a-f]{16}")
    with os.scandir(parent) as scan:
        stale = [entry.name for entry in scan if pattern.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    for found in stale:
        root = Root(found, held_descriptor(open_directory(found, parent)), _no_token)
        try:
            take_lock(root, required=True)
            # While it is locked: whoever has just made it, and not yet locked it, would fill it and give it its name
            # while it is being emptied: the drive would lose what it has just got.
            shutil.rmtree(found, ignore_errors=True, dir_fd=parent)
        except DriveLockedError:
            continue
        finally:
            root.directory.close()


def _no_token(size: int) -> bytes:
    raise NotImplementedError("nothing is written while cleaning up")


# ---- in place -------------------------------------------------------------------------------------------------------


def _build_in_place(path: str, blobs: Mapping[str, bytes], token: Token, demands: Demands) -> Root:
    root = Root.open(path, token)
    try:
        take_lock(root, required=demands.lock)
        with root.directory.use() as directory:
            demands.check(directory, path)
            if not _is_vacant(directory):  # judged again, now that nobody else can build here
                raise DriveWrongError(f"{path} is not empty: a new drive needs an empty or missing directory")
            os.fchmod(directory, MODE_DIRECTORY)
            make_directory(f".joining-{token(8).hex()}", directory)
            os.fsync(directory)
            for name in LAYOUT:
                make_directory(name, directory)
                sync_directory(name, directory)
            for name in sorted(blobs, key=lambda name: name == IDENTITY):
                root.replace_small(name, blobs[name])  # the identity comes last: with it the drive is complete
            root.remove_leftovers()
            os.fsync(directory)
        sign(root)
        return root
    except BaseException:
        root.directory.close()
        raise
