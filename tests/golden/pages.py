"""What the status page says of a status, read off a real Chromium: everything that is visible, line by line."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ecfs.control.status import event_json
from ecfs.pool.members import Event
from ecfs.web.app import STATIC
from ecfs.web.history import Ring, Totals
from ecfs.web.view import told
from tests.golden.states import NOW, STATES, Status
from tests.web.browser import Browser, chromium, until

FOLDER = Path(__file__).parent / "pages"
PAGES = {name: status for name, status in STATES.items() if status["pool"]["mountpoint"]}
"""Only the daemon of a mounted pool serves a page."""
ALIKE = "--lang=en-US"
"""Numbers as in every other golden file, wherever the test runs. Times of day follow $TZ, so none is among them."""


def view_of(status: Status) -> dict[str, Any]:
    """What the daemon would answer: an hour ago it was mounted, and somebody has just written 5 MiB."""
    ring = Ring(2.0, 10)
    for second in (0, 2, 4):
        totals = Totals(second, NOW - 4 + second, 0, (5 << 20) * (second // 4), {"write": [0] * 28}, [[]] * 6)
        ring.add(totals)
    events = [event_json(Event((NOW - 3600) * 10**9, None, "open", "opened for writing"))]
    return {**told(status, status["pool"]["path"], NOW), "points": ring.after(0), "events": events}


class _Answers(http.server.BaseHTTPRequestHandler):
    """The page's own files, and the view of one status."""

    def __init__(self, view: bytes, *arguments: Any) -> None:
        self._view = view
        super().__init__(*arguments)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/view":
            self._answer(self._view, "application/json")
        else:
            self._answer(*STATIC[path.rpartition("/")[2] or "index.html"])

    def _answer(self, data: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silence."""


@contextmanager
def served(status: Status) -> Iterator[str]:
    """The address of the page of a pool in this state."""
    handler = functools.partial(_Answers, json.dumps(view_of(status)).encode())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


READ = """
for (const each of document.querySelectorAll('time, #version, figure')) each.remove();
return document.title + '\\n' + document.body.innerText"""
"""The plots are drawings; versions and times of day are nobody's golden text."""


def page_text(browser: Browser, status: Status) -> str:
    """Without empty lines and spaces at the ends of lines."""
    with served(status) as url:
        browser.open(url)
        until(lambda: browser.text("#state"))
        lines = (line.strip() for line in str(browser.run(READ)).splitlines())
        return "".join(f"{line}\n" for line in lines if line)


def pages(statuses: Mapping[str, Status]) -> dict[str, str]:
    """The texts of all, with one browser."""
    with chromium(ALIKE) as browser:
        return {name: page_text(browser, status) for name, status in statuses.items()}
