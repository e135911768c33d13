"""The page of a pool in memory, served in the test's own process, and a plain client for it."""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from ecfs.commit.engine import Engine
from ecfs.control.service import Served, Service
from ecfs.control.status import Status
from ecfs.drive.base import Drive
from ecfs.errors import UsageError
from ecfs.heal.healer import Healer
from ecfs.histogram import Histogram
from ecfs.web.listen import Listen
from ecfs.web.server import WebServer
from ecfs.web.view import Source
from tests.memory_pool import MemoryPool

TOKEN = "a-token-that-nobody-guesses"
OURS = {"x-ecfs": "test"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Page:
    """port: where it is served; looks: how often a status was built."""

    engine: Engine
    port: int
    said: list[str]
    looks: int = 0
    requests: dict[str, Histogram] = field(default_factory=dict)
    failures: dict[int, int] = field(default_factory=dict)

    async def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """headers: with _ for -; a Host of None is our own."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await trio.to_thread.run_sync(partial(self._ask, path, method, body, named))

    def _ask(self, path: str, method: str, body: str | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    async def raw(self, data: bytes) -> bytes:
        """What is answered to these bytes until the server hangs up."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            await stream.send_all(data)
            answer = b""
            with trio.move_on_after(20):
                while chunk := await stream.receive_some(65536):
                    answer += chunk
            return answer


def no_drive(url: str, slot: int) -> Drive:
    raise UsageError(f"{url}: not in this test")


async def _not_here(*, force: bool) -> None:
    raise UsageError("not mounted")


def service_of(engine: Engine) -> Service:
    return Service(Served(engine, Healer(engine, no_drive, list), "/mnt", _not_here, lambda slot, old, new: None))


@asynccontextmanager
async def page_of(folder: Path, token: str = "", host: str = "127.0.0.1", name: str = "/pool") -> AsyncIterator[Page]:
    pool = MemoryPool(folder)
    await pool.create()
    async with pool.engine(clean=False) as engine, trio.open_nursery() as nursery:
        page = Page(engine, 0, [])
        service = service_of(engine)
        source = Source(engine, counted(page, service.status), name, page.requests)
        server = WebServer(Listen(host, 0, token), source, service, page.failures)
        await nursery.start(server.run, page.said.append)
        page.port = int(page.said[0].rstrip("/").rpartition(":")[2])
        yield page
        nursery.cancel_scope.cancel()


def counted(page: Page, status: Callable[[], Status]) -> Callable[[], Status]:
    def look() -> Status:
        page.looks += 1
        return status()

    return look
