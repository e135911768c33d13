"""Errors across the wire: a node says which error of ours it means, beside a gRPC status for everybody else.

What comes without our mark was not said by a node: by gRPC itself, or by a proxy in between. It never means anything
about a single key: a stranger's "not found" must not look like a lost shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc

from ecfs.errors import (
    DriveError,
    DriveFencedError,
    DriveFullError,
    DriveLockedError,
    DriveTimeoutError,
    DriveUnreachableError,
    DriveWrongError,
    EcfsError,
    FormatTooNewError,
    ShardCorruptError,
    ShardExistsError,
    ShardMissingError,
    UsageError,
)

MARK = "ecfs-error"
"""Trailing metadata: the name of the error's class."""

BUSY = "busy"
"""Instead of a name: the node has not even begun. Any call may be repeated then."""

Code = grpc.StatusCode


class NodeBusyError(DriveUnreachableError):
    """The node has too much to do and has done nothing for this call."""


CODES: Mapping[type[EcfsError], grpc.StatusCode] = {
    ShardMissingError: Code.NOT_FOUND,
    ShardCorruptError: Code.DATA_LOSS,
    ShardExistsError: Code.ALREADY_EXISTS,
    DriveUnreachableError: Code.FAILED_PRECONDITION,
    DriveTimeoutError: Code.DEADLINE_EXCEEDED,
    DriveFullError: Code.RESOURCE_EXHAUSTED,
    DriveWrongError: Code.FAILED_PRECONDITION,
    DriveLockedError: Code.ABORTED,
    DriveFencedError: Code.PERMISSION_DENIED,
    FormatTooNewError: Code.UNIMPLEMENTED,
    UsageError: Code.INVALID_ARGUMENT,
}
"""Every error that a drive may raise, with the status that strangers see."""

_BY_NAME = {kind.__name__: kind for kind in CODES}
MAX_TEXT = 1000
"""Characters of an error's text that are sent, or believed."""

_EXPLAINED = {
    Code.CANCELLED: (DriveUnreachableError, "the node ended the call"),
    Code.UNKNOWN: (DriveUnreachableError, "the node failed in a way it did not explain"),
    Code.INVALID_ARGUMENT: (DriveUnreachableError, "the call was refused as malformed"),
    Code.DEADLINE_EXCEEDED: (DriveTimeoutError, "no answer in time"),
    Code.NOT_FOUND: (DriveUnreachableError, "something else answers there"),
    Code.ALREADY_EXISTS: (DriveUnreachableError, "something else answers there"),
    Code.PERMISSION_DENIED: (DriveUnreachableError, "the node does not let us in"),
    Code.RESOURCE_EXHAUSTED: (DriveUnreachableError, "the node is overloaded"),
    Code.FAILED_PRECONDITION: (DriveUnreachableError, "the call was refused"),
    Code.ABORTED: (DriveUnreachableError, "the call was broken off"),
    Code.OUT_OF_RANGE: (DriveUnreachableError, "the call was refused"),
    Code.UNIMPLEMENTED: (DriveWrongError, "what answers there is no storage node of this version"),
    Code.INTERNAL: (DriveUnreachableError, "the connection or the node failed"),
    Code.UNAVAILABLE: (DriveUnreachableError, "not reachable"),
    Code.DATA_LOSS: (DriveUnreachableError, "the connection lost data"),
    Code.UNAUTHENTICATED: (DriveUnreachableError, "the node does not know us"),
}
"""What a status means that no node has marked. Complete: a test goes through all of them."""


def code_of(error: EcfsError) -> tuple[str, grpc.StatusCode, str]:
    """(name, status, text) to send for an error that a drive raised."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return kind.__name__, CODES[kind], str(error.args[0])[:MAX_TEXT]
    return DriveUnreachableError.__name__, Code.FAILED_PRECONDITION, str(error)[:MAX_TEXT]


def error_of(
    code: grpc.StatusCode, text: str, metadata: Sequence[tuple[str, str | bytes]] | None
) -> DriveError | UsageError | FormatTooNewError:
    """The error that an ended call stands for. Slot and key are for the caller to fill in."""
    named = dict(metadata or ()).get(MARK)
    if named == BUSY:
        return NodeBusyError(f"the node is overloaded ({text[:MAX_TEXT]})")
    if isinstance(named, str) and named in _BY_NAME:
        return error_named(named, text)
    known, meaning = _EXPLAINED.get(code, (DriveUnreachableError, "the call failed"))
    # What gRPC says of a connection is a chain that ends in the reason.
    detail = " ".join(text.split()).rpartition(": ")[2][:200] or code.name.lower()
    return known(f"{meaning} ({detail})")


def error_named(name: str, text: str) -> DriveError | UsageError | FormatTooNewError:
    """The error that a node means by its name. Slot and key are for the caller to fill in."""
    return _BY_NAME.get(name, DriveUnreachableError)(text[:MAX_TEXT])  # type: ignore[return-value]


def is_busy(metadata: Iterable[Any] | None) -> bool:
    return (MARK, BUSY) in ((name, value) for name, value in metadata or ())


def was_said_by_node(metadata: Iterable[Any] | None) -> bool:
    return any(name == MARK for name, _ in metadata or ())
