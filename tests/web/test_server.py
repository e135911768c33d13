"""Nobody who connects can hurt the daemon: not by number, not by silence, not by not reading."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ecfs.web import server
from ecfs.web.listen import Listen
from ecfs.web.server import MAX_CLIENTS, WebServer
from ecfs.web.view import Source, View
from tests.memory_pool import MemoryPool
from tests.web.served import Page, page_of, service_of


async def test_too_many_viewers_are_told_and_those_who_were_first_go_on(page: Page) -> None:
    silent = [await trio.open_tcp_stream("127.0.0.1", page.port) for _ in range(MAX_CLIENTS)]
    first = silent[0]
    await until_refused(page)
    await first.send_all(b"GET /static/icon.svg HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (await first.receive_some(100)).startswith(b"HTTP/1.1 200")
    for stream in silent:
        await stream.aclose()
    while b" 200" not in await page.raw(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"):
        await trio.sleep(0.05)  # until it has noticed that they are gone


async def until_refused(page: Page) -> None:
    while b" 503" not in await page.raw(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"):
        await trio.sleep(0.05)


HOSTILE = {
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n",
    "no end of headers": b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000,
    "a body that never comes": b"POST /api/login HTTP/1.1\r\nhost: localhost\r\nx-ecfs: 1\r\n"
    b"content-length: 99\r\n\r\n",
    "a negative body": b"POST /api/login HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 500,
    "an upgrade to HTTP/2": b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\n"
    b"upgrade: h2c\r\nhttp2-settings: !!!\r\n\r\n",
    "a web socket": b"GET /api/view HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "another site's address": b"GET http://evil.example/ HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    "a request line of bytes": b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_bytes_are_answered_or_dropped_and_the_page_goes_on(
    page: Page, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.5)
    answer = await page.raw(HOSTILE[name])
    assert b" 200" not in answer.partition(b"\r\n")[0]
    assert b"101 Switching Protocols" not in answer or b"upgrade: h2c" in answer
    assert (await page.ask("/api/view")).status == 200
    assert "Traceback" not in caplog.text


async def test_a_viewer_who_does_not_read_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with trio.fail_after(8):  # less than SEND_S, which would be waited for
        async with page_of(tmp_path) as page:
            stream = await trio.open_tcp_stream("127.0.0.1", page.port)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with trio.move_on_after(2):
                while True:
                    await stream.send_all(b"GET /static/style.css HTTP/1.1\r\nhost: localhost\r\n\r\n" * 100)
        await stream.aclose()


async def test_a_bug_on_the_page_is_an_answer_and_not_the_end(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    page.engine.pool.members.__dict__["_members"].append(None)  # whoever looks at the drives now meets a bug
    for _ in range(2):
        answer = await page.ask("/api/view")
        assert (answer.status, answer.body) == (500, b"internal error; the daemon's log says more\n")
        assert "content-security-policy" in answer.headers
    assert (await page.ask("/")).status == 200
    page.engine.pool.members.__dict__["_members"].pop()
    assert (await page.ask("/api/view")).status == 200
    assert "unexpected error" in caplog.text
    caplog.clear()


async def test_an_address_in_use_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RETRY_S", 0.1)
    pool = MemoryPool(tmp_path)
    await pool.create()
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    said: list[str] = []
    async with pool.engine(clean=False) as engine, trio.open_nursery() as nursery:
        service = service_of(engine)
        page = WebServer(Listen("127.0.0.1", port), Source(engine, service.status, "/pool", {}), service, {})
        await nursery.start(page.run, said.append)  # the mount does not wait for it
        assert "can't listen" in said[0]
        taken.close()
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port):
                    break
            except OSError:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


# ---- what it costs ------------------------------------------------------------------------------------------------


async def test_however_many_look_the_pool_is_looked_at_once_per_second(page: Page) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(page.ask, "/api/view")
            nursery.start_soon(page.ask, "/metrics")
    assert page.looks <= 1 + (trio.current_time() - began) / server_fresh_s()


def server_fresh_s() -> float:
    from ecfs.web.view import FRESH_S

    return FRESH_S


async def test_an_event_is_seen_at_once_and_a_flapping_drive_is_not_looked_at_all_the_time(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    view, members = View(Source(page.engine, lambda: {"look": page.looks}, "/pool", {})), page.engine.pool.members
    first = view.status()
    members.note(1, "absent", "pulled")
    await trio.sleep(0.3)
    assert view.status() is not first
    looks: set[int] = set()
    for _ in range(1000):
        members.note(1, "absent", "flaps")
        looks.add(id(view.status()))
    assert len(looks) == 1


async def test_the_page_asks_for_what_is_new_only(page: Page) -> None:
    await trio.sleep(5)
    points: list[Any] = (await page.ask("/api/view")).json()["points"]
    assert points
    newest = points[-1]["number"]
    assert all(each["number"] > newest for each in (await page.ask(f"/api/view?after={newest}")).json()["points"])
    assert (await page.ask("/api/view?after=999999")).json()["points"]  # the daemon was started anew meanwhile
    for nonsense in ("ring=year", "after=-1", "after=x", "after=" + "9" * 50, "after=%D9%A3"):
        assert (await page.ask(f"/api/view?{nonsense}")).status == 400
