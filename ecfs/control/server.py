"""The control socket: who may connect, how much they may send, and that nothing they do hurts the daemon."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio

from ecfs.control.failure import expected, leaves
from ecfs.control.protocol import MAX_LINE, Request, error_line, line, read_request
from ecfs.control.service import Service
from ecfs.errors import EcfsError, RefusedError, UsageError

_log = logging.getLogger(__name__)

MAX_CLIENTS = 32
REQUEST_S = 10.0
"""How long a client may take to send its line."""
ANSWER_S = 30.0
"""How long it may take to read one of ours."""
PROGRESS_S = 0.1
FAREWELL_S = 1.0
GONE = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
"""The client is gone, and so is its wish."""
_CREDENTIALS = struct.Struct("3i")


class ControlServer:
    """Listens until cancelled. Start `run` in a nursery that outlives the engine, so that the end can be reported."""

    def __init__(self, service: Service, path: Path) -> None:
        self._service = service
        self._path = path
        self._clients = 0
        self._idle = trio.Event()
        self._idle.set()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        self._path.unlink(missing_ok=True)
        listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with listener:
            await listener.bind(str(self._path))
            os.chmod(self._path, 0o600)  # its directory is private, so nobody was faster
            listener.listen(4 * MAX_CLIENTS)
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    await self._accept(listener, nursery)

    async def _accept(self, listener: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        try:
            client, _ = await listener.accept()
        except OSError as error:
            # Out of descriptors, or the client left while it waited. Neither may end the daemon, nor make it spin.
            _log.warning("control socket: %s", error)
            await trio.sleep(0.1)
            return
        nursery.start_soon(self._serve, trio.SocketStream(client))

    async def finish(self, *, clean: bool) -> None:
        """The engine is closed: tell those who asked for it, and give them a moment to read it."""
        self._service.finished(clean=clean)
        with trio.move_on_after(FAREWELL_S):
            await self._idle.wait()

    async def _serve(self, stream: trio.SocketStream) -> None:
        self._clients += 1
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        try:
            async with stream:
                await self._answer(stream)
        except Exception as error:
            if any(not isinstance(leaf, GONE) for leaf in leaves(error)):
                _log.exception("control socket: unexpected error")
        finally:
            self._clients -= 1
            if not self._clients:
                self._idle.set()

    async def _answer(self, stream: trio.SocketStream) -> None:
        try:
            self._check_client(stream.socket)
            request = read_request(await _read_line(stream))
            answer = await self._work(stream, request)
        except Exception as error:
            answer = _refusal(error)
        await _send(stream, answer)
        await _take_leave(stream)

    async def _work(self, stream: trio.SocketStream, request: Request) -> bytes:
        """The line that answers; b"" if the client left before."""
        answer = b""
        async with trio.open_nursery() as nursery:
            progress = _Progress(stream)
            nursery.start_soon(progress.run)
            nursery.start_soon(_give_up_when_closed, stream, nursery.cancel_scope)
            answer = line("result", await self._service.call(request, progress.show))
            nursery.cancel_scope.cancel()
        return answer

    def _check_client(self, client: trio.socket.SocketType) -> None:
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        if uid not in (0, os.geteuid()):
            raise RefusedError("only root and the user who mounted the pool may do this")
        if self._clients > MAX_CLIENTS:
            raise RefusedError(f"{MAX_CLIENTS} commands are talking to this daemon already: try again later")


class _Progress:
    """Sends the newest progress, at most a few times per second; what the client is too slow for is skipped."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._newest: Callable[[], object] = lambda: None
        self._changed = trio.Event()

    def show(self, value: Callable[[], object]) -> None:
        """value: called when it is sent."""
        self._newest = value
        self._changed.set()

    async def run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            # Whole, or the next line would begin in the middle of this one.
            with trio.CancelScope(shield=True):
                await _send(self._stream, line("progress", self._newest()))
            await trio.sleep(PROGRESS_S)


async def _read_line(stream: trio.SocketStream) -> bytes:
    """Up to the first newline. Raises UsageError if it is too long, too slow, or never comes."""
    data = bytearray()
    with trio.move_on_after(REQUEST_S):
        while b"\n" not in data:
            chunk = await stream.receive_some(4096)
            if not chunk:
                raise UsageError("the connection was closed in the middle of a request")
            data += chunk
            if len(data) > MAX_LINE:
                raise UsageError(f"a request may have at most {MAX_LINE} bytes")
        return bytes(data.partition(b"\n")[0])
    raise UsageError(f"no request within {REQUEST_S:g} s")


async def _give_up_when_closed(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError):
        await stream.receive_some(1)  # there is nothing more to say: this is the end of the connection
    scope.cancel()


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    """Raises TooSlowError for a client that does not read, so that it can't hold memory and a place for ever."""
    if data:
        with trio.fail_after(ANSWER_S):
            await stream.send_all(data)


async def _take_leave(stream: trio.SocketStream) -> None:
    """Read what the client sent too much: closing over unread bytes would reset the connection, and it would lose the
    answer."""
    await stream.send_eof()
    left = 16 * MAX_LINE
    with trio.move_on_after(FAREWELL_S):
        while left > 0 and (data := await stream.receive_some(4096)):
            left -= len(data)


def _refusal(error: Exception) -> bytes:
    known = expected(error)
    if known is None:
        _log.error("control socket: unexpected error", exc_info=error)
        known = EcfsError(f"internal error ({type(error).__name__}); the daemon's log says more; please report it")
    return error_line(known)
