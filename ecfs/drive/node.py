"""A storage node on another machine as a drive. What each call means, the node decides (`ecfs/node/served.py`).

Every call has a deadline; one that is cancelled here is given up there, except a sync, whose outcome must not hit puts
that come after it. Only calls that read are repeated, and only if no node has answered. While the drive is attached
exclusively, a stream stays open: when it ends, so does the attachment, since others may have been let in from then on.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import trio

from ecfs.clock import Clock
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
from ecfs.drive.begun import Begun, Gathering, Timed
from ecfs.drive.belonging import pool_named_in
from ecfs.drive.deadline import PATIENCE_S
from ecfs.drive.machine import holder_text, machine_id
from ecfs.drive.node_link import Link, Sending
from ecfs.drive.translate import labelled
from ecfs.errors import CorruptError, DriveLockedError, DriveUnreachableError, UsageError
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc import frames
from ecfs.rpc.client import Stream
from ecfs.rpc.limits import CHUNK, MAX_LISTING_S, SMALLEST_RATE, data_deadline_s
from ecfs.rpc.methods import DRIVE, Method
from ecfs.rpc.tls import TlsFiles
from ecfs.shard import ShardHeader, parse_header

DEADLINE_S = 2.0
WRITE_DEADLINE_S = 90.0
"""For put, sync and append. The commit engine judges their lateness itself (R5) and gives them up when it wants to;
this one only makes sure that none waits for ever."""
CLOSE_S = 1.0


class NodeDrive(Drive):
    """A node at `address` (HOST:PORT).

    tls: certificates to use; None talks in the clear. pool_id: hex, of the pool this drive should belong to; "" takes
    what the drive's identity says.
    """

    def __init__(
        self,
        address: str,
        clock: Clock,
        *,
        slot: int | None = None,
        tls: TlsFiles | None = None,
        pool_id: str = "",
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.slot = slot
        self._address = address
        self._link = Link(address, clock, tls, deadline_s)
        self._capabilities = Capabilities(deadline_s=deadline_s, lockable=True, bytes_per_s=SMALLEST_RATE)
        self._pool_id = pool_id
        self._client = clock.token(16)
        self._hold: Stream | None = None
        self._attachment = b""
        self._lost = "not attached"
        self._exclusive = False
        self._orphaned = False
        """Attached, until the connection was lost."""
        self._writer: Writer | None = None
        self._sealed: set[str] = set()
        self._oldest_put: int | None = None
        """The node's count of failed syncs when the oldest put began that no sync has covered."""
        self._syncing: dict[_Running, int | None] = {}
        """The same of each sync on its way: it may yet fail."""
        self._abandoned = 0
        self._syncs_left = 0
        self._machine = ""
        self._said: tuple[bytes, Writer | None, str] | None = None
        self._me = pb.Caller()
        """What was said of us last, and in which message: it comes with every call."""

    @property
    def url(self) -> str:
        return self._address

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def abandoned(self) -> int:
        """As the node last said; and syncs that still run although nobody waits for them."""
        return self._abandoned + self._syncs_left

    # ---- coming and going -------------------------------------------------------------------------------------------

    async def attach(self, *, exclusive: bool) -> None:
        await self.close()
        request = pb.AttachRequest(
            pool_id=self._pool_id, exclusive=exclusive, client=self._client, holder=holder_text(sys.argv)
        )
        await self._hold_by(DRIVE["Attach"], request, exclusive=exclusive)

    async def _hold_by(self, method: Method, request: Any, *, exclusive: bool, timeout_s: float | None = None) -> None:
        with labelled(self.slot):
            stream, reply = await self._link.open(method, request, timeout_s)
        self._attachment, self._lost = reply.attachment, ""
        self._exclusive, self._hold, self._orphaned = exclusive, stream, False
        self._abandoned, self._machine = reply.abandoned, reply.machine
        self._oldest_put, self._syncing = None, {}
        if exclusive and not stream.when_ended(lambda: self._let_go_by(stream)):
            self._let_go_by(stream)

    def _let_go_by(self, stream: Stream) -> None:
        """The node has ended, or lost us: others may have been let in since."""
        if self._hold is stream:
            self._hold, self._attachment, self._orphaned = None, b"", True
            self._lost = "the connection to the node was lost"

    async def close(self) -> None:
        caller, hold = self._by(self._attachment), self._hold
        self._hold, self._attachment, self._orphaned, self._lost = None, b"", False, "not attached"
        try:
            if hold is not None and self._exclusive:
                # So that whoever comes next finds the drive free. Shielded: a cancelled mount must let go as well.
                with trio.move_on_after(CLOSE_S, shield=True):
                    request = pb.DetachRequest(caller=caller, client=self._client)
                    await _outcome(self._link.change(DRIVE["Detach"], request, CLOSE_S))
        finally:
            if hold is not None:
                hold.cancel()
            self._link.close()
        await trio.lowlevel.checkpoint()

    async def is_vacant(self) -> bool:
        return bool((await self._ask("IsVacant", pb.IsVacantRequest())).vacant)

    async def create(self, blobs: Mapping[str, bytes], *, filesystem: str = "") -> None:
        blobs = check_blobs(blobs)
        await self.close()
        holder = holder_text(sys.argv)
        request = pb.CreateRequest(blobs=blobs, client=self._client, holder=holder, filesystem=filesystem)
        if request.ByteSize() > CHUNK:
            raise UsageError(f"the blobs of a new drive have {CHUNK} bytes at most")
        self._writer = None  # the new drive is promised to nobody
        await self._hold_by(DRIVE["Create"], request, exclusive=True, timeout_s=PATIENCE_S)
        self._pool_id = pool_named_in(blobs["identity"]) or self._pool_id

    async def location(self) -> Location | None:
        found = await self._ask("Location", pb.LocationRequest())
        return Location(found.filesystem, found.mount_point, found.below) if found.filesystem else None

    async def alive(self) -> None:
        reply = await self._ask("Alive", pb.AliveRequest(caller=self._caller(asked=True)))
        self._abandoned = reply.abandoned

    async def space(self) -> Space:
        reply = await self._ask("Space", pb.SpaceRequest(caller=self._caller()))
        # Nodes on one machine share its disks, with each other and with the directories we use ourselves.
        elsewhere = "" if self._machine == machine_id() else f"{self._machine}:"
        return Space(reply.total, reply.free, elsewhere + reply.device)

    async def strays(self, limit: int = 1000) -> list[str]:
        return list((await self._ask("Strays", pb.StraysRequest(caller=self._caller(), limit=limit))).names)

    # ---- who may write ----------------------------------------------------------------------------------------------

    async def read_fence(self) -> Writer:
        reply = await self._ask("ReadFence", pb.ReadFenceRequest(caller=self._caller()))
        return Writer(reply.writer.epoch, reply.writer.nonce)

    async def fence(self, writer: Writer) -> None:
        fence.check_writer(writer)
        request = pb.FenceRequest(caller=self._caller(changing=True), writer=_message(writer))
        await self._change("Fence", request, timeout_s=PATIENCE_S)
        self._writer = writer

    # ---- blobs ------------------------------------------------------------------------------------------------------

    async def read_blob(self, name: str) -> bytes:
        check_blob_name(name)
        request = pb.ReadBlobRequest(caller=self._caller(name), name=name)
        with labelled(self.slot, name):
            _, buffers = await self._link.fetch(DRIVE["ReadBlob"], request)
        data = b"".join(buffers)
        if name == "identity" and not self._pool_id:
            self._pool_id = pool_named_in(data)
        return data

    async def write_blob(self, name: str, data: bytes) -> None:
        check_blob_name(name)
        request = pb.WriteBlobRequest(caller=self._caller(name, changing=True), name=name, length=len(data))
        await self._send("WriteBlob", request, [data], name, data_deadline_s(self._link.deadline_s, len(data)))

    # ---- shards -----------------------------------------------------------------------------------------------------

    async def prepare(self, epochs: Sequence[int]) -> None:
        await self._change("Prepare", pb.PrepareRequest(caller=self._caller(changing=True), epochs=epochs))

    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        request = self._put_request(key, buffers, replace)
        reply = await self._send("Put", request, buffers, key, WRITE_DEADLINE_S)
        self._remember(reply.voids)

    def begin_put(
        self, key: str, buffers: Sequence[Buffer], gathering: Gathering, *, replace: bool = False
    ) -> Begun | None:
        request = self._put_request(key, buffers, replace)
        return self._begin(
            key,
            gathering,
            lambda done: self._link.begin_put(request, buffers, WRITE_DEADLINE_S, done),
            succeeded=lambda reply: self._remember(reply.voids),
        )

    def _put_request(self, key: str, buffers: Sequence[Buffer], replace: bool) -> pb.PutRequest:
        check_key(key)
        length = sum(map(len, buffers))
        return pb.PutRequest(caller=self._caller(key, changing=True), key=key, length=length, replace=replace)

    def _remember(self, put: int | None) -> None:
        """put: the syncs that had failed on the node when it was made; None for no put."""
        self._oldest_put = _oldest([self._oldest_put, put])

    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        check_key(key)
        wanted = [pb.Range(offset=offset, length=length) for offset, length in ranges]
        request = pb.ReadRequest(caller=self._caller(key), key=key, ranges=wanted)
        total = None if any(length < 0 for _, length in ranges) else sum(length for _, length in ranges)
        with labelled(self.slot, key):
            reply, buffers = await self._link.read(request, total)
            return _cut(ranges, list(reply.lengths), buffers)

    async def verify(self, key: str) -> ShardHeader:
        check_key(key)
        reply = await self._ask("Verify", pb.VerifyRequest(caller=self._caller(key), key=key), key)
        with labelled(self.slot, key):
            try:
                return parse_header(reply.header)
            except CorruptError as error:
                raise DriveUnreachableError(f"the node's answer makes no sense: {error}") from error

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._change("Delete", pb.DeleteRequest(caller=self._caller(key, changing=True), key=key), key)

    async def list(self, prefix: str) -> AsyncGenerator[Entry, None]:
        check_prefix(prefix)
        request = pb.ListRequest(caller=self._caller(prefix), prefix=prefix)
        with labelled(self.slot, prefix):
            async with aclosing(self._link.receive(DRIVE["List"], request, MAX_LISTING_S)) as replies:
                async for reply in replies:
                    for entry in reply.entries:
                        yield Entry(entry.key, entry.size)

    async def sync(self) -> None:
        caller = self._caller(changing=True)
        # Those on their way count, too: should one fail over there, this one would find nothing to do behind it, and if
        # both answers came at once, what the first one has voided could count as durable.
        oldest = _oldest([self._oldest_put, *self._syncing.values()])
        self._oldest_put = None
        call = _Running(self._link.change(DRIVE["Sync"], pb.SyncRequest(caller=caller, voids=oldest), WRITE_DEADLINE_S))
        self._syncing[call] = oldest
        call.when_done(lambda: self._syncing.pop(call, None))
        try:
            error = await call.outcome()
        except trio.Cancelled:
            # Not cancelled over there: it would void puts that its caller begins from now on.
            self._syncs_left += 1
            call.when_done(self._one_sync_less)
            # Should it fail over there, the next one must fail, too, instead of finding nothing to do.
            self._remember(oldest)
            raise
        with labelled(self.slot):
            if error is not None:
                raise error

    def _one_sync_less(self) -> None:
        self._syncs_left -= 1

    # ---- journal ----------------------------------------------------------------------------------------------------

    async def append(self, segment: str, offset: int, record: Buffer) -> None:
        request = self._append_request(segment, offset, record)
        with labelled(self.slot, segment):
            try:
                await self._link.send(DRIVE["Append"], request, [record], WRITE_DEADLINE_S)
            except BaseException:
                self.seal(segment)
                raise

    def begin_append(self, segment: str, offset: int, record: Buffer, gathering: Gathering) -> Begun | None:
        request = self._append_request(segment, offset, record)
        return self._begin(
            segment,
            gathering,
            lambda done: self._link.begin_append(request, record, WRITE_DEADLINE_S, done),
            lambda: self.seal(segment),
        )

    def _begin(
        self,
        key: str,
        gathering: Gathering,
        begin: Callable[[Callable[[], object]], Sending | None],
        failed: Callable[[], object] = bool,
        succeeded: Callable[[Any], object] = bool,
    ) -> Begun | None:
        timed = Timed(gathering.expect())
        with labelled(self.slot, key):
            try:
                sending = begin(timed.done)
            except BaseException:
                timed.done()
                raise
        if sending is None:
            timed.done()
            return None
        return _Begun(self.slot, key, sending, timed, failed, succeeded)

    def _append_request(self, segment: str, offset: int, record: Buffer) -> pb.AppendRequest:
        check_segment(segment)
        caller = self._caller(segment, changing=True)
        if segment in self._sealed:
            text = "an earlier append to this segment failed: go on in a new one"
            raise DriveUnreachableError(text, slot=self.slot, key=segment)
        return pb.AppendRequest(caller=caller, segment=segment, offset=offset, length=len(record))

    def seal(self, segment: str) -> None:
        """An append failed or was given up: it may yet be made (R20)."""
        self._sealed.add(segment)

    # ---- what every call begins with --------------------------------------------------------------------------------

    def _caller(self, key: str | None = None, *, changing: bool = False, asked: bool = False) -> pb.Caller:
        """asked: also after the connection was lost. The node then refuses, but says whether we were fenced off."""
        if not self._attachment and not (asked and self._orphaned and self._writer is not None):
            raise DriveUnreachableError(self._lost, slot=self.slot, key=key)
        if changing and not self._exclusive:
            raise DriveLockedError("attached for reading only", slot=self.slot, key=key)
        return self._by(self._attachment)

    def _by(self, attachment: bytes) -> pb.Caller:
        said = (attachment, self._writer, self._pool_id)
        if self._said != said:
            writer = None if self._writer is None else _message(self._writer)
            self._said, self._me = said, pb.Caller(attachment=attachment, writer=writer, pool_id=self._pool_id)
        return self._me

    async def _ask(self, name: str, request: Any, key: str | None = None) -> Any:
        with labelled(self.slot, key):
            return await self._link.ask(DRIVE[name], request)

    async def _change(self, name: str, request: Any, key: str | None = None, timeout_s: float | None = None) -> None:
        with labelled(self.slot, key):
            await self._link.change(DRIVE[name], request, timeout_s)

    async def _send(self, name: str, request: Any, buffers: Sequence[Buffer], key: str, timeout_s: float) -> Any:
        with labelled(self.slot, key):
            return await self._link.send(DRIVE[name], request, buffers, timeout_s)


