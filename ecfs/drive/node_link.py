"""How a NodeDrive's calls get to its node: one connection, limits, deadlines, what may be repeated, and bulk data."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from itertools import count
from typing import Any, TypeVar

import trio

from ecfs.clock import Clock, monotonic_for_threads
from ecfs.drive.base import Buffer
from ecfs.drive.begun import tell_loop
from ecfs.errors import DriveTimeoutError, DriveUnreachableError, ShardCorruptError, UsageError
from ecfs.rpc import frames
from ecfs.rpc.client import Channel, OnItsWay, Stream, never_arrived
from ecfs.rpc.conversation import Conversations
from ecfs.rpc.limits import CHUNK, MAX_CALL_S, MAX_DATA
from ecfs.rpc.methods import DRIVE, Method
from ecfs.rpc.status import NodeBusyError
from ecfs.rpc.tls import TlsFiles

T = TypeVar("T")

CALLS = 16
"""Calls on their way to one node at a time; further ones wait here. What was begun and is answered keeps its place
until it is looked at, with its joint: those are the commit's and `stripes_in_flight`, far fewer."""
SPOKEN = {"Appends": 1, "Puts": 4, "Reads": 4}
"""Methods of conversations, and how many of their messages one node gets at a time; others are calls of their own.
Appends have an order."""
TRIES = 3
PAUSE_S = 0.05
"""Before a call is repeated, and up to twice that, by chance: many clients must not knock at the same moment."""


