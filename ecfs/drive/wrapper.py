"""What every wrapper of a drive shares: it forwards everything through one method, `around`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeVar

from ecfs.drive.base import Buffer, Capabilities, Drive, Entry, Location, Space, Writer
from ecfs.shard import ShardHeader

T = TypeVar("T")


class DriveWrapper(Drive):
    """A drive with something added to each operation. Subclasses override `around`."""

    def __init__(self, inner: Drive) -> None:
        self.inner = inner

    async def around(self, operation: str, key: str | None, call: Callable[[], Awaitable[T]]) -> T:
        """Do one operation. `operation` is the method's name; a listing calls this once per entry."""
        return await call()

    @property
    def slot(self) -> int | None:
        return self.inner.slot

    @slot.setter
    def slot(self, slot: int | None) -> None:
        self.inner.slot = slot

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @property
    def abandoned(self) -> int:
        return self.inner.abandoned

    def read_latency_p95(self) -> float:
        return self.inner.read_latency_p95()

    async def attach(self, *, exclusive: bool) -> None:
        await self.around("attach", None, lambda: self.inner.attach(exclusive=exclusive))

    async def close(self) -> None:
        await self.around("close", None, self.inner.close)

    async def is_vacant(self) -> bool:
        return await self.around("is_vacant", None, self.inner.is_vacant)

    async def create(self, blobs: Mapping[str, bytes], *, filesystem: str = "") -> None:
        await self.around("create", None, lambda: self.inner.create(blobs, filesystem=filesystem))

    async def location(self) -> Location | None:
        return await self.around("location", None, self.inner.location)

    async def alive(self) -> None:
        await self.around("alive", None, self.inner.alive)

    async def space(self) -> Space:
        return await self.around("space", None, self.inner.space)

    async def strays(self, limit: int = 1000) -> list[str]:
        return await self.around("strays", None, lambda: self.inner.strays(limit))

    async def read_fence(self) -> Writer:
        return await self.around("read_fence", None, self.inner.read_fence)

    async def fence(self, writer: Writer) -> None:
        await self.around("fence", None, lambda: self.inner.fence(writer))

    async def read_blob(self, name: str) -> bytes:
        return await self.around("read_blob", name, lambda: self.inner.read_blob(name))

    async def write_blob(self, name: str, data: bytes) -> None:
        await self.around("write_blob", name, lambda: self.inner.write_blob(name, data))

    async def prepare(self, epochs: Sequence[int]) -> None:
        await self.around("prepare", None, lambda: self.inner.prepare(epochs))

    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        await self.around("put", key, lambda: self.inner.put(key, buffers, replace=replace))

    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        return await self.around("read", key, lambda: self.inner.read(key, ranges))

    async def verify(self, key: str) -> ShardHeader:
        return await self.around("verify", key, lambda: self.inner.verify(key))

    async def delete(self, key: str) -> None:
        await self.around("delete", key, lambda: self.inner.delete(key))

    async def list(self, prefix: str) -> AsyncGenerator[Entry, None]:
        async with aclosing(self.inner.list(prefix)) as entries:
            while (entry := await self.around("list", prefix, lambda: anext(entries, None))) is not None:
                yield entry

    async def sync(self) -> None:
        await self.around("sync", None, self.inner.sync)

    async def append(self, segment: str, offset: int, record: Buffer) -> None:
        await self.around("append", segment, lambda: self.inner.append(segment, offset, record))
