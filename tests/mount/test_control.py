"""The control socket of a real daemon: hostile input gets an error line or nothing, and hurts nobody."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.mount.real import Pool, mounted_pool

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with mounted_pool(tmp_path_factory.mktemp("control")) as pool:
        yield pool


def socket_of(pool: Pool) -> Path:
    (path,) = (pool.place.private / "run").glob("*.sock")
    return path


def ask(pool: Pool, data: bytes) -> dict[str, Any]:
    """The last line of the answer."""
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(socket_of(pool)))
        client.settimeout(20)
        client.sendall(data)
        with client.makefile("rb") as answer:
            lines = answer.read().splitlines()
    found = json.loads(lines[-1])
    assert isinstance(found, dict)
    return found


def request(method: str, params: object = None, version: object = 1) -> bytes:
    return json.dumps({"ecfs": version, "method": method, "params": params or {}}).encode() + b"\n"


HOSTILE = {
    "no JSON": b"hello\n",
    "empty line": b"\n",
    "no object": b"[1, 2]\n",
    "no method": b'{"ecfs": 1}\n',
    "no text": b"\xff\xfe\x00\n",
    "deeply nested": b'{"ecfs": 1, "method": "status", "params": {"x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}}\n",
    "a line without end": b"x" * 200_000,
    "another version": request("status", version=2),
    "a version that is no number": request("status", version="one"),
    "unknown method": request("format"),
    "a method of Python": request("__init__"),
    "unknown parameter": request("status", {"x": 1}),
    "a rate of nothing": request("scrub", {"rate": 0}),
    "a rate that is none": b'{"ecfs": 1, "method": "scrub", "params": {"rate": NaN}}\n',
    "a drill of nothing": request("drill", {"rate": -1}),
    "a drill that is half full": request("drill", {"full": 0.5}),
    "text for a slot": request("replace", {"slot": "0", "url": "x"}),
    "a slot that is not there": request("replace", {"slot": 6, "url": "/x"}),
    "a slot below": request("replace", {"slot": -1, "url": "/x"}),
    "an enormous slot": request("replace", {"slot": 10**30, "url": "/x"}),
    "a place with a newline": request("replace", {"slot": 0, "url": "a\nb"}),
    "parameters that are a list": b'{"ecfs": 1, "method": "status", "params": []}\n',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_answered_with_an_error(name: str, daemon: Pool) -> None:
    error = ask(daemon, HOSTILE[name])["error"]
    assert error["exit_status"] == 2
    assert "internal error" not in error["message"]
    assert_works(daemon)


def assert_works(daemon: Pool) -> None:
    assert ask(daemon, request("status"))["result"]["state"] == "healthy"
    (daemon.mnt / "file").write_bytes(b"x")


def test_clients_that_leave_or_say_nothing_hurt_nobody(daemon: Pool) -> None:
    silent = []
    for number in range(60):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(socket_of(daemon)))
        if number % 2:
            client.send(b'{"ecfs": 1, "met')
        if number % 3:
            client.close()
        else:
            silent.append(client)
    assert_works(daemon)
    for client in silent:
        client.close()
    assert_works(daemon)


def test_too_many_clients_are_told(daemon: Pool) -> None:
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    try:
        for client in waiting:
            client.connect(str(socket_of(daemon)))
        answers = [ask(daemon, request("status"))]
        assert "are talking to this daemon already" in answers[0]["error"]["message"]
        (daemon.mnt / "file").write_bytes(b"x")
    finally:
        for client in waiting:
            client.close()
    while "error" in ask(daemon, request("status")):
        pass  # until it has noticed that they are gone
    assert_works(daemon)


def test_leaving_gives_a_scrub_up(daemon: Pool) -> None:
    (daemon.mnt / "large").write_bytes(os.urandom(8 << 20))
    daemon.ecfs("sync", "mnt")
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(socket_of(daemon)))
        client.sendall(request("scrub", {"rate": 1000.0}))
        assert b"progress" in client.recv(100)
        assert ask(daemon, request("status"))["result"]["scrub"]["running"]
        # Another scrub would join this one; one that only looks can't.
        assert "running already" in ask(daemon, request("scrub", {"dry_run": True}))["error"]["message"]
    for _ in range(50):
        if not ask(daemon, request("status"))["result"]["scrub"]["running"]:
            break
        subprocess.run(["sleep", "0.1"], check=True)
    assert not ask(daemon, request("status"))["result"]["scrub"]["running"]
    assert ask(daemon, request("scrub"))["result"]["report"]["exit_status"] == 0


def test_events_tell_what_happened(daemon: Pool) -> None:
    events = ask(daemon, request("events", {"limit": 5}))["result"]
    assert len(events) <= 5
    assert all(set(event) == {"at", "slot", "kind", "text", "number"} for event in events)


def test_only_its_user_may_talk_to_it(daemon: Pool) -> None:
    mode = socket_of(daemon).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(socket_of(daemon).parent.stat().st_mode) == 0o700
    if os.geteuid() != 0:
        return
    # Should somebody open these doors by mistake, the daemon itself still asks who is there.
    daemon.place.private.chmod(0o755)
    socket_of(daemon).parent.chmod(0o755)
    socket_of(daemon).chmod(0o666)
    script = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode()); print(s.makefile().read())"
    )
    command = [sys.executable, "-c", script, str(socket_of(daemon)), request("status").decode()]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "only root and the user who mounted the pool" in said
