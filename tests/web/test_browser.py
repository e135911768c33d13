"""The page in a real Chromium, on a real mount: what a person sees, presses, and can't be made to press."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.mount.real import Pool
from tests.programs import place
from tests.web.browser import ENTER, LEFT, SPACE, TAB, Browser, chromium, until
from tests.web.served import TOKEN

pytestmark = pytest.mark.mount

EVIL = "<img src=x onerror=hit()>"
"""A name that a page which trusts names would run."""
RULES = "--host-resolver-rules=MAP evil.example 127.0.0.1"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Visited(Pool):
    """A pool whose page is served on `port`."""

    port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def visited(folder: Path, name: str = "drives", more: str = "") -> Iterator[Visited]:
    (folder / name).mkdir(parents=True)
    if name != "drives":
        (folder / "drives").symlink_to(name)
    with place(folder) as here:
        port = free_port()
        pool = Visited(here, f"web=127.0.0.1:{port}{more}")
        pool.port = port
        pool.mount()
        yield pool


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not (shutil.which("chromedriver") and shutil.which("chromium")):
        pytest.skip("needs the Debian packages chromium and chromium-driver")
    with chromium(RULES) as made:
        yield made


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Visited]:
    with visited(tmp_path) as made:
        yield made


def shows(browser: Browser, selector: str, wanted: str) -> str:
    """What is read there once `wanted` is part of it."""
    return until(lambda: found if wanted in (found := browser.text(selector)) else "")


def bay(slot: int) -> str:
    return f"#drives > li:nth-child({slot + 1})"


# ---- what is seen ----------------------------------------------------------------------------------------------------


def test_a_drive_deleted_during_the_visit_shows_and_a_scrub_by_button_makes_it_whole(
    browser: Browser, pool: Visited, record_property: Any
) -> None:
    (pool.mnt / "file").write_bytes(os.urandom(12 << 20))
    pool.ecfs("sync", "mnt")
    browser.open(pool.url)
    shows(browser, "#state", "Healthy")
    shows(browser, bay(3), "online")
    began = time.monotonic()
    pool.lose(3)
    shows(browser, "#state", "Degraded")
    record_property("seconds_until_seen", round(time.monotonic() - began, 2))
    assert "absent" in shows(browser, bay(3), "absent")
    assert "online" in browser.text(bay(2))
    assert "drive 3 is absent" in browser.text("#causes").lower()
    assert "ecfs scrub" in browser.text("#actions")
    shows(browser, "#events", "drive 3")
    browser.click("#scrub-start")
    shows(browser, "#state", "Healthy")
    shows(browser, "#scrub-said", "Everything was last verified")
    assert pool.drive(3).is_dir()


def test_a_scrub_is_paused_resumed_and_cancelled_by_keyboard_alone(browser: Browser, pool: Visited) -> None:
    (pool.mnt / "file").write_bytes(os.urandom(24 << 20))
    pool.ecfs("sync", "mnt")
    slow = pool.place.start("scrub", "--rate", "100K", "--no-progress")  # so that there is time to press
    browser.open(pool.url)
    shows(browser, "#scrub-said", "Running")
    press_with_tabs(browser, "scrub-pause", ENTER)
    shows(browser, "#scrub-said", "Paused")
    assert slow.wait(30) != 0
    slow.communicate()
    until(lambda: focused(browser) == "scrub-resume")  # the button that was pressed is gone
    browser.keys(SPACE)
    shows(browser, "#scrub-said", "Running")
    press_with_tabs(browser, "scrub-cancel", SPACE)
    shows(browser, "#scrub-start", "Start a scrub")
    until(lambda: focused(browser) == "scrub-start")
    browser.keys(ENTER)
    shows(browser, "#scrub-said", "Everything was last verified")  # without the limit it is quick


def focused(browser: Browser) -> str:
    return str(browser.run("return document.activeElement.id"))


def press_with_tabs(browser: Browser, wanted: str, key: str) -> None:
    """Go there with the tab key alone, as somebody without a mouse does, and press."""
    for _ in range(40):
        if focused(browser) == wanted:
            browser.keys(key)
            return
        browser.keys(TAB)
    raise AssertionError(f"{wanted} can't be reached with the tab key")


def test_the_page_fits_a_phone_even_with_a_long_path(browser: Browser, tmp_path: Path) -> None:
    with visited(tmp_path, "a_long_path_that_has_no_place_where_a_line_could_break") as pool:
        browser.open(pool.url)
        shows(browser, "#drill-said", "a_long_path")
        pool.lose(1)
        shows(browser, "#state", "Degraded")
        for width in (320, 390, 768, 1280):
            browser.resize(width, 800)
            until(lambda: not wider_than_the_window(browser), 5)
            wide = browser.run("return document.scrollingElement.scrollWidth")
            assert wide <= width, f"{width} pixels: the page scrolls sideways, over {wide}"


def test_the_page_is_dark_at_night_and_says_what_everything_is(browser: Browser, pool: Visited) -> None:
    (pool.mnt / "file").write_bytes(os.urandom(5 << 20))
    browser.log()
    browser.open(pool.url)
    shows(browser, "#state", "Healthy")
    until(lambda: browser.run("return document.querySelectorAll('.plot .line').length") == 5)
    light = browser.run("return getComputedStyle(document.body).backgroundColor")
    browser.dark(True)
    assert browser.run("return getComputedStyle(document.body).backgroundColor") != light
    browser.dark(False)
    unnamed = "return [...document.querySelectorAll('button, a, input, [tabindex]')].filter(each =>"
    unnamed += " each.checkVisibility() && !(each.innerText || each.ariaLabel || each.labels?.length"
    unnamed += " || each.getAttribute('aria-labelledby'))).map(each => each.outerHTML)"
    assert browser.run(unnamed) == []
    foreign = "return performance.getEntriesByType('resource').map(each => each.name)"
    assert all(name.startswith(pool.url) for name in browser.run(foreign))
    assert browser.log() == []


def wider_than_the_window(browser: Browser) -> list[str]:
    """What sticks out to the right."""
    script = "return [...document.querySelectorAll('body *')].filter(each => each.checkVisibility() &&"
    script += " each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"
    return list(browser.run(script))


def test_values_of_the_plots_can_be_read_with_arrow_keys(browser: Browser, pool: Visited) -> None:
    browser.open(pool.url)
    shows(browser, "#state", "Healthy")
    (pool.mnt / "file").write_bytes(os.urandom(20 << 20))
    until(lambda: len(browser.run("return document.querySelector('path.line-1').getAttribute('d')")) > 40)
    browser.run("document.querySelector('#plot-throughput svg').focus()")
    browser.keys(LEFT, LEFT)
    assert shows(browser, "#plot-throughput .when", ":")
    assert "write" in browser.run("return document.querySelector('#plot-throughput svg').ariaLabel")


def test_a_daemon_that_is_gone_is_not_shown_as_healthy(browser: Browser, pool: Visited) -> None:
    browser.open(pool.url)
    shows(browser, "#live", "live")
    pool.umount()
    shows(browser, "#live", "no answer")
    pool.mount()
    until(lambda: browser.text("#live") == "live")


# ---- what nobody can make it do --------------------------------------------------------------------------------------


def test_names_of_drives_and_files_are_never_markup(browser: Browser, tmp_path: Path) -> None:
    with visited(tmp_path, EVIL.replace("/", "")) as pool:
        (pool.mnt / EVIL).write_bytes(os.urandom(6 << 20))
        pool.ecfs("sync", "mnt")
        browser.open(pool.url)
        browser.run("window.hit = () => { window.wasHit = true }")
        shows(browser, "#pool-name", EVIL)
        shows(browser, bay(0), EVIL)
        pool.lose(0, 1, 2)
        shows(browser, "#state", "Failed")
        shows(browser, "#events", EVIL)
        shows(browser, "#causes", EVIL)
        assert browser.run("return document.querySelectorAll('main img, main script').length") == 0
        assert browser.run("return window.wasHit") is None
        injected = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=hit()>')"
        assert "TrustedHTML" in browser.run(f"try {{ {injected} }} catch (error) {{ return String(error) }}")


class Other(http.server.BaseHTTPRequestHandler):
    """A page of somebody else."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>other</title><iframe name=frame></iframe>")

    def log_message(self, format: str, *arguments: object) -> None:
        """Silence."""


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
def test_another_page_can_neither_press_nor_read_nor_frame(
    browser: Browser, pool: Visited, other_port: int, host: str
) -> None:
    browser.open(f"http://{host}:{other_port}/")
    start, view = f"{pool.url}api/scrub/start", f"{pool.url}api/view"
    for options in ("{method: 'POST', mode: 'no-cors'}", "{method: 'POST', headers: {'x-ecfs': '1'}}"):
        browser.run_async(f"fetch('{start}', {options})")
    browser.run(
        "const form = document.body.appendChild(document.createElement('form'));"
        "Object.assign(form, {method: 'post', action: arguments[0], target: 'frame'}).submit()",
        start,
    )
    assert "TypeError" in browser.run_async(f"fetch('{view}').then(answer => answer.text())")
    assert browser.run_async(f"fetch('{view}', {{mode: 'no-cors'}}).then(answer => answer.text())") in (
        "", "TypeError: Failed to fetch",
    )  # fmt: skip
    browser.run("document.querySelector('iframe').src = arguments[0]", pool.url)
    time.sleep(1)
    assert browser.run("return frames[0].length") == 0
    browser.open(pool.url)
    shows(browser, "#state", "Healthy")
    assert browser.text("#scrub-said") == "Nothing was ever verified as a whole"


def test_a_name_that_suddenly_leads_here_gets_nothing(browser: Browser, pool: Visited) -> None:
    browser.open(f"http://evil.example:{pool.port}/")
    assert "ask for this page as 127.0.0.1" in shows(browser, "body", "ask")
    for path in ("api/view", "metrics", "static/app.js"):
        assert browser.run_async(f"fetch('/{path}').then(answer => answer.status)") == 421
    press = "fetch('/api/scrub/start', {method: 'POST', headers: {'x-ecfs': '1'}}).then(answer => answer.status)"
    assert browser.run_async(press) == 421


def test_where_a_token_is_asked_for_nothing_is_shown_without(browser: Browser, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    with visited(tmp_path / "pool", more=f",web_token_file={token}") as pool:
        browser.open(f"http://evil.example:{pool.port}/")  # any name will do here
        until(lambda: focused(browser) == "token")
        assert browser.text("#main") == ""
        browser.keys(*"wrong", ENTER)
        shows(browser, "#login-said", "this is not the token")
        browser.run("document.querySelector('#token').value = ''")
        browser.keys(*TOKEN, ENTER)
        shows(browser, "#state", "Healthy")
        assert browser.run("return document.cookie") == ""