class Link:
    """A connection to the node at `address`, made when it is needed. deadline_s: for calls without bulk data.

    Raises DriveErrors, without slot and key.
    """

    def __init__(self, address: str, clock: Clock, tls: TlsFiles | None, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._address = address
        self._clock = clock
        self._tls = tls
        self._calls = trio.CapacityLimiter(CALLS)
        self._channel: Channel | None = None
        self._spoken: dict[str, Conversations] = {}
        self._numbers = count(1)

    @property
    def channel(self) -> Channel:
        if self._channel is None:
            self._channel = Channel(self._address, self._tls)
        return self._channel

    def close(self) -> None:
        """Ends every call that is on its way. The next one connects again."""
        channel, self._channel = self._channel, None
        self._spoken.clear()
        if channel is not None:
            channel.close()

    async def open(self, method: Method, request: Any, timeout_s: float | None = None) -> tuple[Stream, Any]:
        """A stream that stays open, and its first reply. timeout_s: until that comes."""
        seconds = self.deadline_s if timeout_s is None else timeout_s
        with trio.move_on_after(seconds):
            return await self._once(lambda: self._open(method, request), seconds)
        raise DriveTimeoutError(f"no answer to {method.name.lower()} within {seconds:g} s")

    async def _open(self, method: Method, request: Any) -> tuple[Stream, Any]:
        stream = self.channel.open(method, request)
        try:
            reply = await stream.next()
            if reply is None:
                raise DriveUnreachableError("the node ended the call")
            return stream, reply
        except BaseException:
            stream.cancel()
            raise

    async def change(self, method: Method, request: Any, timeout_s: float | None = None) -> Any:
        """A call without bulk data, never repeated once a node may have begun with it."""
        seconds = self.deadline_s if timeout_s is None else timeout_s
        channel = self.channel
        return await self._once(lambda: channel.unary(method, request, seconds), seconds)

    async def ask(self, method: Method, request: Any) -> Any:
        """A call without bulk data that changes nothing."""
        return await self._repeat(lambda: self.channel.unary(method, request, self.deadline_s))

    async def send(self, method: Method, request: Any, buffers: Sequence[Buffer], timeout_s: float) -> Any:
        """A call that carries data there. `request.length` says how much."""
        length = request.length
        if length > MAX_DATA:
            raise UsageError(f"{length} bytes are more than a node takes in one call ({MAX_DATA})")

        async def call() -> Any:
            if length <= CHUNK:
                return await self.channel.unary(method, frames.join(request, buffers), timeout_s)
            return await self.channel.send(method, _messages(method, request, buffers), timeout_s)

        return await self._once(call, timeout_s)

    def begin_append(
        self, request: Any, record: Buffer, timeout_s: float, done: Callable[[], object]
    ) -> Sending | None:
        return self._begin(DRIVE["Append"], "Appends", request.offset + len(record), request, [record], timeout_s, done)

    def begin_put(
        self, request: Any, buffers: Sequence[Buffer], timeout_s: float, done: Callable[[], object]
    ) -> Sending | None:
        request.number = next(self._numbers)
        return self._begin(DRIVE["Put"], "Puts", request.number, request, buffers, timeout_s, done)

    def _begin(
        self,
        method: Method,
        spoken: str,
        number: int,
        request: Any,
        buffers: Sequence[Buffer],
        timeout_s: float,
        done: Callable[[], object],
    ) -> Sending | None:
        """`send` for a caller that does not wait. None, and nothing sent, if it would have to wait or is too long.

        spoken: the same as a message of a conversation, which is cheaper but takes few at a time.
        """
        if request.length > CHUNK:
            return None
        channel, frame, say = self.channel, frames.join(request, buffers), self._conversations(spoken).say

        def send(ended: Callable[[OnItsWay], object], again: bool) -> OnItsWay:
            said = None if again else say(frame, number, ended)
            return said or channel.begin(method, frame, timeout_s, ended)

        sending = Sending(send, timeout_s, done)
        try:
            self._calls.acquire_on_behalf_of_nowait(sending)
        except trio.WouldBlock:
            return None
        try:
            sending.begin(partial(self._calls.release_on_behalf_of, sending))
        except BaseException:
            self._calls.release_on_behalf_of(sending)
            raise
        return sending

    def _conversations(self, spoken: str) -> Conversations:
        if spoken not in self._spoken:
            self._spoken[spoken] = Conversations(self.channel, DRIVE[spoken], SPOKEN[spoken])
        return self._spoken[spoken]

    async def read(self, request: Any, total: int | None) -> tuple[Any, list[memoryview]]:
        """`fetch` of a shard's ranges."""
        if total is not None and total <= CHUNK:
            request.number, channel = next(self._numbers), self.channel
            ended, token = trio.Event(), trio.lowlevel.current_trio_token()
            say = self._conversations("Reads").say
            saying = say(request.SerializeToString(), request.number, lambda _: tell_loop(token, ended.set))
            if saying is not None:
                # If it is given up, its answer still comes, and nobody wants it. Ending the conversation costs more.
                await ended.wait()
                if saying.reply is not None or channel.closed:
                    return saying.result(), [saying.data]
        return await self.fetch(DRIVE["Read"], request, total)

    async def fetch(
        self, method: Method, request: Any, total: int | None = None, timeout_s: float = MAX_CALL_S
    ) -> tuple[Any, list[memoryview]]:
        """A call that brings data here: the first reply and all data. total: bytes that will come, where known.

        How long that may take depends on what else is on its way: `DeadlineDrive` knows, and gives it up.
        """
        if total is not None and total <= CHUNK:
            return await self._repeat(lambda: self._fetch_one(method, request, timeout_s))
        limit = MAX_DATA if total is None else total
        return await self._repeat(lambda: self._fetch_many(method, request, limit, timeout_s))

    async def _fetch_one(self, method: Method, request: Any, timeout_s: float) -> tuple[Any, list[memoryview]]:
        frame = await self.channel.unary(method, request, timeout_s)
        reply, data = _split(method, frame)
        return reply, [data]

    async def _fetch_many(
        self, method: Method, request: Any, limit: int, timeout_s: float
    ) -> tuple[Any, list[memoryview]]:
        first, buffers, length = None, [], 0
        async with aclosing(self.channel.receive(method, request, timeout_s)) as replies:
            async for frame in replies:
                reply, data = _split(method, frame)
                first = reply if first is None else first
                buffers.append(data)
                length += len(data)
                if length > limit:
                    raise ShardCorruptError(f"has more than {limit} bytes")
        if first is None:
            raise DriveUnreachableError("the node sent nothing")
        return first, buffers

    async def receive(self, method: Method, request: Any, timeout_s: float) -> AsyncGenerator[Any, None]:
        """Replies without bulk data, one after the other, each within the deadline of the whole call."""
        async with aclosing(self.channel.receive(method, request, timeout_s)) as replies:
            async for reply in replies:
                yield reply

    async def _once(self, call: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """One call, begun again for as long as a node that is busy has not begun with it."""
        give_up = trio.current_time() + timeout_s
        while True:
            try:
                async with self._calls:
                    return await call()
            except NodeBusyError:
                if trio.current_time() > give_up:
                    raise
            await self._pause()

    async def _repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        """Something that only reads: again if it never reached a node, as when one has just been restarted."""
        for _ in range(TRIES - 1):
            try:
                return await self._once(call, self.deadline_s)
            except DriveUnreachableError as error:
                if not never_arrived(error):
                    raise
            await self._pause()
        return await self._once(call, self.deadline_s)

    async def _pause(self) -> None:
        await trio.sleep(PAUSE_S * (1 + self._clock.token(1)[0] / 255))


class Sending:
    """A call on its way that nobody awaits; sent again for as long as a node that is busy has not begun with it.

    send: gets what to call at the end, and whether it was sent before.
    """

    def __init__(
        self,
        send: Callable[[Callable[[OnItsWay], object], bool], OnItsWay],
        timeout_s: float,
        done: Callable[[], object],
    ) -> None:
        self._send: Callable[[Callable[[OnItsWay], object], bool], OnItsWay] | None = send
        """Holds what is sent. None once nobody will send it again: this is part of a cycle, and a shard for each node
        and stripe would stay in memory until Python looks for such."""
        self._now = monotonic_for_threads()
        self._until = self._now() + timeout_s
        self._done = done
        self._guard = threading.Lock()
        self._given_up = False
        self._sent: OnItsWay | None = None
        self._release: Callable[[], object] = bool

    def begin(self, release: Callable[[], object]) -> None:
        """release: called once, in the event loop, when the call no longer counts."""
        self._release = release
        self._once_more(False)

    def _once_more(self, again: bool) -> None:
        with self._guard:
            if self._send is not None:
                self._sent = self._send(self._ended, again)

    def _after_pause(self) -> None:
        try:
            self._once_more(True)
        except (DriveUnreachableError, ValueError, RuntimeError):
            self._done()  # the channel was closed meanwhile, or is just being closed; or no thread is to be had

    def _ended(self, sent: OnItsWay) -> None:
        """In a thread of gRPC's."""
        self._sent = sent  # `_send` may not have returned yet, and what is there be the one that was refused
        if sent.was_busy() and self._now() < self._until and not self._given_up:
            with suppress(RuntimeError):  # no thread is to be had: it has failed, as the node was busy
                threading.Timer(PAUSE_S, self._after_pause).start()
                return
        self._done()

    def result(self) -> Any:
        """Once it is done."""
        self._release()
        self._send = None
        if self._sent is None:
            raise DriveUnreachableError("it was never sent")
        return self._sent.result()

    def give_up(self) -> None:
        self._release()
        with self._guard:
            self._given_up, self._send = True, None
            sent = self._sent
        if sent is not None:
            sent.cancel()


def _messages(method: Method, request: Any, buffers: Sequence[Buffer]) -> Iterator[bytes]:
    message = request
    for piece in frames.pieces(buffers):
        yield frames.join(message, piece)
        message = method.request()


def _split(method: Method, frame: bytes) -> tuple[Any, memoryview]:
    try:
        return frames.split(method.reply, frame)
    except frames.FrameError as error:
        raise DriveUnreachableError(f"the node's answer makes no sense: {error}") from error
