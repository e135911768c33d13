"""gRPC calls under trio. grpcio has threads and callbacks but no trio mode: a call's end is handed to the event loop.

A call that is cancelled here is cancelled on the wire, so that the node gives it up, too.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import trio

from ecfs.errors import DriveTimeoutError, DriveUnreachableError
from ecfs.rpc.credentials import client_credentials
from ecfs.rpc.exchange import Exchange, give_thread, lacks_its_thread
from ecfs.rpc.limits import CLIENT_OPTIONS
from ecfs.rpc.methods import Method, deserializer, serializer
from ecfs.rpc.status import error_of, is_busy, was_said_by_node
from ecfs.rpc.tls import TlsFiles

STREAM_THREADS = 8
"""Streams of replies that one channel reads at a time, each with a thread; everything else needs none."""

CLOSED = "the connection was closed"


class Channel:
    """A connection to one node, made when it is first needed and again whenever it breaks.

    address: HOST:PORT. Raises the errors of `status.error_of`, without slot and key.
    """

    def __init__(self, address: str, tls: TlsFiles | None) -> None:
        if tls is None:
            self._channel = grpc.insecure_channel(address, options=CLIENT_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, client_credentials(tls), options=CLIENT_OPTIONS)
        self.closed = False
        self._lacks_thread = False
        self._guard = threading.Lock()
        self._threads = trio.CapacityLimiter(STREAM_THREADS)
        self._stubs: dict[tuple[str, bool], Any] = {}

    def close(self) -> None:
        """Ends every call that is on its way."""
        self.closed = True
        _to_be_closed.append(self)
        with suppress(RuntimeError):  # no thread is to be had, without which it would wait for ever: with the next one
            while _to_be_closed:
                _to_be_closed[-1]._get_thread()
                _to_be_closed.pop()._channel.close()

    async def unary(self, method: Method, request: Any, timeout_s: float) -> Any:
        """One message there, one back. Also of a method that streams, where one is enough: the wire is the same."""
        return await _result(self._begun(lambda: self._stub(method, False).future(request, timeout=timeout_s)))

    def begin(self, method: Method, request: Any, timeout_s: float, done: Callable[[Sent], object]) -> Sent:
        """`unary` for a caller that does not wait: done() is called in a thread of gRPC's when it has ended."""
        sent = Sent(self._begun(lambda: self._stub(method, False).future(request, timeout=timeout_s)))
        sent.future.add_done_callback(lambda _: done(sent))
        return sent

    async def send(self, method: Method, requests: Iterable[Any], timeout_s: float) -> Any:
        """Several messages there, one back."""
        return await _result(self._begun(lambda: self._stub(method, True).future(iter(requests), timeout=timeout_s)))

    async def receive(self, method: Method, request: Any, timeout_s: float) -> AsyncGenerator[Any, None]:
        """One message there, several back. A generator: who stops early closes it."""
        call = self._begun(lambda: self._stub(method, True)(request, timeout=timeout_s))
        stream = Stream(call, self._threads)
        try:
            while (reply := await stream.next()) is not None:
                yield reply
        finally:
            stream.cancel()

    def open(self, method: Method, request: Any) -> Stream:
        """A stream of replies that stays open until it is cancelled."""
        return Stream(self._begun(lambda: self._stub(method, True)(request)), self._threads)

    def converse(self, method: Method, timeout_s: float) -> Exchange:
        """Several messages there and several back. For `Conversations`."""
        if self.closed:
            raise DriveUnreachableError(CLOSED)
        return Exchange(self._channel, method.path, timeout_s)

    def _begun(self, begin: Callable[[], Any]) -> Any:
        """A call. Where the system has no thread for it, RuntimeError, and nothing that waits for ever."""
        self._get_thread()
        try:
            return begin()
        except RuntimeError as error:
            self._lacks_thread = lacks_its_thread(error)
            raise

    def _get_thread(self) -> None:
        """What it lacks. Only one: a second thread would still be there when the channel is closed."""
        with self._guard:
            if self._lacks_thread:
                give_thread(self._channel)
                self._lacks_thread = False

    def _stub(self, method: Method, streams: bool) -> Any:
        if self.closed:  # while the call waited for its turn. gRPC's own ValueError would end the mount
            raise DriveUnreachableError(CLOSED)
        key = (method.path, streams)
        if key not in self._stubs:
            make = self._maker(method) if streams else self._channel.unary_unary
            self._stubs[key] = make(method.path, serializer(method.request), deserializer(method.reply))
        return self._stubs[key]

    def _maker(self, method: Method) -> Callable[..., Any]:
        if method.client_streams and method.server_streams:
            return self._channel.stream_stream
        return self._channel.stream_unary if method.client_streams else self._channel.unary_stream


