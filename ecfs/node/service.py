"""From gRPC's threads to `Served` and back: decoding, limits, cancellation, errors. Knows no method by its meaning.

Each call has a thread of gRPC's, which waits while the node's event loop does the work. A client that gives up, or is
gone, cancels that work. Whatever goes wrong, the client gets a status and one line, never a traceback.
"""

from __future__ import annotations

import inspect
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from functools import partial
from typing import Any, NoReturn, TypeVar

import grpc
import trio
from google.protobuf.message import DecodeError

from ecfs.errors import EcfsError, UsageError
from ecfs.node.guard import Guard, OverloadedError
from ecfs.node.standing import Standing
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc import frames
from ecfs.rpc.limits import CHUNK, MAX_CALL_S, MAX_DATA, MAX_LISTING_S
from ecfs.rpc.methods import Method, as_it_is
from ecfs.rpc.served_exchange import Hearing, ServedExchange
from ecfs.rpc.status import BUSY, MARK, code_of

T = TypeVar("T")
Context = Any
"""grpc.ServicerContext."""

HOLDING = {"Attach": 15.0, "Create": 40.0}
"""Their streams stay open for as long as the client has the drive. Seconds until it must have taken the first reply;
making a drive may take 30."""
CHANGING = frozenset({"WriteBlob", "Prepare", "Put", "Delete", "Sync", "Append"})
READING = frozenset({"ReadBlob", "Read", "Verify", "Check", "Fetch"})
"""What they read is counted as memory, as data that comes in is."""
SPOKEN = {"Appends": "Append", "Puts": "Put", "Reads": "Read"}
"""Methods whose every message is a call of another one."""
SHORT = frozenset({"Appends"})
"""Those of them whose work is less than waking another thread for it."""
ENTRIES = 1000
"""Entries of a listing in one message."""

_log = logging.getLogger(__name__)


class GoneError(Exception):
    """Nobody waits for the answer any more."""


