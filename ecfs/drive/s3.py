"""S3 through obstore, which lets go of the interpreter lock while it waits. The only importer of obstore.

Credentials come from where S3 programs take them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import S3Store

from ecfs.clock import Clock, span
from ecfs.drive.bucket import BucketDrive
from ecfs.drive.objects import Listed
from ecfs.drive.s3_url import S3Url

LIST_CHUNK = 1000
TIMEOUT = "20s"
RETRY: Any = {"max_retries": 5, "retry_timeout": span(20)}
"""By default the library goes on for three minutes, and for as long a drive that was given up could not come back."""


@dataclass(frozen=True)
class Bucket:
    """`Objects` in an obstore store."""

    store: Any

    def create(self, name: str, data: bytes) -> str:
        with _translated():
            return str(obstore.put(self.store, name, data, mode="create")["e_tag"])

    def write(self, name: str, data: bytes) -> str:
        with _translated():
            return str(obstore.put(self.store, name, data)["e_tag"])

    def read(self, name: str) -> bytes:
        with _translated():
            return bytes(obstore.get(self.store, name).bytes())

    def ranges(self, name: str, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        size = None
        found = []
        for offset, length in wanted:
            try:
                with _translated():
                    data = bytes(obstore.get_range(self.store, name, start=offset, length=length)) if length else b""
            except FileNotFoundError:
                raise
            except OSError:
                size = self.size(name) if size is None else size
                if offset < size:
                    raise
                data = b""  # beyond the end: stores answer that with an error
            found.append(data)
        return found

    def size(self, name: str) -> int:
        with _translated():
            return int(obstore.head(self.store, name)["size"])

    def delete(self, name: str) -> None:
        with _translated():
            try:
                obstore.delete(self.store, name)
            except (NotFoundError, FileNotFoundError):
                return

    def list(self, prefix: str, after: str | None = None) -> Iterator[list[Listed]]:
        with _translated():
            for chunk in obstore.list(self.store, prefix or None, offset=after, chunk_size=LIST_CHUNK):
                yield [Listed(str(meta["path"]), int(meta["size"]), str(meta["e_tag"])) for meta in chunk]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise FileNotFoundError(errno.ENOENT, "no such object") from error
    except (AlreadyExistsError, PreconditionError) as error:
        raise FileExistsError(errno.EEXIST, "the name is taken") from error
    except BaseError as error:
        text = " ".join(str(error).partition("Debug source")[0].split())
        # Of what a store does not know (501) the library makes no exception of its own.
        number = errno.EOPNOTSUPP if " 501 Not Implemented" in text else errno.EIO
        raise OSError(number, text[:300]) from error


def s3_drive(url: str, clock: Clock, *, slot: int | None = None) -> BucketDrive:
    """A drive in a bucket. url: canonical."""
    parsed = S3Url.parse(url)
    return BucketDrive(url, lambda: Bucket(_store(parsed)), clock, slot=slot)


def _store(url: S3Url) -> S3Store:
    options: dict[str, Any] = {"conditional_put": "etag"}
    if url.endpoint:
        options["endpoint"] = url.endpoint
    if url.region or url.endpoint:
        options["region"] = url.region or "us-east-1"
    client: Any = {"timeout": TIMEOUT, "connect_timeout": "3s", "allow_http": url.endpoint.startswith("http://")}
    return S3Store(url.bucket, prefix=url.prefix or None, client_options=client, retry_config=RETRY, **options)
