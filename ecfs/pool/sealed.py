"""Sealed text: one line of JSON under a line with its kind, format and hash. Format: docs/FORMAT.md.

JSON, so that a rescue program and a person with an editor can read it; sealed, so that one flipped byte shows.
"""

from __future__ import annotations

import hashlib
import re
from typing import TypeVar

import msgspec

from ecfs.errors import CorruptError, FormatTooNewError

FORMAT = 1
_FIRST_LINE = re.compile(rb"ecfs ([a-z]+) ([0-9]{1,4}) ([0-9a-f]{64})")
T = TypeVar("T")


def _hash(kind: bytes, number: int, body: bytes) -> bytes:
    """Format 1 does not cover its number. Every later one must: else one wrong bit of it would not be damage on one
    drive but a newer ecfs, for which the whole pool is refused."""
    head = kind if number == 1 else b"%s %d" % (kind, number)
    return hashlib.blake2b(head + b"\n" + body, digest_size=32).hexdigest().encode()


def seal_body(kind: bytes, number: int, body: bytes) -> bytes:
    """The sealed text of these bytes in this format."""
    return b"ecfs %s %d %s\n%s\n" % (kind, number, _hash(kind, number, body), body)


def seal(kind: str, value: object) -> bytes:
    """The sealed text of a msgspec struct."""
    return seal_body(kind.encode(), FORMAT, msgspec.json.encode(value))


def unseal(kind: str, data: bytes, shape: type[T]) -> T:
    """The value of a sealed text. Raises CorruptError, or FormatTooNewError for a greater format number."""
    first, _, rest = data.partition(b"\n")
    match = _FIRST_LINE.fullmatch(first)
    if match is None or match[1] != kind.encode():
        raise CorruptError(f"{kind}: not a sealed {kind}")
    body, number = rest[:-1], int(match[2])
    if rest[-1:] != b"\n" or _hash(match[1], number, body) != match[3]:
        raise CorruptError(f"{kind}: hash does not match")
    if number > FORMAT:
        raise FormatTooNewError(f"{kind} has format {number}, this ecfs knows {FORMAT}: use a newer ecfs")
    if number != FORMAT:
        raise CorruptError(f"{kind}: unknown format")
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CorruptError(f"{kind}: {error}") from error