class Service:
    """The methods of one gRPC service, each an async method of `target` named like it, in snake_case."""

    def __init__(self, target: Any, methods: dict[str, Method], guard: Guard, token: trio.lowlevel.TrioToken) -> None:
        self._target = target
        self._methods = methods
        self._guard = guard
        self._token = token
        self.standing = Standing()
        self.hearing: Hearing | None = None
        """Of the server, once it has started: whose thread does what is `SHORT`."""

    def handler(self) -> grpc.GenericRpcHandler:
        name = next(iter(self._methods.values())).service
        handlers = {method.name: self._handler(method) for method in self._methods.values()}
        return grpc.method_handlers_generic_handler(name, handlers)

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        """All messages arrive and leave as bytes: what can't be decoded is refused here, not by gRPC's own log.

        Every method takes a stream, also of one message: gRPC would wait for a single one in the call's thread, before
        the call was admitted and whether or not it has a deadline, and whoever sends none could take all threads.
        """
        if method.name in SPOKEN:
            return grpc.stream_stream_rpc_method_handler(self._conversing(method), as_it_is, as_it_is)
        work = getattr(self._target, _snake(method.name))
        if method.client_streams:
            return grpc.stream_unary_rpc_method_handler(self._taking(method, work), as_it_is, as_it_is)
        if not method.server_streams:
            return grpc.stream_unary_rpc_method_handler(self._simple(method, work), as_it_is, as_it_is)
        giving = self._holding if method.name in HOLDING else self._listing if method.name == "List" else self._giving
        return grpc.stream_stream_rpc_method_handler(giving(method, work), as_it_is, as_it_is)

    # ---- shapes of calls --------------------------------------------------------------------------------------------

    def _simple(self, method: Method, work: Callable[..., Any]) -> Callable[[Iterator[bytes], Context], bytes]:
        def answer(incoming: Iterator[bytes], context: Context) -> bytes:
            with _answering(context), self._admitted(context):
                request = _decode(method, _first(incoming))
                with self._memory_for(method, request):
                    return bytes(self._do(method, context, request, work, request).SerializeToString())

        return answer

    def _taking(self, method: Method, work: Callable[..., Any]) -> Callable[[Iterator[bytes], Context], bytes]:
        """Data comes in: its length first, then as much of it as was announced."""

        def answer(incoming: Iterator[bytes], context: Context) -> bytes:
            with _answering(context), self._admitted(context):
                request, data = frames.split(method.request, _first(incoming))
                length = getattr(request, "length", 0)
                if length > MAX_DATA:
                    raise UsageError(f"more than {MAX_DATA} bytes of data in one call")
                with self._guard.memory(max(0, length - len(data))):
                    buffers = _collect(method, frames.Assembly(length), data, incoming)
                    return bytes(self._do(method, context, request, work, request, buffers).SerializeToString())

        return answer

    def _giving(
        self, method: Method, work: Callable[..., Any]
    ) -> Callable[[Iterator[bytes], Context], Iterator[bytes]]:
        """Data goes out, in messages of at most 4 MiB."""

        def answer(incoming: Iterator[bytes], context: Context) -> Iterator[bytes]:
            with _answering(context), self._admitted(context):
                request = _decode(method, _first(incoming))
                with self._memory_for(method, request):
                    reply, buffers = self._do(method, context, request, work, request)
                    for piece in frames.pieces(buffers):
                        yield frames.join(reply, piece)
                        reply = method.reply()

        return answer

    def _listing(
        self, method: Method, work: Callable[..., Any]
    ) -> Callable[[Iterator[bytes], Context], Iterator[bytes]]:
        def answer(incoming: Iterator[bytes], context: Context) -> Iterator[bytes]:
            with _answering(context), self._admitted(context, MAX_LISTING_S):
                entries = work(_decode(method, _first(incoming)))
                try:
                    while chunk := self._run(context, lambda: _some(entries)):
                        yield pb.ListReply(entries=chunk).SerializeToString()
                finally:
                    self._run(None, lambda: _close(entries))

        return answer

    def _holding(
        self, method: Method, work: Callable[..., Any]
    ) -> Callable[[Iterator[bytes], Context], Iterator[bytes]]:
        """The first reply says what is attached; then the stream stays open until either side ends it.

        It has no deadline. Until the reply is taken there are few, none of them for long: whoever sends no message, or
        takes no reply, would keep a thread for ever. One stream at a time goes beyond that.
        """

        seconds = HOLDING[method.name]

        def answer(incoming: Iterator[bytes], context: Context) -> Iterator[bytes]:
            with _answering(context):
                hold = None
                try:
                    with self._guard.coming(), ended_after(seconds, context):
                        request = _decode(method, _first(incoming))
                        reply, hold = self._run(context, lambda: work(request))
                        yield reply.SerializeToString()
                    if hold is not None:
                        self._run(context, hold.ended.wait)
                finally:
                    if hold is not None:
                        self._soon(partial(self._target.release, hold))

        return answer

    def _conversing(self, method: Method) -> Callable[[Iterator[bytes], Context], Iterator[bytes]]:
        """Each message is answered before the next one is read; an error of ours is the answer and ends nothing."""

        spoken = self._methods[SPOKEN[method.name]]
        work = getattr(self._target, _snake(spoken.name))

        def answer(incoming: Iterator[bytes], context: Context) -> Iterator[bytes]:
            def answer_one(frame: bytes) -> bytes:
                self._guard.message(client)
                return self._answer_one(method, spoken, work, frame)

            with (
                _answering(context),
                self._guard.call(client := client_name(context), context.time_remaining(), standing=True),
            ):
                exchange = ServedExchange(context, answer_one, self.hearing if method.name in SHORT else None)
                with self.standing.call(exchange):
                    exchange.serve()
            yield from ()

        return answer

    def _answer_one(self, method: Method, spoken: Method, work: Callable[..., Any], frame: bytes) -> bytes:
        request: Any
        reply: Any
        request, data = frames.split(method.request, frame)
        found: list[bytes] = []
        try:
            if spoken.client_streams:
                if len(data) != request.length:
                    raise frames.FrameError("not as much data as was announced")
                with self._target.changing(request.caller):
                    reply = work(request, [data])
            else:
                if self._target.memory_for(request) > CHUNK:
                    raise UsageError(f"an answer has {CHUNK} bytes at most")
                reply, found = work(request)
            if not isinstance(reply, method.reply):
                reply = method.reply()
        except EcfsError as error:
            name, _, text = code_of(error)
            reply, found = method.reply(error=name, text=text), []
        reply.number = request.number if spoken.name != "Append" else (request.offset + request.length) % (1 << 64)
        return frames.join(reply, found) if found else bytes(reply.SerializeToString())

    # ---- what they share --------------------------------------------------------------------------------------------

    def _admitted(self, context: Context, most_s: float = MAX_CALL_S) -> AbstractContextManager[None]:
        return self._guard.call(client_name(context), context.time_remaining(), most_s)

    def _memory_for(self, method: Method, request: Any) -> AbstractContextManager[None]:
        """Room for what the call reads beyond one message, held until the client has taken the answer."""
        beyond = self._target.memory_for(request) - CHUNK if method.name in READING else 0
        return self._guard.memory(beyond) if beyond > 0 else nullcontext()

    def _do(self, method: Method, context: Context, request: Any, work: Callable[..., Any], *arguments: Any) -> Any:
        """work(…), in the event loop if it is async, else here; admitted as a change if it is one."""
        with self._target.changing(request.caller) if method.name in CHANGING else nullcontext():
            if inspect.iscoroutinefunction(work):
                return self._run(context, lambda: work(*arguments))
            return work(*arguments)

    def _run(self, context: Context | None, work: Callable[[], Awaitable[T]]) -> T:
        """Run work() in the event loop, cancelled when the client gives up. Raises GoneError then."""
        scope = trio.CancelScope()

        async def call() -> T:
            with scope:
                return await work()
            raise GoneError

        if context is not None and not context.add_callback(lambda: self._soon(scope.cancel)):
            raise GoneError
        try:
            return trio.from_thread.run(call, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled) as error:
            raise GoneError from error

    def _soon(self, call: Callable[[], object]) -> None:
        try:
            self._token.run_sync_soon(call)
        except trio.RunFinishedError:
            return


