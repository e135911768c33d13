"""What a node does for each method of drive.proto: the Drive contract on one LocalDrive, for clients far away.

The node alone has the directory, by its lock. Clients are told apart by two things. The *attachment* says what a client
believes to talk to: a random number, new whenever the node started, took hold of the directory anew or let another
client in exclusively; a call with an old one is refused, so that nothing put before a restart counts afterwards. The
*writer* says whether it may change anything: the fence (R2), compared by every change.

Async methods run in the node's event loop. Those that a mount calls all the time, `put`, `read`, `verify`, `sync` and
`append`, run in the thread of their call, since hand-overs cost more than the work; so does `changing`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from ecfs.clock import Clock
from ecfs.drive import fence
from ecfs.drive.base import MAX_BLOB, Buffer, Writer
from ecfs.drive.belonging import pool_named_in
from ecfs.drive.local import LocalDrive
from ecfs.drive.machine import machine_id
from ecfs.errors import (
    DriveError,
    DriveFencedError,
    DriveLockedError,
    DriveUnreachableError,
    DriveWrongError,
    ShardCorruptError,
    ShardMissingError,
    UsageError,
)
from ecfs.node.gate import Change, Gate
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.limits import MAX_DATA, MAX_RANGES
from ecfs.shard import build_header

TOKEN_LENGTH = 16
MAX_HOLDER = 200
MAX_STRAYS = 1000
MAX_EPOCHS = 100_000
FENCE_PATIENCE_S = 1.0


@dataclass(eq=False)
class Hold:
    """A client's lock on the drive. ended: set when somebody else has it, or nobody."""

    client: bytes
    text: str
    ended: trio.Event = field(default_factory=trio.Event)