class _Begun:
    """`Begun`. failed: called when that is seen, or it is given up; succeeded: gets the reply."""

    def __init__(
        self,
        slot: int | None,
        key: str,
        sending: Sending,
        timed: Timed,
        failed: Callable[[], object],
        succeeded: Callable[[Any], object],
    ) -> None:
        self._slot = slot
        self._key = key
        self._sending = sending
        self._timed = timed
        self._failed = failed
        self._succeeded = succeeded

    @property
    def seconds(self) -> float | None:
        return self._timed.seconds

    def result(self) -> None:
        with labelled(self._slot, self._key):
            try:
                self._succeeded(self._sending.result())
            except BaseException:
                self._failed()
                raise

    def give_up(self) -> None:
        self._failed()
        self._sending.give_up()
        self._timed.done()


class _Running:
    """A call in a task of its own, which goes on when whoever waits for it is cancelled."""

    def __init__(self, call: Awaitable[object]) -> None:
        self._error: Exception | None = None
        self._done = trio.Event()
        self._callbacks: list[Any] = []
        trio.lowlevel.spawn_system_task(self._run, call)

    async def _run(self, call: Awaitable[object]) -> None:
        try:
            self._error = await _outcome(call)
        finally:
            self._done.set()
            for callback in self._callbacks:
                callback()

    async def outcome(self) -> Exception | None:
        await self._done.wait()
        return self._error

    def when_done(self, callback: Any) -> None:
        if self._done.is_set():
            callback()
        else:
            self._callbacks.append(callback)


async def _outcome(call: Awaitable[object]) -> Exception | None:
    """How a call ended, as a value: what escapes from a task of its own would end the whole program."""
    try:
        await call
    except Exception as error:
        return error
    return None


def _oldest(puts: Iterable[int | None]) -> int | None:
    return min((each for each in puts if each is not None), default=None)


def _message(writer: Writer) -> pb.Writer:
    return pb.Writer(epoch=writer.epoch, nonce=writer.nonce)


def _cut(ranges: Sequence[tuple[int, int]], lengths: Sequence[int], buffers: Sequence[memoryview]) -> list[Buffer]:
    """The bytes of each range. A node that sends more or less than it was asked for is not believed."""
    fits = len(lengths) == len(ranges) and sum(lengths) == sum(map(len, buffers))
    if not fits or any(wanted not in (-1, sent) for (_, wanted), sent in zip(ranges, lengths, strict=True)):
        raise DriveUnreachableError("the node's answer has not the length that was asked for")
    return frames.divide(buffers, lengths)
