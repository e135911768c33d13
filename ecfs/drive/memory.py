"""A drive in memory, for tests and the simulator: the whole contract, deterministic, without threads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import trio

from ecfs.drive import fence
from ecfs.drive.base import (
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
from ecfs.drive.memory_store import File, Keep, MemoryStore
from ecfs.drive.shards import check_whole_shard
from ecfs.drive.translate import labelled
from ecfs.errors import (
    DriveFencedError,
    DriveLockedError,
    DriveUnreachableError,
    DriveWrongError,
    ShardCorruptError,
    ShardExistsError,
    ShardMissingError,
)
from ecfs.shard import ShardHeader

Hook = Callable[[str, str], None]
"""Called with (operation, key) before anything happens; the key of a whole-drive operation is "". May raise.

`append`, `write_blob`, `sync` and `fence` call it twice: as "append:flush" and so on when their bytes are written but
not durable, so that a test can crash in between.
"""

DEADLINE_S = 2.0


class MemoryDrive(Drive):
    """One handle on a MemoryStore.

    on_operation: see `Hook`. It runs in the event loop, so that operations are counted and broken in a fixed order.
    """

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        name: str = "memory",
        slot: int | None = None,
        on_operation: Hook | None = None,
    ) -> None:
        self.slot = slot
        self.store = store or MemoryStore()
        self.on_operation = on_operation
        self._name = name
        self._incarnation: int | None = None
        self._exclusive = False
        self._settled = False
        self._writer: Writer | None = None
        self._sealed: set[str] = set()
        self._rooms: set[int] = set()
        self._oldest_put: int | None = None
        """`voids` of the store when the oldest put since the last sync was made."""

    @property
    def url(self) -> str:
        return f"memory:{self._name}"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(DEADLINE_S, self.store.lockable, self.store.request_bytes)

    # ---- for tests --------------------------------------------------------------------------------------------------

    def crash(self, keep: Keep | None = None) -> None:
        self.store.crash(keep)

    def wipe(self) -> None:
        self.store.wipe()

    def vanish(self) -> None:
        self.store.vanish()

    def come_back(self) -> None:
        self.store.come_back()

    def raw(self, key: str) -> bytearray:
        """The bytes of a shard or segment, to be damaged in place."""
        return self.store.raw(check_key(key))

    def raw_blob(self, name: str) -> bytearray:
        return self.store.raw(check_blob_name(name))

    # ---- coming and going -------------------------------------------------------------------------------------------

    async def attach(self, *, exclusive: bool) -> None:
        await self.close()
        await self._begin("attach")
        with labelled(self.slot):
            self._demand_place()
            if exclusive and self.store.lockable:
                if self.store.holder is not None:
                    raise DriveLockedError(f"{self.url} is locked by another handle")
                self.store.holder = self
        self._take(exclusive=exclusive)

    def _take(self, *, exclusive: bool) -> None:
        self._incarnation = self.store.incarnation
        self._exclusive = exclusive
        self._settled = False
        self._rooms = set()

    async def close(self) -> None:
        if self.store.holder is self:
            self.store.holder = None
        self._incarnation = None
        await trio.lowlevel.checkpoint()

    async def is_vacant(self) -> bool:
        await self._begin("is_vacant")
        with labelled(self.slot):
            self._demand_reachable()
        return not self.store.names

    async def create(self, blobs: Mapping[str, bytes], *, filesystem: str = "") -> None:
        blobs = check_blobs(blobs)
        await self.close()
        await self._begin("create")
        with labelled(self.slot):
            self._demand_reachable()
            if self.store.names:
                raise DriveWrongError("is not empty: a new drive needs an empty place")
            if filesystem and self.store.location and self.store.location.filesystem != filesystem:
                raise DriveWrongError(f"lies on {self.store.location.filesystem}, not on {filesystem}")
            self.store.demand(sum(map(len, blobs.values())))
        self.store.clear()
        self.store.exists = True
        for name, data in blobs.items():
            self.store.harden(self.store.replace(name, data))
        self.store.holder = self if self.store.lockable else None
        self._take(exclusive=True)
        self._writer = None  # the new drive is promised to nobody
        self._settled = True

    async def location(self) -> Location | None:
        await self._begin("location")
        return self.store.location

    async def alive(self) -> None:
        await self._begin("alive")
        with self._attached():
            if "identity" not in self.store.names:
                raise DriveUnreachableError("has no identity any more")
            if not self._rooms <= self.store.epochs:
                raise DriveUnreachableError("an epoch's directory was deleted")

    async def space(self) -> Space:
        await self._begin("space")
        with self._attached():
            return Space(self.store.capacity, max(0, self.store.capacity - self.store.used), self.store.device)

    # ---- who may write ----------------------------------------------------------------------------------------------

    async def read_fence(self) -> Writer:
        await self._begin("read_fence")
        with self._attached():
            return self.store.fence

    async def fence(self, writer: Writer) -> None:
        fence.check_writer(writer)
        await self._begin("fence")
        with self._attached(exclusive=True):
            fence.judge(self.store.fence, writer)
            self.store.fence = writer
        if not self._settled:
            await self._settle()
        self._writer = writer

    async def _settle(self) -> None:
        """Once for each attachment: what others have left behind."""
        try:
            await self._begin("fence:flush")
            with self._attached(exclusive=True):
                self.store.harden_all()
        except BaseException:
            self.void_puts()
            raise
        self._settled = True

    # ---- blobs ------------------------------------------------------------------------------------------------------

    async def read_blob(self, name: str) -> bytes:
        check_blob_name(name)
        await self._begin("read_blob", name)
        with self._attached(name):
            return bytes(self._file(name).data)

    async def write_blob(self, name: str, data: bytes) -> None:
        check_blob_name(name)
        await self._begin("write_blob", name)
        with self._changing(name):
            changes = self.store.replace(name, data)
        await self._begin("write_blob:flush", name)
        with self._attached(name):
            self.store.harden(changes)

    # ---- shards -----------------------------------------------------------------------------------------------------

    async def prepare(self, epochs: Sequence[int]) -> None:
        await self._begin("prepare")
        with self._changing():
            self.store.epochs.update(epochs)
            self._rooms.update(epochs)

    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        check_key(key)
        voids = self.store.voids
        await self._begin("put", key)
        with self._changing(key):
            if voids != self.store.voids:
                raise DriveUnreachableError("a sync failed while this was written, so that it does not count")
            self._demand_directory(key)
            if not replace and key in self.store.names:
                raise ShardExistsError("the name is taken")
            (self.store.replace if replace else self.store.write)(key, b"".join(buffers))
            if self._oldest_put is None:
                self._oldest_put = voids

    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        check_key(key)
        await self._begin("read", key)
        with self._attached(key):
            file = self._file(key)
            return [_read_range(file, offset, length) for offset, length in ranges]

    async def verify(self, key: str) -> ShardHeader:
        check_key(key)
        await self._begin("verify", key)
        with self._attached(key):
            return check_whole_shard(key, self._file(key).data)

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._begin("delete", key)
        with self._changing(key):
            self.store.remove(key)

    async def list(self, prefix: str) -> AsyncGenerator[Entry, None]:
        check_prefix(prefix)
        await self._begin("list", prefix)
        with self._attached(prefix):
            keys = [key for key in self.store.names if key.startswith(prefix)]
        for key in keys:
            await self._begin("list", key)
            with self._attached(key):
                file = self.store.names.get(key)
            if file is not None:
                yield Entry(key, len(file.data))

    async def sync(self) -> None:
        try:
            await self._begin("sync")
            with self._changing():
                self._demand_nothing_void()
                changes, self._oldest_put = self.store.awaiting_sync(), None
            await self._begin("sync:flush")
            with self._attached():
                self.store.harden(changes)
        except DriveFencedError:
            raise  # refused: it is not its sync any more
        except BaseException:
            self.void_puts()
            raise

    def void_puts(self) -> None:
        """What a sync that failed or was broken off leaves behind; whoever asked for it has heard of it."""
        self.store.void()
        self._oldest_put = None

    def _demand_nothing_void(self) -> None:
        """As on a node, whose clients share one drive: what failed for one of them is gone for all."""
        if self._oldest_put not in (None, self.store.voids):
            raise DriveUnreachableError("a sync has failed since the oldest of these puts, so that they don't count")

    # ---- journal ----------------------------------------------------------------------------------------------------

    async def append(self, segment: str, offset: int, record: Buffer) -> None:
        check_segment(segment)
        try:
            await self._begin("append", segment)
            with self._changing(segment):
                self._demand_end(segment, offset)
                write = self.store.extend if offset else self.store.write
                changes = write(segment, bytes(record))
            await self._begin("append:flush", segment)
            with self._attached(segment):
                self.store.harden(changes)
        except BaseException:
            self._sealed.add(segment)
            raise

    def _demand_end(self, segment: str, offset: int) -> None:
        if segment in self._sealed:
            raise DriveUnreachableError("an earlier append to this segment failed: go on in a new one")
        file = self.store.names.get(segment)
        if offset == 0 and file is not None:
            raise ShardExistsError("the name is taken")
        size = 0 if file is None else len(file.data)
        if size != offset:
            raise DriveUnreachableError(f"the segment has {size} bytes where {offset} were written")

    # ---- what every operation begins with ---------------------------------------------------------------------------

    async def _begin(self, operation: str, key: str = "") -> None:
        if self.on_operation is not None:
            with labelled(self.slot, key or None):
                self.on_operation(operation, key)
        await trio.lowlevel.checkpoint()

    @contextmanager
    def _attached(self, key: str | None = None, *, exclusive: bool = False) -> Iterator[None]:
        with labelled(self.slot, key):
            self._demand_reachable()
            if self._incarnation is None:
                raise DriveUnreachableError("not attached")
            if self._incarnation != self.store.incarnation:
                raise DriveUnreachableError("what was attached has been deleted or exchanged")
            if exclusive and not self._exclusive:
                raise DriveLockedError("attached for reading only")
            yield

    @contextmanager
    def _changing(self, key: str | None = None) -> Iterator[None]:
        with self._attached(key, exclusive=True):
            fence.judge_write(self.store.fence, self._writer)
            yield

    def _demand_reachable(self) -> None:
        if not self.store.reachable:
            raise DriveUnreachableError("unplugged")

    def _demand_place(self) -> None:
        self._demand_reachable()
        if not self.store.exists:
            raise DriveUnreachableError(f"there is nothing at {self.url}")

    def _demand_directory(self, key: str) -> None:
        if key.startswith("s/") and int(key[2:10], 16) not in self.store.epochs:
            raise DriveUnreachableError("the epoch's directory is not there")

    def _file(self, key: str) -> File:
        try:
            return self.store.names[key]
        except KeyError as error:
            raise ShardMissingError("there is no such file on this drive") from error


def _read_range(file: File, offset: int, length: int) -> bytes:
    size = len(file.data)
    if length < 0:
        length = size - offset
    if length < 0 or offset + length > size:
        raise ShardCorruptError(f"the file ends at {size}, {length} bytes at {offset} were asked for")
    return bytes(file.data[offset : offset + length])