class Served:
    """One directory, served. Raises what the Drive contract says; requests and replies are those of drive.proto."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.drive = LocalDrive(path, token=clock.token)
        self._clock = clock
        self._gate = Gate(lambda: self.drive.abandoned)
        self._syncing = threading.Lock()
        self._appending = threading.Lock()
        self._attachment = b""
        self._pool_id = ""
        self._promised = fence.NOBODY
        self._voids = 0
        self._hold: Hold | None = None

    # ---- coming and going -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take hold of the directory before anybody asks, so that no second process can.

        Raises DriveLockedError, UsageError. A directory that is not there (yet) is fine.
        """
        try:
            await self._attach_anew()
        except (DriveLockedError, UsageError):
            raise
        except DriveError:
            return  # a drive may be made there later, or its disk be mounted

    def release_all(self) -> None:
        """The node is about to end: streams that would stay open end now, and nobody is let in any more."""
        self.release(self._hold)

    async def stop(self) -> None:
        self.release_all()
        self._attachment = b""
        await self.drive.close()

    async def attach(self, request: pb.AttachRequest) -> tuple[pb.AttachReply, Hold | None]:
        if not request.exclusive:
            if not await self._is_whole():
                async with self._gate.alone():
                    if not await self._is_whole():  # again: whoever was alone before may have let a client in
                        await self._attach_anew()
            self._demand_pool(request.pool_id)
            return self._attached(), None
        self._demand_pool(request.pool_id)
        self._demand_free(request.client)
        async with self._gate.alone():
            self._demand_free(request.client)  # again: the gate may have taken long
            await self._attach_anew()
            self._demand_pool(request.pool_id)
            return self._attached(), self._take(request.client, request.holder)

    async def create(self, request: pb.CreateRequest) -> tuple[pb.AttachReply, Hold]:
        async with self._gate.alone():
            if not await self.drive.is_vacant():
                raise DriveWrongError(f"{self.drive.url} is not empty: a new drive needs an empty or missing directory")
            self._attachment = b""
            await self.drive.create(dict(request.blobs), filesystem=request.filesystem)
            await self._know()
            return self._attached(), self._take(request.client, request.holder)

    def release(self, hold: Hold | None) -> None:
        """The client went away, or says that it will."""
        if hold is not None:
            hold.ended.set()
            if self._hold is hold:
                self._hold = None

    async def detach(self, request: pb.DetachRequest) -> pb.DetachReply:
        """Who only looks knows the attachment, too, and must not let others in. A client of an older version does not
        say who it is; it lets go with its stream."""
        hold = self._hold
        if hold is not None and request.client == hold.client and request.caller.attachment == self._attachment:
            self.release(hold)
        return pb.DetachReply()

    async def is_vacant(self, request: pb.IsVacantRequest) -> pb.IsVacantReply:
        return pb.IsVacantReply(vacant=await self.drive.is_vacant())

    async def location(self, request: pb.LocationRequest) -> pb.LocationReply:
        found = await self.drive.location()
        if found is None:
            return pb.LocationReply()
        return pb.LocationReply(filesystem=found.filesystem, mount_point=found.mount_point, below=found.below)

    async def alive(self, request: pb.AliveRequest) -> pb.AliveReply:
        self._judge(request.caller)
        self._demand(request.caller)
        await self.drive.alive()
        return pb.AliveReply(abandoned=self.drive.abandoned)

    async def space(self, request: pb.SpaceRequest) -> pb.SpaceReply:
        self._demand(request.caller)
        space = await self.drive.space()
        return pb.SpaceReply(total=space.total, free=space.free, device=space.device)

    async def strays(self, request: pb.StraysRequest) -> pb.StraysReply:
        self._demand(request.caller)
        return pb.StraysReply(names=await self.drive.strays(min(request.limit, MAX_STRAYS)))

    # ---- who may write ----------------------------------------------------------------------------------------------

    async def read_fence(self, request: pb.ReadFenceRequest) -> pb.ReadFenceReply:
        self._demand(request.caller)
        return pb.ReadFenceReply(writer=_message(await self.drive.read_fence()))

    async def fence(self, request: pb.FenceRequest) -> pb.FenceReply:
        writer = fence.check_writer(Writer(request.writer.epoch, request.writer.nonce))
        self._demand(request.caller)
        async with self._gate.alone():
            self._demand(request.caller)
            try:
                await self.drive.fence(writer)
                self._promised = writer
            except BaseException:
                await self._look_what_was_promised()
                raise
        return pb.FenceReply()

    async def _look_what_was_promised(self) -> None:
        """After a fence that failed half-way nobody knows which promise holds; where it can't be read, nothing does."""
        self._promised, attachment = fence.NOBODY, self._attachment
        self._attachment = b""
        with trio.move_on_after(FENCE_PATIENCE_S, shield=True):
            self._promised = await self.drive.read_fence()
            self._attachment = attachment

    # ---- blobs ------------------------------------------------------------------------------------------------------

    async def read_blob(self, request: pb.ReadBlobRequest) -> tuple[pb.ReadBlobReply, list[bytes]]:
        self._demand(request.caller, strangers=request.name == "identity")
        return pb.ReadBlobReply(), [await self.drive.read_blob(request.name)]

    async def write_blob(self, request: pb.WriteBlobRequest, buffers: Sequence[Buffer]) -> pb.WriteBlobReply:
        if request.length > MAX_BLOB:
            raise UsageError(f"a blob has {MAX_BLOB} bytes at most")
        data = b"".join(buffers)
        await self.drive.write_blob(request.name, data)
        if request.name == "identity":
            self._pool_id = pool_named_in(data)
        return pb.WriteBlobReply()

    # ---- shards -----------------------------------------------------------------------------------------------------

    async def prepare(self, request: pb.PrepareRequest) -> pb.PrepareReply:
        if len(request.epochs) > MAX_EPOCHS or any(epoch >> 31 for epoch in request.epochs):
            raise UsageError("not a list of epochs")
        await self.drive.prepare(list(request.epochs))
        return pb.PrepareReply()

    def put(self, request: pb.PutRequest, buffers: Sequence[Buffer]) -> pb.PutReply:
        voids = self._voids
        self.drive.putting(request.key, buffers, replace=request.replace)()
        return pb.PutReply(voids=voids)

    def memory_for(self, request: pb.ReadRequest | pb.ReadBlobRequest | pb.VerifyRequest) -> int:
        """Bytes that a call has in memory at most, counted before it reads them. Raises what it would raise."""
        if isinstance(request, pb.ReadBlobRequest):
            return MAX_BLOB
        self._demand(request.caller)
        if isinstance(request, pb.VerifyRequest):
            return self._size_behind([0], request.key)
        ranges = request.ranges
        if any(part.offset >> 62 or part.length >> 62 > 0 or part.length < -1 for part in ranges):
            raise UsageError("a range lies outside of any file")
        total = sum(part.length for part in ranges if part.length > 0)
        if to_the_end := [part.offset for part in ranges if part.length < 0]:
            total += self._size_behind(to_the_end, request.key)
        if len(ranges) > MAX_RANGES or total > MAX_DATA:
            raise UsageError(f"a read has {MAX_RANGES} ranges and {MAX_DATA} bytes at most")
        return total

    def _size_behind(self, offsets: Sequence[int], key: str) -> int:
        """Bytes of the file behind these offsets, together."""
        size = self.drive.sizing(key)()
        if size - min(offsets) > MAX_DATA:
            raise ShardCorruptError(f"has more than {MAX_DATA} bytes")
        return sum(max(0, size - offset) for offset in offsets)

    def read(self, request: pb.ReadRequest) -> tuple[pb.ReadReply, list[bytes]]:
        """What `memory_for` has admitted."""
        self._demand(request.caller)
        found = self.drive.reading(request.key, [(part.offset, part.length) for part in request.ranges])()
        return pb.ReadReply(lengths=map(len, found)), found

    def verify(self, request: pb.VerifyRequest) -> pb.VerifyReply:
        self._demand(request.caller)
        return pb.VerifyReply(header=build_header(self.drive.verifying(request.key)()))

    async def delete(self, request: pb.DeleteRequest) -> pb.DeleteReply:
        await self.drive.delete(request.key)
        return pb.DeleteReply()

    async def list(self, request: pb.ListRequest) -> AsyncIterator[pb.Entry]:
        self._demand(request.caller)
        async for entry in self.drive.list(request.prefix):
            yield pb.Entry(key=entry.key, size=entry.size)

    def sync(self, request: pb.SyncRequest) -> pb.SyncReply:
        with self._syncing:
            # Under the lock: a sync that fails while this one waits voids the puts that this one is asked about.
            if request.HasField("voids") and request.voids != self._voids:
                raise DriveUnreachableError(
                    "a sync has failed since the oldest of these puts, so that they don't count"
                )
            try:
                self.drive.syncing()()
            except BaseException:
                self._voids += 1
                raise
        return pb.SyncReply()

    # ---- journal ----------------------------------------------------------------------------------------------------

    def append(self, request: pb.AppendRequest, buffers: Sequence[Buffer]) -> pb.AppendReply:
        record = buffers[0] if len(buffers) == 1 else b"".join(buffers)
        if not record or record[-1] == 0:
            raise UsageError("a record must not end with a zero")
        with self._appending:
            self.drive.appending(request.segment, request.offset, record)()
        return pb.AppendReply()

    # ---- what every call is asked -----------------------------------------------------------------------------------

    def _demand(self, caller: pb.Caller, *, strangers: bool = False) -> None:
        """Is what the caller believes to talk to still there? strangers: also for those who name no pool (yet)."""
        if not self._attachment or caller.attachment != self._attachment:
            raise DriveUnreachableError("the node was restarted, or its drive was attached anew by another client")
        if not (strangers and not caller.pool_id):
            self._demand_pool(caller.pool_id, named=bool(self._pool_id))

    def _demand_pool(self, pool_id: str, *, named: bool = False) -> None:
        """The drive belongs to the caller's pool, or to none. named: the caller must say which it is."""
        if self._pool_id and pool_id != self._pool_id and (pool_id or named):
            raise DriveWrongError(f"belongs to another pool ({self._pool_id[:8]})")

    def _demand_free(self, client: bytes) -> None:
        """No other client has the drive. One that lost its connection may take over from itself."""
        if self._hold is not None and self._hold.client != client:
            raise DriveLockedError(f"locked by {self._hold.text}")

    def changing(self, caller: pb.Caller) -> Change:
        """Around every change, from its first look at who may to the return of its last system call (R2)."""
        return self._gate.change(partial(self._admit, caller))

    def _admit(self, caller: pb.Caller) -> None:
        writer = self._judge(caller)
        self._demand(caller)
        if writer is None and self._promised != fence.NOBODY:
            raise DriveFencedError(f"is promised to epoch {self._promised.epoch}: fence it first")
        fence.judge_write(self._promised, writer)

    def _judge(self, caller: pb.Caller) -> Writer | None:
        """The caller as a writer, if it is one. Asked before anything else: who was fenced off must hear that, and not
        only that the drive was attached anew."""
        if not caller.HasField("writer"):
            return None
        writer = Writer(caller.writer.epoch, caller.writer.nonce)
        fence.judge(self._promised, writer)
        return writer

    # ---- the directory ----------------------------------------------------------------------------------------------

    async def _is_whole(self) -> bool:
        if not self._attachment:
            return False
        try:
            await self.drive.alive()
        except DriveError:
            return False
        return True

    async def _attach_anew(self) -> None:
        self._attachment = b""
        await self.drive.attach(exclusive=True)
        await self._know()

    async def _know(self) -> None:
        """Read what the drive says of itself; from then on there is something to attach to."""
        self._promised = await self.drive.read_fence()
        try:
            self._pool_id = pool_named_in(await self.drive.read_blob("identity"))
        except (ShardMissingError, ShardCorruptError):
            self._pool_id = ""
        self._attachment = self._clock.token(TOKEN_LENGTH)

    def _take(self, client: bytes, holder: str) -> Hold:
        self.release(self._hold)
        printable = "".join(letter for letter in holder[:MAX_HOLDER] if letter.isprintable())
        self._hold = Hold(client, printable or "another client")
        return self._hold

    def _attached(self) -> pb.AttachReply:
        return pb.AttachReply(
            attachment=self._attachment, voids=self._voids, abandoned=self.drive.abandoned, machine=machine_id()
        )


def _message(writer: Writer) -> pb.Writer:
    return pb.Writer(epoch=writer.epoch, nonce=writer.nonce)
