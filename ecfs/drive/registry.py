"""URL → Drive: what a drive's name may look like, and which class is behind it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from ecfs.clock import Clock
from ecfs.drive.base import Drive
from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.health import HealthDrive
from ecfs.drive.local import LocalDrive
from ecfs.errors import UsageError

SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


def canonical_url(url: str, base: str | None = None) -> str:
    """The one spelling of a drive's URL: an absolute path, for now. Raises UsageError.

    base: directory that a relative path is relative to, by default the current one.
    """
    if not url or not url.isprintable():
        raise UsageError(f"not a drive: {url!r} (give a directory such as /mnt/disk1/ecfs)")
    scheme = SCHEME.match(url)
    if scheme:
        return _of_scheme(scheme[1].lower(), url)
    if HOST_PORT.fullmatch(url):
        raise UsageError(f"{url}: storage nodes are not built into this version (for a directory write ./{url})")
    return _absolute(os.path.join(base or os.getcwd(), url))


def _of_scheme(scheme: str, url: str) -> str:
    if scheme == "grpc":
        raise UsageError(f"{url}: storage nodes are not built into this version")
    if scheme == "s3":
        raise UsageError(f"{url}: S3 buckets are not built into this version")
    if scheme != "file":
        raise UsageError(f"{url}: unknown kind of drive {scheme}:// (give a directory)")
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.startswith("/"):
        raise UsageError(f"{url}: give an absolute path, as in file:///mnt/disk1/ecfs")
    return _absolute(path)


def _absolute(path: str) -> str:
    """Without ".." or doubled slashes; POSIX lets two leading ones stand, which would be a second spelling."""
    return "/" + os.path.abspath(path).lstrip("/")


def check_distinct(urls: Sequence[str]) -> None:
    """Raise UsageError if two canonical URLs are the same place, or one lies within another: they would fail as one.

    Symbolic links are followed.
    """
    seen: dict[str, str] = {}
    for url in urls:
        place = os.path.realpath(url)
        for other_place, other in seen.items():
            if place == other_place:
                raise UsageError(f"{url} and {other} are the same drive: every drive needs a place of its own")
            if os.path.commonpath([place, other_place]) in (place, other_place):
                raise UsageError(f"{url} and {other} lie within each other: every drive needs a place of its own")
        seen[place] = url


def open_drive(url: str, *, slot: int | None, clock: Clock, shared_directory: bool = False) -> HealthDrive:
    """The drive that `url` names, not attached yet, with deadline and health. Raises UsageError."""
    drive: Drive = LocalDrive(canonical_url(url), slot=slot, token=clock.token, shared_directory=shared_directory)
    return HealthDrive(DeadlineDrive(drive), clock)
