"""The addresses of the page: what each answers. All of it comes from memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Protocol

import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ecfs.control import protocol
from ecfs.control.failure import expected
from ecfs.web.guard import COOKIE, Guard, cookie_of, same
from ecfs.web.history import RINGS
from ecfs.web.listen import Listen
from ecfs.web.metrics import Metrics
from ecfs.web.view import View

EVENTS = 50
MAX_BODY = 4096
BODY_S = 5.0
WRONG_TOKEN_S = 1.0
"""What a wrong token costs whoever tries it."""
TRIES_AT_ONCE = 4
ACTIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "start": ("scrub", {"background": True}),
    "pause": ("scrub_pause", {}),
    "resume": ("scrub_resume", {}),
    "cancel": ("scrub_cancel", {}),
}
"""Buttons, and what each asks of the control service: nothing else can be asked for from here."""
TYPES = {
    "html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}  # fmt: skip


class Answering(Protocol):
    """The part of the control service that the buttons need."""

    async def call(self, request: protocol.Request, show: Callable[[object], None]) -> Any: ...


@dataclass
class Page:
    """The endpoints. secret: random, of this process."""

    view: View
    service: Answering
    metrics: Metrics
    listen: Listen
    secret: bytes
    _tries: int = field(default=0, init=False)

    async def index(self, request: Request) -> Response:
        return self._file("index.html")

    async def static(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        data, kind = STATIC.get(name, (None, ""))
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type=kind, headers={"cache-control": "no-cache"})

    async def show(self, request: Request) -> Response:
        """The status, the words for it, the newest events, and the plot's points after number `after`."""
        ring, after = request.query_params.get("ring", "minutes"), request.query_params.get("after", "0")
        if ring not in RINGS or not after.isascii() or not after.isdigit() or len(after) > 12:
            return _json({"error": f"ring must be one of {', '.join(RINGS)}, after a number"}, 400)
        events = await self.service.call(protocol.Request(protocol.VERSION, "events", {"limit": EVENTS}), _nobody)
        return _json({**self.view.page(ring, int(after)), "events": events})

    async def prometheus(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def act(self, request: Request) -> Response:
        """Do what a button says. 409 with the reason where the pool refuses."""
        method, params = ACTIONS.get(request.path_params["action"], ("", {}))
        if not method:
            raise HTTPException(404)
        try:
            await self.service.call(protocol.Request(protocol.VERSION, method, params), _nobody)
        except Exception as error:
            known = expected(error)
            if known is None:
                raise
            return _json({"error": str(known)}, 409)
        return _json({})

    async def login(self, request: Request) -> Response:
        """A cookie for whoever knows the token. Guessing is slow, and slows down nobody but the guessers."""
        if self._tries >= TRIES_AT_ONCE:
            return _json({"error": "too many at once: try again in a moment"}, 429)
        self._tries += 1
        try:
            shown = await _token_in(request)
            if not self.listen.token or not same(shown, self.listen.token):
                await trio.sleep(WRONG_TOKEN_S)
                return _json({"error": "this is not the token"}, 403)
        finally:
            self._tries -= 1
        answer = _json({})
        answer.set_cookie(COOKIE, cookie_of(self.listen.token, self.secret), httponly=True, samesite="strict")
        return answer


def make_app(page: Page) -> ASGIApp:
    """Everything behind its guard."""
    routes = [
        Route("/", page.index),
        Route("/static/{name}", page.static),
        Route("/api/view", page.show),
        Route("/api/scrub/{action}", page.act, methods=["POST"]),
        Route("/api/login", page.login, methods=["POST"]),
        Route("/metrics", page.prometheus),
    ]
    app = Starlette(routes=routes, exception_handlers={Exception: _unexpected})
    return Guard(app, listen=page.listen, secret=page.secret)


def _load() -> dict[str, tuple[bytes, str]]:
    """The page's own files, read once: nothing that is asked for later opens one."""
    folder = files("ecfs.web") / "static"
    return {
        each.name: (each.read_bytes(), TYPES[each.name.rpartition(".")[2]])
        for each in folder.iterdir()
        if each.is_file()
    }


STATIC = _load()


async def _token_in(request: Request) -> str:
    """The token of a request, "" where there is none."""
    try:
        return msgspec.json.decode(await _body(request), type=dict[str, str]).get("token", "")
    except (msgspec.MsgspecError, RecursionError):
        return ""


async def _body(request: Request) -> bytes:
    """What was sent, b"" if that is too long or takes too long."""
    data = bytearray()
    with trio.move_on_after(BODY_S), suppress(ClientDisconnect):
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                data += chunk
                if len(data) > MAX_BODY:
                    return b""
        return bytes(data)
    return b""


async def _unexpected(request: Request, error: Exception) -> Response:
    return PlainTextResponse("internal error; the daemon's log says more\n", 500)


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _nobody(progress: object) -> None:
    """The page asks for progress by itself."""
