"""Test chunks for `ecfs probe`: stored, checked, fetched and removed on the node's disk, beside a drive or without.

They lie under temporary names that the drive's own clean-up knows, so that a crash leaves nothing for good.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import trio

from ecfs.clock import Clock
from ecfs.drive.base import Buffer
from ecfs.drive.held import create_file, open_directory, read_exactly, sync_directory, write_all
from ecfs.drive.translate import labelled
from ecfs.errors import DriveFullError, DriveUnreachableError, ShardMissingError, UsageError
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.limits import MIB
from ecfs.shard import crc32

T = TypeVar("T")

MAX_CHUNK = 4 * MIB
MAX_CHUNKS = 8
"""Test chunks at a time, of all clients."""
MAX_AGE_S = 60.0
_NAME = re.compile(r"\.tmp-[0-9a-f]{16}")


class TestChunks:
    """The chunks that are there, with the moment each was stored. Only names that are known here can be asked for."""

    __test__ = False  # not pytest's

    def __init__(self, directory: str, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._chunks: dict[str, float] = {}

    async def store(self, request: pb.StoreRequest, buffers: Sequence[Buffer]) -> pb.StoreReply:
        """Durable on return. A directory that does not exist is not made."""
        if request.length > MAX_CHUNK:
            raise UsageError(f"a test chunk has {MAX_CHUNK} bytes at most")
        if len(self._chunks) >= MAX_CHUNKS:
            raise DriveFullError(f"{MAX_CHUNKS} test chunks are there already: try again in a minute")
        name = f".tmp-{self._clock.token(8).hex()}"
        self._chunks[name] = trio.current_time()
        try:
            await _in_thread(partial(_store, self._directory, name, buffers))
        except BaseException:
            self._forget(name)
            raise
        return pb.StoreReply(name=name)

    def memory_for(self, request: pb.CheckRequest | pb.FetchRequest) -> int:
        """Bytes that a call has in memory at most."""
        return MAX_CHUNK

    async def check(self, request: pb.CheckRequest) -> pb.CheckReply:
        return pb.CheckReply(crc32=crc32(await self._read(request.name)))

    async def fetch(self, request: pb.FetchRequest) -> tuple[pb.FetchReply, list[bytes]]:
        return pb.FetchReply(), [await self._read(request.name)]

    async def remove(self, request: pb.RemoveRequest) -> pb.RemoveReply:
        self._demand(request.name)
        self._forget(request.name)
        return pb.RemoveReply()

    async def tidy(self, every_s: float) -> None:
        """Remove what clients have forgotten; for ever."""
        while True:
            await trio.sleep(every_s)
            for name, since in list(self._chunks.items()):
                if trio.current_time() - since > MAX_AGE_S:
                    self._forget(name)

    def remove_all(self) -> None:
        for name in list(self._chunks):
            self._forget(name)

    async def _read(self, name: str) -> bytes:
        self._demand(name)
        return await _in_thread(partial(_read, self._directory, name))

    def _demand(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"not a test chunk: {name!r}")
        if name not in self._chunks:
            raise ShardMissingError("there is no such test chunk (any more)")

    def _forget(self, name: str) -> None:
        self._chunks.pop(name, None)
        try:
            os.unlink(os.path.join(self._directory, name))
        except OSError:
            return


async def _in_thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


def _store(directory: str, name: str, buffers: Sequence[Buffer]) -> None:
    with labelled(None, missing=DriveUnreachableError):
        if not os.path.isdir(directory):
            raise DriveUnreachableError(f"the node answers, but its directory {directory} is not there (yet)")
        root = open_directory(directory)
        try:
            descriptor = create_file(name, root)
            try:
                write_all(descriptor, buffers)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_directory(".", root)
        finally:
            os.close(root)


def _read(directory: str, name: str) -> bytes:
    with labelled(None):
        root = open_directory(directory)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                return read_exactly(descriptor, 0, MAX_CHUNK)
            finally:
                os.close(descriptor)
        finally:
            os.close(root)