_to_be_closed: list[Channel] = []


class Stream:
    """Replies that come one after the other. Reading one takes a thread, waiting for none."""

    def __init__(self, call: Any, threads: trio.CapacityLimiter) -> None:
        self._call = call
        self._threads = threads

    async def next(self) -> Any:
        """The next reply, None at the end."""
        try:
            return await trio.to_thread.run_sync(_next, self._call, abandon_on_cancel=True, limiter=self._threads)
        except grpc.RpcError as error:
            raise translated(error) from error
        except trio.Cancelled:
            self._call.cancel()  # which also lets the thread go
            raise

    def when_ended(self, tell: Callable[[], None]) -> bool:
        """Call tell() in the event loop once the stream has ended, whoever ended it. False if it has already."""
        token = trio.lowlevel.current_trio_token()
        return bool(self._call.add_callback(lambda: _tell(token, tell)))

    def cancel(self) -> None:
        self._call.cancel()


def _next(call: Iterator[Any]) -> Any:
    return next(call, None)


def _tell(token: trio.lowlevel.TrioToken, tell: Callable[[], None]) -> None:
    try:
        token.run_sync_soon(tell)
    except trio.RunFinishedError:
        return  # the program ends; nobody waits any more


class OnItsWay(Protocol):
    """Something that was sent, and may have ended."""

    def was_busy(self) -> bool:
        """Has it ended because the node had too much to do to begin with it?"""

    def result(self) -> Any:
        """Once it has ended."""

    def cancel(self) -> None:
        """Nobody waits for it any more."""


@dataclass(frozen=True)
class Sent:
    """A call on its way, or ended (`OnItsWay`)."""

    future: Any

    def was_busy(self) -> bool:
        code = None if self.future.cancelled() else self.future.code()
        return code is grpc.StatusCode.RESOURCE_EXHAUSTED and is_busy(self.future.trailing_metadata())

    def result(self) -> Any:
        try:
            return self.future.result()
        except grpc.FutureCancelledError as error:
            raise DriveUnreachableError(CLOSED) from error
        except grpc.RpcError as error:
            raise translated(error) from error

    def cancel(self) -> None:
        self.future.cancel()


async def _result(future: Any) -> Any:
    """What a call returns, without blocking the event loop and without a thread."""
    ended = trio.Event()
    token = trio.lowlevel.current_trio_token()
    future.add_done_callback(lambda _: _tell(token, ended.set))
    try:
        await ended.wait()
    except trio.Cancelled:
        future.cancel()
        raise
    return Sent(future).result()


def translated(error: Any) -> Exception:
    return error_of(error.code(), error.details() or "", error.trailing_metadata())


def never_arrived(error: BaseException) -> bool:
    """Whether a failed call may be repeated if it only reads: no node has answered, and there may be time left."""
    cause = error.__cause__
    if not isinstance(error, DriveUnreachableError) or isinstance(error, DriveTimeoutError):
        return False
    return isinstance(cause, grpc.RpcError) and not was_said_by_node(cause.trailing_metadata())
