"""The commands' side of the control socket: plain and synchronous."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ecfs.control.protocol import MAX_ANSWER, VERSION, RemoteError, read_answer
from ecfs.control.runtime import Mounted
from ecfs.errors import RefusedError, UsageError

Show = Callable[[dict[str, Any]], None]


class NoAnswerError(RefusedError):
    """The daemon is registered, but does not answer."""


def call(
    daemon: Mounted, method: str, params: dict[str, Any], *, timeout_s: float | None = None, show: Show | None = None
) -> Any:
    """Ask a daemon. Raises RemoteError with its error, NoAnswerError if there is none in time, UsageError for params
    with text that is not UTF-8.

    timeout_s: for each line of the answer; None waits as long as the daemon lives.
    """
    try:
        request = msgspec.json.encode({"ecfs": VERSION, "method": method, "params": params}) + b"\n"
    except UnicodeEncodeError as error:
        text = "a name that is not UTF-8 can't be sent to the daemon; for a file: getfattr -n user.ecfs.health FILE"
        raise UsageError(text) from error
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(daemon.socket))
            connection.sendall(request)
            return _result(connection, show)
    except OSError as error:
        who = f"the daemon of this pool (process {daemon.pid})"
        raise NoAnswerError(f"{who} does not answer: {error.strerror or 'too late'}; its log: {daemon.log}") from error


def _result(connection: socket.socket, show: Show | None) -> Any:
    for data in _lines(connection):
        kind, value = read_answer(data)
        if kind == "result":
            return value
        if show is not None:
            show(value)
    raise NoAnswerError("the daemon ended before it had answered")


def _lines(connection: socket.socket) -> Iterator[bytes]:
    pending = bytearray()
    while chunk := connection.recv(1 << 16):
        pending += chunk
        *whole, rest = pending.split(b"\n")
        yield from map(bytes, whole)
        pending = rest
        if len(pending) > MAX_ANSWER:
            raise RemoteError("the daemon's answer is too long", "UsageError", 2)
