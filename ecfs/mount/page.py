"""The status page beside a mount: checked before anything is mounted, served until the folder is unmounted."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ecfs.control.hook import Hook
from ecfs.control.service import Service
from ecfs.errors import UsageError
from ecfs.fuse import FAILURES, REQUESTS
from ecfs.mount.options import MountOptions
from ecfs.mount.patience import Tell
from ecfs.mount.volume import Volume
from ecfs.web.listen import Listen, plan_listen

if TYPE_CHECKING:
    from ecfs.web.server import WebServer

LIBRARIES = ("starlette", "hypercorn", "prometheus_client")


def plan_page(options: MountOptions) -> Listen | None:
    """Where to serve it; None if it is not wanted. Raises UsageError."""
    if not options.web:
        if options.web_token_file:
            raise UsageError("a token without a page: say where with --web 127.0.0.1:8630")
        return None
    listen = plan_listen(options.web, options.web_token_file)
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise UsageError(f"the status page needs {library}: pip install 'ecfs[web]'")
    return listen


@dataclass(frozen=True)
class Shown:
    """What the page is of. name: the pool as one would type it; hook: what is told of events, if there is one."""

    volume: Volume
    service: Service
    name: str
    hook: Hook | None


@asynccontextmanager
async def serve_page(listen: Listen | None, shown: Shown, say: Tell) -> AsyncIterator[None]:
    """Serve it for the time of the block."""
    if listen is None:
        yield
        return
    server = _server(listen, shown)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, say)
        yield
        nursery.cancel_scope.cancel()


def _server(listen: Listen, shown: Shown) -> WebServer:
    from ecfs.web.server import WebServer
    from ecfs.web.view import Source

    source = Source(shown.volume.engine, shown.service.status, shown.name, REQUESTS, shown.hook)
    return WebServer(listen, source, shown.service, FAILURES)