def client_name(context: Context) -> str:
    """Whom limits are counted for: the name in the client's certificate, else its address without the port."""
    names = context.auth_context().get("x509_common_name")
    if names:
        return str(names[0].decode(errors="replace"))
    return str(context.peer()).rpartition(":")[0]


@contextmanager
def ended_after(seconds: float, context: Context) -> Iterator[None]:
    """Break the call off if the block takes longer. Not for every call: this takes a thread."""
    patience = threading.Timer(seconds, context.cancel)
    patience.daemon = True
    patience.start()
    try:
        yield
    finally:
        patience.cancel()


@contextmanager
def _answering(context: Context) -> Iterator[None]:
    """Let no exception out but gRPC's own way to end a call."""
    try:
        yield
    except EcfsError as error:
        name, code, text = code_of(error)
        context.set_trailing_metadata(((MARK, name),))
        _end(context, code, text)
    except (frames.FrameError, DecodeError):
        _log.warning("%s sent what is no message", client_name(context))
        _end(context, grpc.StatusCode.INVALID_ARGUMENT, "not a message of this protocol")
    except OverloadedError as error:
        # Its text only: the error leads to the call, and gRPC counts the stream of one that is still referred to.
        _log.warning("%s: %s", client_name(context), str(error))
        context.set_trailing_metadata(((MARK, BUSY),))
        _end(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
    except (GoneError, grpc.RpcError):
        _end(context, grpc.StatusCode.CANCELLED, "nobody waited for the answer")
    except GeneratorExit:
        raise  # the client left in the middle of a stream
    except Exception:
        _log.exception("a call failed")
        _end(context, grpc.StatusCode.INTERNAL, "internal error; the node's log says more")


def _end(context: Context, code: grpc.StatusCode, text: str) -> NoReturn:
    """Raises gRPC's own exception, without ours as its cause: gRPC would log both."""
    context.abort(code, text)
    raise AssertionError


def _first(incoming: Iterator[bytes]) -> bytes:
    """The first message of a call, or its only one."""
    frame = next(incoming, None)
    if frame is None:
        raise UsageError("a call without a message")
    return frame


def _decode(method: Method, frame: bytes) -> Any:
    return method.request.FromString(frame)


def _collect(
    method: Method, assembly: frames.Assembly, data: memoryview, incoming: Iterator[bytes]
) -> list[memoryview]:
    """All data of a call. Stops reading at the first message too many."""
    assembly.add(data)
    for frame in incoming:
        _, more = frames.split(method.request, frame)
        if not len(more):
            raise frames.FrameError("a message without data")
        assembly.add(more)
    return assembly.finish()


async def _some(entries: Any) -> list[pb.Entry]:
    chunk: list[pb.Entry] = []
    async for entry in entries:
        chunk.append(entry)
        if len(chunk) == ENTRIES:
            break
    return chunk


async def _close(entries: Any) -> None:
    async with aclosing(entries):
        return


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
