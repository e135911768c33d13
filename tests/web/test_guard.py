"""Who is let in: other pages, other names, other users are not."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import trio

from ecfs.errors import UsageError
from ecfs.web.listen import plan_listen
from tests.web.served import OURS, TOKEN, Page

PATHS = ("/", "/static/app.js", "/api/view", "/metrics", "/nothing", "/static/nothing", "/static/..%2fserver.py")


async def test_every_answer_says_what_a_browser_may_do_with_it(page: Page) -> None:
    for path in PATHS:
        answer = await page.ask(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


async def test_files_outside_of_the_page_are_not_served(page: Page) -> None:
    assert [(await page.ask(path)).status for path in PATHS] == [200, 200, 200, 200, 404, 404, 404]
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "//etc/passwd", "/static/app.js/", "/%00"):
        assert (await page.ask(path)).status in (404, 307), path


# ---- DNS rebinding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8630", "localhost:9", "LOCALHOST", "[::1]:8630"])
async def test_the_names_of_loopback_are_answered(page: Page, host: str) -> None:
    assert (await page.ask("/api/view", host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8630", "127.0.0.1.evil.example", "localhost.evil.example", "evil@127.0.0.1:x", "",
     "[::1", "127.0.0.1 evil.example", "0.0.0.0", "10.0.0.1"],
)  # fmt: skip
async def test_other_names_are_not(page: Page, host: str) -> None:
    for path in ("/", "/api/view", "/metrics", "/static/app.js"):
        assert (await page.ask(path, host=host)).status in (400, 421), path
    assert (await page.ask("/api/scrub/start", "POST", host=host, **OURS)).status in (400, 421)
    assert page.looks == 0


async def test_a_request_has_one_name(page: Page) -> None:
    two = b"GET /api/view HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n"
    none = b"GET /api/view HTTP/1.0\r\n\r\n"
    for data in (two, none):
        answer = await page.raw(data)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421")), answer


# ---- CSRF ---------------------------------------------------------------------------------------------------------

FOREIGN = {
    "a form of another page": {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    "a form, and a browser that sends no Origin": {},
    "a script with the header, as if it had been allowed": {**OURS, "origin": "https://evil.example"},
    "another port of this machine": {**OURS, "origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"},
    "a page without an origin": {**OURS, "origin": "null"},
    "a browser that says cross-site": {**OURS, "sec-fetch-site": "cross-site"},
    "an Origin that begins like ours": {**OURS, "origin": "http://127.0.0.1:8630.evil.example"},
}


@pytest.mark.parametrize("who", FOREIGN)
async def test_another_page_can_not_press_a_button(page: Page, who: str) -> None:
    for action in ("start", "pause", "resume", "cancel"):
        answer = await page.ask(f"/api/scrub/{action}", "POST", host="127.0.0.1:8630", **FOREIGN[who])
        assert answer.status == 403


async def test_our_own_page_can(page: Page) -> None:
    own = {**OURS, "host": "127.0.0.1:8630", "origin": "http://127.0.0.1:8630", "sec-fetch-site": "same-origin"}
    answer = await page.ask("/api/scrub/cancel", "POST", **own)
    assert answer.status == 409  # asked, and refused by the pool: nothing runs
    assert answer.json()["error"]


async def test_another_page_can_not_read(page: Page) -> None:
    for path in ("/api/view", "/metrics"):
        assert (await page.ask(path, sec_fetch_site="cross-site")).status == 403
        assert (await page.ask(path, sec_fetch_site="same-site")).status == 403
        assert (await page.ask(path, sec_fetch_site="none")).status == 200
    assert (await page.ask("/", sec_fetch_site="cross-site")).status == 200  # a link to the page is fine


async def test_no_other_method_and_no_preflight(page: Page) -> None:
    preflight = {"origin": "https://evil.example", "access-control-request-headers": "x-ecfs"}
    assert (await page.ask("/api/scrub/start", "OPTIONS", **preflight)).status == 403
    for method in ("PUT", "DELETE", "PATCH"):
        assert (await page.ask("/api/view", method, **OURS)).status == 405
    assert (await page.ask("/api/scrub/start")).status == 405


# ---- the token ----------------------------------------------------------------------------------------------------


async def test_without_the_token_only_the_door_is_there(locked: Page) -> None:
    assert (await locked.ask("/")).status == 200
    assert (await locked.ask("/static/app.js")).status == 200
    for path in ("/api/view", "/metrics"):
        assert (await locked.ask(path)).status == 401
        assert (await locked.ask(path, authorization="Bearer wrong")).status == 401
        assert (await locked.ask(path, authorization=f"Basic {TOKEN}")).status == 401
        assert (await locked.ask(path, cookie="ecfs=" + "0" * 48)).status == 401
        assert (await locked.ask(path, cookie="ecfs=\xe9")).status == 401
    assert (await locked.ask("/api/scrub/start", "POST", **OURS)).status == 401
    assert locked.looks == 0


async def test_with_the_token_under_any_name(locked: Page) -> None:
    shown = {"authorization": f"Bearer {TOKEN}", "host": "nas.lan:8630"}
    assert (await locked.ask("/metrics", **shown)).status == 200
    answer = await locked.ask("/api/login", "POST", json.dumps({"token": TOKEN}), **OURS)
    assert answer.status == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    value = cookie.partition(";")[0]
    assert (await locked.ask("/api/view", cookie=value)).status == 200
    foreign = {"cookie": value, **OURS, "origin": "https://evil.example"}
    assert (await locked.ask("/api/scrub/start", "POST", **foreign)).status == 403


async def test_guessing_is_slow_and_bounded(locked: Page) -> None:
    found: list[int] = []

    async def guess() -> None:
        found.append((await locked.ask("/api/login", "POST", '{"token": "guess"}', **OURS)).status)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(guess)
    assert found.count(403) <= 4 * (1 + trio.current_time() - began)  # four at once, a second each
    assert set(found) <= {403, 429}
    for body in ("", "[]", '{"token": 1}', "x" * 100_000, "[" * 4000):
        assert (await locked.ask("/api/login", "POST", body, **OURS)).status == 403


async def test_a_page_without_a_token_lets_nobody_log_in(page: Page) -> None:
    assert (await page.ask("/api/login", "POST", '{"token": ""}', **OURS)).status == 403


# ---- what may be asked for on the command line --------------------------------------------------------------------


def test_another_address_needs_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    assert plan_listen("127.0.0.1:8630", "").token == ""
    assert plan_listen("[::1]:8630", "").name == "[::1]:8630"
    assert plan_listen("0.0.0.0:8630", str(token)).token == TOKEN
    assert plan_listen("127.0.0.1:8630", str(token)).token == TOKEN
    for address in ("0.0.0.0:8630", "[::]:8630", "192.168.1.5:8630", "nas.lan:8630"):
        with pytest.raises(UsageError, match="--web-token-file"):
            plan_listen(address, "")
    for nonsense in ("", "8630", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999"):
        with pytest.raises(UsageError, match="no address"):
            plan_listen(nonsense, "")


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [(TOKEN, 0o644, "chmod 600"), ("short", 0o600, "at least 16"), ("two words and more of it", 0o600, "one line"),
     ("ü" * 20, 0o600, "letters and digits"), ("", 0o600, "openssl rand"), (None, 0, "can't be read")],
)  # fmt: skip
def test_a_token_file_that_is_not_safe_is_refused(tmp_path: Path, text: str | None, mode: int, says: str) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
    with pytest.raises(UsageError, match=says):
        plan_listen("127.0.0.1:8630", str(path))
