"""An object store as a drive. Objects under one prefix: ``s/…``, ``c/…``, the blobs, and ``log/…`` (`objects.py`).

A put is durable when it is answered, so that a sync only looks whether the drive is still ours. Every change costs one
more request, a listing of the log from its last known object: it shows at once who else has written, and whether the
place was emptied. Shards are verified by fetching them: a store can't look at its own.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import trio

from ecfs.clock import Clock
from ecfs.drive import fence
from ecfs.drive.base import (
    BLOB_NAMES,
    Buffer,
    Capabilities,
    Drive,
    Entry,
    Location,
    Space,
    Writer,
    check_blob_name,
    check_blobs,
    check_key,
    check_prefix,
    check_segment,
)
from ecfs.drive.local_threads import Threads
from ecfs.drive.objects import Listed, Log, Objects
from ecfs.drive.shards import check_whole_shard
from ecfs.drive.translate import labelled
from ecfs.errors import (
    DriveError,
    DriveLockedError,
    DriveUnreachableError,
    DriveWrongError,
    ShardCorruptError,
    ShardMissingError,
)
from ecfs.shard import ShardHeader

T = TypeVar("T")

DEADLINE_S = 10.0
THREADS = 16
UNLIMITED = 1 << 50
"""Bytes of room that a store is believed to have; it says nothing about that."""
SMALLEST_RATE = 1 << 20
"""Bytes per second that the way there carries at least."""
REQUEST_BYTES = 256 << 10
"""A small request takes 30 ms in a cloud, in which others are under way. With the usual limit of a journal a checkpoint
is due every 256 commits, so that at most 512 records are read at opening."""
IDENTITY = "identity"
TEST = "test/"


class BucketDrive(Drive):
    """objects: makes the store when it is first needed. url: canonical, for messages and the drive table."""

    def __init__(self, url: str, objects: Callable[[], Objects], clock: Clock, *, slot: int | None = None) -> None:
        self.slot = slot
        self._url = url
        self._make = objects
        self._clock = clock
        self._threads = Threads(THREADS)
        self._objects: Objects | None = None
        self._log: Log | None = None
        self._exclusive = False
        self._writer: Writer | None = None
        self._prepared: set[str] = set()
        self._sealed: set[str] = set()

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(DEADLINE_S, lockable=False, request_bytes=REQUEST_BYTES, bytes_per_s=SMALLEST_RATE)

    @property
    def abandoned(self) -> int:
        return self._threads.abandoned

    # ---- coming and going -------------------------------------------------------------------------------------------

    async def attach(self, *, exclusive: bool) -> None:
        await self.close()
        log = await self._at_place(self._open_exclusive if exclusive else self._open)
        self._take(log, exclusive=exclusive)

    def _open(self) -> Log:
        log = Log(self._store, self._token)
        log.open()
        return log

    def _open_exclusive(self) -> Log:
        log = self._open()
        self._demand_conditional()
        return log

    def _demand_conditional(self) -> None:
        """R24: a store that creates a name twice can't keep two writers apart: it is not used at all."""
        if not self._creates_once(f"{TEST}{self._token()}"):
            raise DriveWrongError("the store has no conditional create (If-None-Match), without which it is unsafe")

    def _creates_once(self, name: str) -> bool:
        try:
            self._store.create(name, b"1")
            self._store.create(name, b"2")
            return False
        except FileExistsError:
            return True
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return False
            raise
        finally:
            self._store.delete(name)

    def _take(self, log: Log, *, exclusive: bool) -> None:
        self._log, self._exclusive, self._prepared = log, exclusive, set()

    async def close(self) -> None:
        self._log = None
        await trio.lowlevel.checkpoint()

    async def is_vacant(self) -> bool:
        return await self._at_place(self._may_be_made)

    def _may_be_made(self) -> bool:
        """A place where `create` would be refused says so here, before the other drives of a pool are made."""
        if not self._look_vacant():
            return False
        self._demand_conditional()
        return True

    def _look_vacant(self) -> bool:
        """Nothing but what a creation that crashed has left."""
        found = [listed.name for listed in next(iter(self._store.list("")), [])]
        leftovers = BLOB_NAMES - {IDENTITY} | {f"log/{0:016x}"}
        return all(name in leftovers or name.startswith(TEST) for name in found)

    async def create(self, blobs: Mapping[str, bytes], *, filesystem: str = "") -> None:
        blobs = check_blobs(blobs)
        await self.close()
        self._take(await self._at_place(lambda: self._build(blobs)), exclusive=True)
        self._writer = None  # the new drive is promised to nobody

    def _build(self, blobs: Mapping[str, bytes]) -> Log:
        if not self._may_be_made():
            raise DriveWrongError(f"{self._url} is not empty: a new drive needs an empty bucket or prefix")
        self._store.delete(f"log/{0:016x}")
        log = Log(self._store, self._token)
        log.begin()
        for name in sorted(blobs, key=lambda name: name == IDENTITY):
            self._store.write(name, bytes(blobs[name]))  # the identity comes last: with it the drive is complete
        return log

    async def location(self) -> Location | None:
        return None

    async def alive(self) -> None:
        await self._run(self._check_alive)

    def _check_alive(self, log: Log) -> None:
        log.promised()
        if not self._has(IDENTITY):
            raise DriveUnreachableError("has no identity any more: it was emptied or partly deleted")

    async def space(self) -> Space:
        await self._run(lambda log: None)
        return Space(UNLIMITED, UNLIMITED, self._url)

    # ---- who may write ----------------------------------------------------------------------------------------------

    async def read_fence(self) -> Writer:
        return await self._run(Log.promised)

    async def fence(self, writer: Writer) -> None:
        fence.check_writer(writer)
        await self._run(lambda log: log.promise(writer), exclusive=True)
        self._writer = writer

    # ---- blobs ------------------------------------------------------------------------------------------------------

    async def read_blob(self, name: str) -> bytes:
        check_blob_name(name)
        return await self._run(lambda log: self._store.read(name), key=name)

    async def write_blob(self, name: str, data: bytes) -> None:
        check_blob_name(name)
        await self._change(lambda log: self._store.write(name, bytes(data)), key=name)

    # ---- shards -----------------------------------------------------------------------------------------------------

    async def prepare(self, epochs: Sequence[int]) -> None:
        await self._change(lambda log: None)
        self._prepared.update(f"s/{epoch:08x}/" for epoch in epochs)

    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        check_key(key)
        if key.startswith("s/") and key[:11] not in self._prepared:
            self._attached(exclusive=True)
            raise DriveUnreachableError("the epoch was not prepared", slot=self.slot, key=key)
        data = b"".join(buffers)
        await self._change(lambda log: self._put(key, data, replace=replace), key=key)

    def _put(self, key: str, data: bytes, *, replace: bool) -> None:
        if replace:
            self._store.write(key, data)
            if self._store.read(key) != data:
                raise ShardCorruptError(f"{key} does not read back as it was written")
            return
        try:
            self._store.create(key, data)
        except FileExistsError:
            # An answer may have been lost and the request sent again; then it is ours.
            if self._store.size(key) != len(data) or self._store.read(key) != data:
                raise

    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        check_key(key)
        if key.startswith("j/"):
            return await self._run(lambda log: log.read(key, ranges), key=key)
        return await self._run(lambda log: self._read(key, ranges), key=key)

    def _read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        if any(length < 0 for _, length in ranges):
            return _cut(self._store.read(key), ranges)
        found = self._store.ranges(key, ranges)
        if any(len(data) != length for data, (_, length) in zip(found, ranges, strict=True)):
            raise ShardCorruptError("the object ends before what was asked for, or the store answers more")
        return found

    async def verify(self, key: str) -> ShardHeader:
        check_key(key)
        return await self._run(lambda log: check_whole_shard(key, self._store.read(key)), key=key)

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._change(lambda log: log.delete(key) if key.startswith("j/") else self._store.delete(key), key=key)

    async def list(self, prefix: str) -> AsyncGenerator[Entry, None]:
        check_prefix(prefix)
        if prefix == "j/":
            for name, size in (await self._run(Log.segments, key=prefix)).items():
                yield Entry(name, size)
            return
        chunks = await self._run(lambda log: self._store.list(prefix), key=prefix)
        while chunk := await self._run(lambda log: _next(chunks), key=prefix):
            for listed in chunk:
                yield Entry(listed.name, listed.size)

    async def sync(self) -> None:
        await self._change(lambda log: None)

    # ---- journal ----------------------------------------------------------------------------------------------------

    async def append(self, segment: str, offset: int, record: Buffer) -> None:
        check_segment(segment)
        self._attached(exclusive=True)
        with labelled(self.slot, segment):
            if segment in self._sealed:
                raise DriveUnreachableError("an earlier append to this segment failed: go on in a new one")
            data, writer = bytes(record), self._writer
            try:
                await self._run(lambda log: log.append(segment, offset, data, writer), key=segment, exclusive=True)
            except BaseException:
                self._sealed.add(segment)
                raise

    # ---- how calls get to the store ---------------------------------------------------------------------------------

    @property
    def _store(self) -> Objects:
        if self._objects is None:
            self._objects = self._make()
        return self._objects

    def _token(self) -> str:
        return self._clock.token(16).hex()

    def _has(self, name: str) -> bool:
        try:
            self._store.size(name)
        except FileNotFoundError:
            return False
        return True

    def _attached(self, *, exclusive: bool = False) -> Log:
        if self._log is None:
            raise DriveUnreachableError("not attached", slot=self.slot)
        if exclusive and not self._exclusive:
            raise DriveLockedError("attached for reading only", slot=self.slot)
        return self._log

    async def _at_place(self, work: Callable[[], T]) -> T:
        def call() -> T:
            with labelled(self.slot, missing=DriveUnreachableError):
                return work()

        return await self._threads.run(call)

    async def _run(
        self,
        work: Callable[[Log], T],
        *,
        key: str | None = None,
        missing: type[DriveError] = ShardMissingError,
        exclusive: bool = False,
    ) -> T:
        log = self._attached(exclusive=exclusive)

        def call() -> T:
            with labelled(self.slot, key, missing):
                try:
                    return work(log)
                except FileNotFoundError:
                    if key != IDENTITY:
                        self._check_alive(log)  # where the drive itself is gone, say that instead
                    raise

        return await self._threads.run(call)

    async def _change(self, work: Callable[[Log], T], *, key: str | None = None) -> None:
        writer = self._writer

        def guarded(log: Log) -> None:
            log.check(writer)
            work(log)

        await self._run(guarded, key=key, missing=DriveUnreachableError, exclusive=True)


def _cut(data: bytes, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    pieces = []
    for offset, length in ranges:
        end = len(data) if length < 0 else offset + length
        if offset > end or end > len(data):
            raise ShardCorruptError(f"it ends at {len(data)}, {length} bytes at {offset} were asked for")
        pieces.append(data[offset:end])
    return pieces


def _next(chunks: Iterator[list[Listed]]) -> list[Listed]:
    return next(chunks, [])
