"""Who is let in. Every response of the page passes through here.

What it stands against, and how:

* *DNS rebinding*: a page of evil.example, whose name leads to 127.0.0.1 a moment later, would have our page for its
  own. Without a token only the names of loopback are answered. With one any name is, because a browser shows the
  cookie of our name to no other.
* *CSRF*: another page makes the browser ask for something. What changes anything needs a header that a foreign page
  can't set without asking us first, which we never allow; Origin and Sec-Fetch-Site must be our own where they are
  sent.
* *Injection*: no script, style or frame but our own files; texts are put into the page as texts only.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecfs.web.listen import Listen

_log = logging.getLogger(__name__)

HEADER = "x-ecfs"
"""Of every request that changes anything; its value does not matter."""
COOKIE = "ecfs"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE = frozenset({"GET", "HEAD"})
OPEN = ("/api/login", "/static/")
"""What needs no token: the door, and files that are the same everywhere."""
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]*)?")
_SECURITY = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware in front of everything."""

    def __init__(self, app: ASGIApp, *, listen: Listen, secret: bytes) -> None:
        """secret: random, of this process; cookies are void when it ends."""
        self._app = app
        self._token = listen.token
        self._cookie = cookie_of(listen.token, secret)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_SECURITY)
            await send(message)

        refused = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        try:
            await (refused or self._app)(scope, receive, send_with_headers)
        except Exception:
            # It was answered already; further out it would only be logged again.
            _log.exception("status page: %s: unexpected error", scope["path"])

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        if not self._token and host_of(headers) not in LOOPBACK:
            return _no(421, "ask for this page as 127.0.0.1 or localhost: another name could be somebody else's")
        if not _is_our_own(method, path, headers):
            return _no(403, f"this must come from the page itself, with the header {HEADER}")
        if path == "/" or path.startswith(OPEN) or self._shows_token(headers):
            return None
        return _no(401, "a token is needed", {"www-authenticate": "Bearer"})

    def _shows_token(self, headers: Headers) -> bool:
        if not self._token:
            return True
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and same(shown.strip(), self._token):
            return True
        return same(_cookies(headers).get(COOKIE, ""), self._cookie)


def cookie_of(token: str, secret: bytes) -> str:
    """What a viewer who has shown the token gets."""
    return hashlib.blake2b(token.encode(), key=secret, digest_size=24).hexdigest()


def same(shown: str, wanted: str) -> bool:
    """Compared in a time that tells nothing."""
    return hmac.compare_digest(shown.encode(), wanted.encode())


def host_of(headers: Headers) -> str:
    """The name that was asked for, without its port; "" where there is none or more than one."""
    hosts = headers.getlist("host")
    found = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    return found["name"].strip("[]") if found else ""


def _is_our_own(method: str, path: str, headers: Headers) -> bool:
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin")
    ours = origin is None or urlsplit(origin).netloc == headers.get("host")
    if method not in SAFE:
        return bool(headers.get(HEADER)) and ours and site in ("", "same-origin")
    return path == "/" or (ours and site in ("", "same-origin", "none"))


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        parsed: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in parsed.items()}


def _no(status: int, text: str, headers: dict[str, Any] | None = None) -> Response:
    return PlainTextResponse(text + "\n", status, headers)
