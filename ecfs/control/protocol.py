"""Lines of JSON on the control socket, version 1.

The client sends one line, ``{"ecfs": 1, "method": NAME, "params": {…}}``. The daemon answers with any number of
``{"progress": …}`` lines and ends with ``{"result": …}`` or
``{"error": {"kind": CLASS, "message": TEXT, "exit_status": N}}``. One request per connection: closing it early gives
the request up. Members that are not known are refused in params and ignored elsewhere.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ecfs.errors import EcfsError, UsageError

VERSION = 1
MAX_LINE = 64 * 1024
"""Bytes of a request."""
MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of one line of an answer; a client that gets more gives up."""


class Request(msgspec.Struct, frozen=True):
    """ecfs: version of the protocol that the client speaks."""

    ecfs: int
    method: str
    params: dict[str, Any] = {}


class _Failure(msgspec.Struct):
    kind: str
    message: str
    exit_status: int


class _Answer(msgspec.Struct):
    error: _Failure | msgspec.UnsetType = msgspec.UNSET
    progress: Any = msgspec.UNSET
    result: Any = msgspec.UNSET


class RemoteError(EcfsError):
    """What the daemon answered. `kind` is the class of the error there."""

    def __init__(self, message: str, kind: str, exit_status: int) -> None:
        super().__init__(message)
        self.kind = kind
        self.exit_status = exit_status


def read_request(line: bytes) -> Request:
    """Raises UsageError for whatever is not a request of this version."""
    try:
        request = msgspec.json.decode(line, type=Request)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"not a request: {error}") from error
    if request.ecfs != VERSION:
        raise UsageError(f"the daemon speaks version {VERSION} of the protocol, not {request.ecfs}: use the same ecfs")
    return request


def line(name: str, value: object) -> bytes:
    """One line of an answer."""
    return msgspec.json.encode({name: value}) + b"\n"


def error_line(error: EcfsError) -> bytes:
    return line("error", {"kind": type(error).__name__, "message": str(error), "exit_status": error.exit_status})


def read_answer(data: bytes) -> tuple[str, Any]:
    """("progress" or "result", value). Raises RemoteError for an error line, UsageError for what is no answer."""
    try:
        answer = msgspec.json.decode(data, type=_Answer)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"the daemon's answer is not understood: {error}") from error
    if isinstance(answer.error, _Failure):
        raise RemoteError(answer.error.message, answer.error.kind, answer.error.exit_status)
    for name, value in (("progress", answer.progress), ("result", answer.result)):
        if value is not msgspec.UNSET:
            return name, value
    raise UsageError("the daemon's answer is not understood: use the same version of ecfs")
