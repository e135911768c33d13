"""A directory as a drive. This module is the event loop's side; what touches the disk runs in the drive's threads.

Everything is done relative to one held descriptor of the directory, so that a directory that appears later at the
same path never gets half of a drive's files. Layout and fence are specified in docs/FORMAT.md.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

import trio

from ecfs.clock import SystemClock
from ecfs.drive import fence, local_create, local_listing, local_shards
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
from ecfs.drive.begun import Begun, Gathering
from ecfs.drive.held import Held
from ecfs.drive.local_lock import sign, take_lock
from ecfs.drive.local_puts import Puts, Putting
from ecfs.drive.local_root import Root, Token
from ecfs.drive.local_segments import Appending, Segments
from ecfs.drive.local_threads import Threads, close_patiently, close_soon
from ecfs.drive.location import is_network, locate
from ecfs.drive.translate import labelled
from ecfs.errors import (
    DriveError,
    DriveLockedError,
    DriveUnreachableError,
    ShardMissingError,
    UsageError,
)
from ecfs.shard import ShardHeader

T = TypeVar("T")

DEADLINE_S = 30.0
"""A disk may have to spin up."""


class LocalDrive(Drive):
    """A directory on this machine.

    path: where; need not exist yet. token: gives random bytes for temporary names, by default the system's.
    shared_directory: the user knows that it lies on a network file system, where no lock or fence protects it (R19).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        slot: int | None = None,
        token: Token | None = None,
        shared_directory: bool = False,
    ) -> None:
        self.slot = slot
        self._path = os.path.abspath(path)
        self._token = token or SystemClock().token
        self._shared = shared_directory
        self._threads = Threads()
        self._root: Root | None = None
        self._exclusive = False
        self._settled = False
        """Nothing here is of another process and not durable: so since `create`, and since the first fence."""
        self._writer: Writer | None = None
        self._puts = Puts()
        self._segments = Segments()
        self._syncing = trio.Lock()
        self._prepared: set[int] = set()
        self._rooms: frozenset[int] = frozenset()
        """Of the prepared epochs those whose directories are made."""

    @property
    def url(self) -> str:
        return self._path

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(deadline_s=DEADLINE_S, lockable=not self._shared)

    @property
    def abandoned(self) -> int:
        return self._threads.abandoned

    # ---- coming and going -------------------------------------------------------------------------------------------

    async def attach(self, *, exclusive: bool) -> None:
        await self.close()
        root = await self._at_place(lambda: self._open(exclusive=exclusive), _let_go)
        self._take(root, exclusive=exclusive)

    def _open(self, *, exclusive: bool) -> Root:
        if exclusive:
            self._refuse_network()
        try:
            root = Root.open(self._path, self._token)
        except FileNotFoundError as error:
            raise DriveUnreachableError(f"there is no directory {self._path}") from error
        try:
            if exclusive:
                self._lock(root)
            return root
        except BaseException:
            root.directory.close()
            raise

    def _lock(self, root: Root) -> None:
        take_lock(root, required=not self._shared)
        root.check()
        if root.has(local_create.IDENTITY):
            # Nothing is written into a place that is no drive: it may be where a disk should be mounted.
            root.remove_leftovers()
            sign(root)

    def _take(self, root: Root, *, exclusive: bool) -> None:
        self._root = root
        self._exclusive = exclusive
        self._settled = False
        self._puts = Puts()
        self._prepared = set()
        self._rooms = frozenset()

    async def close(self) -> None:
        root, self._root = self._root, None
        if root is not None:
            files = [root.directory, *self._puts.void(), *self._segments.close()]
            await close_patiently(files)
        await trio.lowlevel.checkpoint()

    async def is_vacant(self) -> bool:
        return await self._at_place(lambda: local_create.is_vacant(self._path))

    async def create(self, blobs: Mapping[str, bytes], *, filesystem: str = "") -> None:
        blobs = check_blobs(blobs)
        await self.close()
        self._take(await self._at_place(lambda: self._build(blobs, filesystem), _let_go), exclusive=True)
        self._writer = None  # the new drive is promised to nobody
        self._settled = True
        # What was given up may still write, but into the directory that it holds: in this one every name is new. A node
        # keeps its drive while its directory is deleted and made again, and could otherwise never be joined.
        self._segments = Segments()

    def _build(self, blobs: Mapping[str, bytes], filesystem: str) -> Root:
        self._refuse_network()
        demands = local_create.Demands(lock=not self._shared, filesystem=filesystem)
        return local_create.build(self._path, blobs, self._token, demands)

    def _refuse_network(self) -> None:
        if not self._shared and (kind := is_network(self._path)):
            raise UsageError(
                f"{self._path} lies on a network file system ({kind}), where nothing keeps a second host from writing: "
                "serve it from its own host with `ecfs node`, or accept the risk with --shared-directory"
            )

    async def location(self) -> Location | None:
        return await self._at_place(lambda: locate(self._path))

    async def alive(self) -> None:
        rooms = self._rooms
        await self._run(lambda root: _check_alive(root, rooms))

    async def space(self) -> Space:
        return await self._run(_space)

    async def strays(self, limit: int = 1000) -> list[str]:
        return await self._run(lambda root: local_listing.strays(root, limit))

    # ---- who may write ----------------------------------------------------------------------------------------------

    async def read_fence(self) -> Writer:
        return await self._run(Root.promised)

    async def fence(self, writer: Writer) -> None:
        fence.check_writer(writer)
        settled = self._settled
        await self._run(lambda root: _promise(root, writer, settled=settled), exclusive=True)
        self._settled = True
        self._writer = writer

    # ---- blobs ------------------------------------------------------------------------------------------------------

    async def read_blob(self, name: str) -> bytes:
        check_blob_name(name)
        return await self._run(lambda root: root.read_small(name), key=name)

    async def write_blob(self, name: str, data: bytes) -> None:
        check_blob_name(name)
        await self._change(lambda root: root.replace_small(name, data), key=name)

    # ---- shards -----------------------------------------------------------------------------------------------------

    async def prepare(self, epochs: Sequence[int]) -> None:
        self._prepared.update(epochs)
        keep = frozenset(self._prepared)
        await self._change(lambda root: local_shards.prepare(root, keep))
        self._rooms |= keep

    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        puts, generation = self._puts, self._puts.generation
        await self._threads.run(self.putting(key, buffers, replace=replace))
        self._check_put(puts, key, generation)

    def begin_put(self, key: str, buffers: Sequence[Buffer], gathering: Gathering, *, replace: bool = False) -> Begun:
        puts, generation = self._puts, self._puts.generation
        call = self._threads.begin(self.putting(key, buffers, replace=replace), gathering.expect())
        return Putting(call, partial(self._check_put, puts, key, generation))

    def _check_put(self, puts: Puts, key: str, generation: int) -> None:
        """Again: a sync may have failed since the thread was done."""
        with labelled(self.slot, key):
            puts.check(generation)

    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return await self._threads.run(self.reading(key, ranges))

    async def read_shards(
        self, wanted: Sequence[tuple[str, Sequence[tuple[int, int]]]]
    ) -> list[list[bytes] | DriveError]:
        calls = [self.reading(key, ranges) for key, ranges in wanted]
        return await self._threads.run(lambda: list(map(_answer, calls)))

    async def verify(self, key: str) -> ShardHeader:
        return await self._threads.run(self.verifying(key))

    # The same as calls that block, for a caller that has a thread for each of its clients: a storage node. Handing the
    # work to a second thread would double what a small read costs there.

    def putting(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> Callable[[], None]:
        check_key(key)
        puts, generation = self._puts, self._puts.generation

        def write(root: Root) -> None:
            if replace:
                puts.replace(root, key, buffers)
            else:
                puts.write(root, key, buffers, generation)
            puts.check(generation)

        return self._changing(write, key=key)

    def reading(self, key: str, ranges: Sequence[tuple[int, int]]) -> Callable[[], list[bytes]]:
        check_key(key)
        return self._call(lambda root: local_shards.read(root, key, ranges), key=key)

    def sizing(self, key: str) -> Callable[[], int]:
        check_key(key)
        return self._call(lambda root: local_shards.size(root, key), key=key)

    def verifying(self, key: str) -> Callable[[], ShardHeader]:
        check_key(key)
        return self._call(lambda root: local_shards.verify(root, key), key=key)

    async def delete(self, key: str) -> None:
        check_key(key)
        puts = self._puts
        await self._change(lambda root: local_shards.delete(root, key, puts), key=key)

    async def list(self, prefix: str) -> AsyncGenerator[Entry, None]:
        check_prefix(prefix)
        root = self._attached()
        entries = Held(local_listing.entries(root, prefix), _close_generator)
        try:
            while chunk := await self._run(lambda root: _next_chunk(entries), missing=DriveUnreachableError):
                for entry in chunk:
                    yield entry
        finally:
            entries.close()

    async def sync(self) -> None:
        async with self._syncing:
            puts = self._puts
            try:
                await self._change(lambda root: local_shards.sync(root, puts))
                with labelled(self.slot):
                    puts.settle()
            except BaseException:
                # Cancelled counts as failed: nobody knows what became durable.
                close_soon(puts.void())
                raise

    def syncing(self) -> Callable[[], None]:
        """`sync` as a call that blocks. One at a time, which is for the caller to see to."""
        puts = self._puts
        change = self._changing(lambda root: local_shards.sync(root, puts))

        def call() -> None:
            try:
                change()
                with labelled(self.slot):
                    puts.settle()
            except BaseException:
                close_soon(puts.void())
                raise

        return call

    # ---- journal ----------------------------------------------------------------------------------------------------

    async def append(self, segment: str, offset: int, record: Buffer) -> None:
        check_segment(segment)
        with labelled(self.slot, segment), self._segments.appending(segment) as open_segment:
            await self._change(lambda root: open_segment.append(root, offset, record), key=segment)

    def appending(self, segment: str, offset: int, record: Buffer) -> Callable[[], None]:
        """`append` as a call that blocks. One at a time, which is for the caller to see to."""
        check_segment(segment)

        def call() -> None:
            with labelled(self.slot, segment), self._segments.appending(segment) as open_segment:
                self._changing(lambda root: open_segment.append(root, offset, record), key=segment)()

        return call

    def begin_append(self, segment: str, offset: int, record: Buffer, gathering: Gathering) -> Begun | None:
        check_segment(segment)
        with labelled(self.slot, segment):
            open_segment = self._segments.begin(segment)
            try:
                work = self._changing(lambda root: open_segment.append(root, offset, record), key=segment)
            except BaseException:
                self._segments.end(open_segment, failed=True)
                raise
        return Appending(self._segments, open_segment, self._threads.line_up(work, gathering))

    # ---- how calls get to the disk ----------------------------------------------------------------------------------

    def _attached(self, *, exclusive: bool = False) -> Root:
        if self._root is None:
            raise DriveUnreachableError("not attached", slot=self.slot)
        if exclusive and not self._exclusive:
            raise DriveLockedError("attached for reading only", slot=self.slot)
        return self._root

    async def _at_place(self, work: Callable[[], T], discard: Callable[[T], None] | None = None) -> T:
        """Run work() about the path, whether or not a drive is attached."""

        def call() -> T:
            with labelled(self.slot, missing=DriveUnreachableError):
                return work()

        return await self._threads.run(call, discard)

    async def _run(
        self,
        work: Callable[[Root], T],
        *,
        key: str | None = None,
        missing: type[DriveError] = ShardMissingError,
        exclusive: bool = False,
    ) -> T:
        """Run work(root) in a thread of this drive, errors translated. missing: what ENOENT means."""
        return await self._threads.run(self._call(work, key=key, missing=missing, exclusive=exclusive))

    async def _change(self, work: Callable[[Root], T], *, key: str | None = None) -> T:
        """`_run` for what changes the drive: refused to an older writer; ENOENT means that the drive was deleted."""
        return await self._threads.run(self._changing(work, key=key))

    def _call(
        self,
        work: Callable[[Root], T],
        *,
        key: str | None = None,
        missing: type[DriveError] = ShardMissingError,
        exclusive: bool = False,
    ) -> Callable[[], T]:
        root = self._attached(exclusive=exclusive)

        def call() -> T:
            # Holding the directory keeps its lock, too, until the last call that may still write has returned.
            with labelled(self.slot, key, missing), root.directory.use():
                try:
                    return work(root)
                except (FileNotFoundError, DriveUnreachableError):
                    root.check()  # where the drive itself is gone, say that instead
                    raise

        return call

    def _changing(self, work: Callable[[Root], T], *, key: str | None = None) -> Callable[[], T]:
        writer = self._writer

        def guarded(root: Root) -> T:
            fence.judge_write(root.promised(), writer)
            return work(root)

        return self._call(guarded, key=key, missing=DriveUnreachableError, exclusive=True)


def _answer(call: Callable[[], list[bytes]]) -> list[bytes] | DriveError:
    try:
        return call()
    except DriveError as error:
        return error


def _let_go(root: Root) -> None:
    """An attach that was given up must not keep the lock."""
    root.directory.close()


def _promise(root: Root, writer: Writer, *, settled: bool) -> None:
    """In this order: what an older writer still gets in is made durable, too."""
    root.promise(writer)
    if not settled:
        root.settle()


def _check_alive(root: Root, rooms: Iterable[int]) -> None:
    root.check()
    local_shards.check_rooms(root, rooms)
    for name in local_listing.LAYOUT:
        if not root.has(name):
            raise DriveUnreachableError(f"{root.path}/{name} was deleted")
    if not root.has(local_create.IDENTITY):
        raise DriveUnreachableError(f"{root.path} has no identity any more: it was emptied or partly deleted")


def _space(root: Root) -> Space:
    with root.directory.use() as directory:
        found = os.fstatvfs(directory)
        device = os.fstat(directory).st_dev
    return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, str(device))


def _next_chunk(entries: Held[local_listing.Entries]) -> list[Entry]:
    with entries.use() as iterator:
        return list(islice(iterator, local_listing.CHUNK))


def _close_generator(entries: local_listing.Entries) -> None:
    entries.close()
