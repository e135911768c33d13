"""URL → Drive: what a drive's name may look like, and which class is behind it.

gRPC and obstore are imported when the first drive of their kind is opened: they have threads, and daemons fork before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ecfs.clock import Clock
from ecfs.drive.base import Drive
from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.health import HealthDrive
from ecfs.drive.local import LocalDrive
from ecfs.drive.s3_url import S3Url
from ecfs.errors import UsageError
from ecfs.rpc.tls import TlsFiles

SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


@dataclass(frozen=True)
class Access:
    """What is needed besides a URL. pool_id: hex, refused by nodes of other pools; "" while it is not known.

    tls: certificates for nodes; None talks in the clear. shared_directory: see LocalDrive.
    """

    pool_id: str = ""
    tls: TlsFiles | None = None
    shared_directory: bool = False


NO_ACCESS = Access()


def canonical_url(url: str, base: str | None = None) -> str:
    """The one spelling of a drive's URL: an absolute path, or HOST:PORT of a storage node. Raises UsageError.

    base: directory that a relative path is relative to, by default the current one.
    """
    if not url or not url.isprintable():
        raise UsageError(f"not a drive: {url!r} (give a directory such as /mnt/disk1/ecfs, or HOST:PORT of a node)")
    scheme = SCHEME.match(url)
    if scheme:
        return _of_scheme(scheme[1].lower(), url)
    if HOST_PORT.fullmatch(url):
        return _node(url, url)
    return _absolute(os.path.join(base or "", url))


def _of_scheme(scheme: str, url: str) -> str:
    if scheme == "grpc":
        return _node(url, url.partition("://")[2].removesuffix("/"))
    if scheme == "s3":
        return str(S3Url.parse(url))
    if scheme != "file":
        raise UsageError(f"{url}: unknown kind of drive {scheme}:// (give a directory, or HOST:PORT of a node)")
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.startswith("/"):
        raise UsageError(f"{url}: give an absolute path, as in file:///mnt/disk1/ecfs")
    return _absolute(path)


def _node(url: str, address: str) -> str:
    match = HOST_PORT.fullmatch(address)
    if match is None or not 0 < int(match[2]) <= 65535:
        raise UsageError(
            f"{url}: give HOST:PORT of a storage node, such as nas1:9001 (a directory would be ./{address})"
        )
    return f"{match[1].lower()}:{int(match[2])}"


def is_bucket(url: str) -> bool:
    """Whether a canonical URL names a bucket."""
    return url.startswith("s3://")


def is_directory(url: str) -> bool:
    """Whether a canonical URL names a directory of this machine."""
    return url.startswith("/")


def _absolute(path: str) -> str:
    """Without ".." or doubled slashes; POSIX lets two leading ones stand, which would be a second spelling."""
    return "/" + os.path.abspath(path).lstrip("/")


def check_distinct(urls: Sequence[str]) -> None:
    """Raise UsageError if two canonical URLs are the same place, or one lies within another: they would fail as one.

    Symbolic links are followed.
    """
    _check_addresses([url for url in urls if not is_directory(url)])
    seen: dict[str, str] = {}
    for url in filter(is_directory, urls):
        place = os.path.realpath(url)
        for other_place, other in seen.items():
            if place == other_place:
                raise UsageError(f"{url} and {other} are the same drive: every drive needs a place of its own")
            if os.path.commonpath([place, other_place]) in (place, other_place):
                raise UsageError(f"{url} and {other} lie within each other: every drive needs a place of its own")
        seen[place] = url


def _check_addresses(addresses: Sequence[str]) -> None:
    _check_buckets([address for address in addresses if is_bucket(address)])
    seen: dict[str, str] = {}
    for address in addresses:
        place = re.sub(r"^(127\.0\.0\.1|\[::1\]):", "localhost:", address)
        if place in seen:
            raise UsageError(f"{address} and {seen[place]} are the same drive: every drive needs a place of its own")
        seen[place] = address


def _check_buckets(urls: Sequence[str]) -> None:
    for number, url in enumerate(urls):
        for other in urls[:number]:
            one, two = S3Url.parse(url), S3Url.parse(other)
            long, short = sorted((f"{one.prefix}/", f"{two.prefix}/"), key=len, reverse=True)
            if one.place == two.place and (long.startswith(short) or short == "/"):
                raise UsageError(f"{url} and {other} are one place: every drive needs a bucket or prefix of its own")


def open_drive(url: str, *, slot: int | None, clock: Clock, access: Access = NO_ACCESS) -> HealthDrive:
    """The drive that `url` names, not attached yet, with deadline and health. Raises UsageError."""
    return HealthDrive(DeadlineDrive(_bare(canonical_url(url), slot, clock, access)), clock)


def _bare(url: str, slot: int | None, clock: Clock, access: Access) -> Drive:
    if is_directory(url):
        return LocalDrive(url, slot=slot, token=clock.token, shared_directory=access.shared_directory)
    if is_bucket(url):
        return _bucket(url, slot, clock)
    try:
        from ecfs.drive.node import NodeDrive
    except ModuleNotFoundError as error:
        raise UsageError(f"{url}: storage nodes need more libraries: pip install 'ecfs[node]'") from error
    return NodeDrive(url, clock, slot=slot, tls=access.tls, pool_id=access.pool_id)


def _bucket(url: str, slot: int | None, clock: Clock) -> Drive:
    try:
        from ecfs.drive.s3 import s3_drive
    except ModuleNotFoundError as error:
        raise UsageError(f"{url}: buckets need one more library: pip install 'ecfs[s3]'") from error
    return s3_drive(url, clock, slot=slot)
