"""A relay between a client and a node, in a thread of its own: counts bytes, and makes weather."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from functools import partial

import trio

PATIENCE_S = 20
PIECES = 32
"""On their way each way, of up to 64 KiB: a sign of life must not wait behind much more than on a real network."""


class Relay:
    """Listens on `port` and passes everything on to the node at port `target` of `host`.

    delay_s: each piece is passed on so much later. rate: bytes per second each way of a connection,
    0 for any; to be set before it is made. frozen: nothing is passed on, connections stay open (half-open).
    refusing: new connections are closed at once. sent, received: bytes to the node, and from it.
    """

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self.delay_s = 0.0
        self.rate = 0.0
        self.frozen = False
        self.refusing = False
        self.sent = 0
        self.received = 0
        self.port = 0
        self._target = target
        self._host = host
        self._open: set[trio.SocketStream] = set()
        self._up = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), daemon=True)
        self._thread.start()
        assert self._up.wait(PATIENCE_S)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(PATIENCE_S)

    def cut(self) -> None:
        """Break every connection."""
        trio.from_thread.run(self._cut, trio_token=self._token)

    async def _cut(self) -> None:
        for stream in list(self._open):
            await trio.aclose_forcefully(stream)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._scope:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            self._up.set()
            await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, client: trio.SocketStream) -> None:
        if self.refusing:
            return
        try:
            node = await trio.open_tcp_stream(self._host, self._target)
        except OSError:
            return
        if self.rate:
            for stream in (client, node):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    stream.setsockopt(socket.SOL_SOCKET, option, 64 << 10)
        self._open |= {client, node}
        try:
            async with node, trio.open_nursery() as nursery:
                nursery.start_soon(partial(self._pass_on, nursery.cancel_scope, client, node, to_node=True))
                nursery.start_soon(partial(self._pass_on, nursery.cancel_scope, node, client, to_node=False))
        finally:
            self._open -= {client, node}

    async def _pass_on(
        self, scope: trio.CancelScope, source: trio.SocketStream, sink: trio.SocketStream, *, to_node: bool
    ) -> None:
        """What arrives meanwhile is late by as much, not by the sum."""
        send, receive = trio.open_memory_channel[tuple[float, bytes | bytearray]](1 if self.rate else PIECES)
        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(self._deliver, receive, sink, scope)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for data in source:
                    if to_node:
                        self.sent += len(data)
                    else:
                        self.received += len(data)
                    await send.send((trio.current_time() + self.delay_s, data))
        scope.cancel()

    async def _deliver(
        self,
        pieces: trio.MemoryReceiveChannel[tuple[float, bytes | bytearray]],
        sink: trio.SocketStream,
        scope: trio.CancelScope,
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for due, data in pieces:
                await trio.sleep_until(due)
                while self.frozen:
                    await trio.sleep(0.02)
                await sink.send_all(data)
                if self.rate:
                    await trio.sleep(len(data) / self.rate)
            return
        scope.cancel()
