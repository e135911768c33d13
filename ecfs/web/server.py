"""Serving the page: how many may connect, how long each may take, and that no failure of it reaches the mount.

hypercorn's own accept loop would take any number of connections, and send to a client that does not read for as long
as that pleases, even while the daemon ends. So connections are accepted, counted and timed here; hypercorn speaks HTTP
on each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

from ecfs.web.app import Page, make_app
from ecfs.web.listen import Listen
from ecfs.web.metrics import Metrics
from ecfs.web.view import Source, View

_log = logging.getLogger(__name__)

MAX_CLIENTS = 32
BACKLOG = 32
IDLE_S = 15.0
"""How long a connection may say nothing; the page asks every second."""
SEND_S = 10.0
"""How long a client may take to read what it asked for."""
REFUSE_S = 1.0
RETRY_S = 10.0
MAX_HEADERS = 16 * 1024
FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 2\r\nconnection: close\r\n\r\n"


class BusyError(OSError):
    """The address can't be listened on now."""


class WebServer:
    """The page of one mounted pool. `run` returns only when cancelled."""

    def __init__(self, listen: Listen, source: Source, service: Any, failures: Any) -> None:
        """service: the control service; failures: requests of programs that could not be done, by errno."""
        self._listen = listen
        self._view = View(source)
        page = Page(self._view, service, Metrics(self._view, failures), listen, source.pool.clock.token(32))
        self._app = ASGIWrapper(make_app(page))  # type: ignore[arg-type]
        self._clients: set[trio.SocketStream] = set()
        self._refusing = 0

    async def run(self, said: Callable[[str], None], task_status: trio.TaskStatus[None]) -> None:
        """Serve; where that ends with an error, say so once, and begin again a little later.

        said: told where the page is, or why it is not there yet.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, self._view.sample)
            listeners = await self._open(said)
            task_status.started()
            while listeners is None:
                await trio.sleep(RETRY_S)
                listeners = await self._open(_log_only)
            await self._keep(lambda: self._accept(listeners))

    async def _open(self, said: Callable[[str], None]) -> list[trio.SocketListener] | None:
        host, port = self._listen.host, self._listen.port
        try:
            listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
        except OSError as error:
            said(f"the status page can't listen on {self._listen.name} ({error.strerror or error}); trying again")
            return None
        real = Listen(host, listeners[0].socket.getsockname()[1])
        said(f"status page: http://{real.name}/")
        return listeners

    async def _keep(self, work: Callable[[], Any]) -> None:
        """A bug on the page must never end the mount: an unmounted folder looks empty to a program that mirrors it."""
        while True:
            try:
                await work()
            except Exception:
                _log.exception("status page: unexpected error")
            await trio.sleep(RETRY_S)

    async def _accept(self, listeners: list[trio.SocketListener]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hang_up_at_the_end)
            nursery.start_soon(trio.serve_listeners, self._serve, listeners)

    async def _hang_up_at_the_end(self) -> None:
        """Nobody who does not read may keep the daemon from ending: what is sent to them is shielded."""
        try:
            await trio.sleep_forever()
        finally:
            for stream in self._clients:
                stream.socket.close()

    async def _serve(self, stream: trio.SocketStream) -> None:
        if len(self._clients) >= MAX_CLIENTS:
            await self._refuse(stream)
            return
        self._clients.add(stream)
        try:
            await TCPServer(self._app, _config(), WorkerContext(None), {}, Timed(stream))  # type: ignore[arg-type]
        except Exception as error:
            _log.info("status page: a connection ended with %r", error)
        finally:
            self._clients.discard(stream)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _refuse(self, stream: trio.SocketStream) -> None:
        """Say that there are too many; where too many have to be told, hang up without a word."""
        async with stream:
            if self._refusing >= MAX_CLIENTS:
                return
            self._refusing += 1
            try:
                with trio.move_on_after(REFUSE_S), suppress(trio.BrokenResourceError):
                    await stream.receive_some(MAX_HEADERS)  # closing over an unread request would reset the answer
                    await stream.send_all(FULL)
            finally:
                self._refusing -= 1


def _config() -> Config:
    config = Config()
    config.errorlog = _log
    config.keep_alive_timeout = IDLE_S
    config.h11_max_incomplete_size = MAX_HEADERS
    config.h2_max_concurrent_streams = 8
    config.h2_max_header_list_size = MAX_HEADERS
    config.max_app_queue_size = 2
    config.include_server_header = False
    return config


class Timed:
    """A stream on which nothing takes for ever: hypercorn shields what it sends against being cancelled."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket

    async def receive_some(self, max_bytes: int) -> bytes:
        with trio.move_on_after(IDLE_S):
            return bytes(await self._stream.receive_some(max_bytes))
        return b""

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(SEND_S):
            await self._stream.send_all(data)
            return
        await trio.aclose_forcefully(self._stream)
        raise trio.BrokenResourceError("the client does not read")

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _log_only(text: str) -> None:
    _log.info("%s", text)
