"""Messages with bulk data, in and out of gRPC with one copy instead of four.

Field 15, `data`, is put behind the rest of the message by hand and taken out as a view. The result is plain protobuf:
a client made from drive.proto by any other tool understands and is understood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from ecfs.rpc.limits import CHUNK

M = TypeVar("M", bound=Message)
Buffer = bytes | bytearray | memoryview

DATA_FIELD = 15
_DATA_TAG = DATA_FIELD << 3 | 2
_EMPTY = memoryview(b"")
SMALL = 32 * 1024
"""A message below that is copied by protobuf, whose looking for the field is faster than ours."""
MAX_FIELDS = 64
"""More than any message of ours with data has before it."""


class FrameError(ValueError):
    """The bytes are no message of the expected type."""


def join(message: Message, buffers: Sequence[Buffer]) -> bytes:
    """The serialized message with the buffers, one after the other, as its data."""
    length = sum(map(len, buffers))
    return b"".join([message.SerializeToString(), bytes([_DATA_TAG]), _varint(length), *buffers])


def split(kind: type[M], frame: bytes) -> tuple[M, memoryview]:
    """The message without its data, and the data as a view of `frame`. Raises FrameError."""
    try:
        at = _find_data(frame) if len(frame) > SMALL else None
        if at is None:
            # Small, not the order that `join` writes, or no data at all: valid all the same.
            message = kind.FromString(frame)
            data = memoryview(getattr(message, "data", b""))
            if len(data):
                message.ClearField("data")
            return message, data
        start, at_data = at
        return kind.FromString(frame[:start]), memoryview(frame)[at_data:]
    except (DecodeError, IndexError) as error:
        raise FrameError(f"not a {kind.__name__}") from error


def _find_data(frame: bytes) -> tuple[int, int] | None:
    """Where the data field starts and where its bytes do, if it is the last field of a message of few fields.

    In one of many, 4 MiB of tiny ones, looking for it here would take seconds, and hold the GIL.
    """
    at = 0
    for _ in range(MAX_FIELDS):
        if at >= len(frame):
            return None
        start = at
        if frame[at] == _DATA_TAG:
            length, at = _read_varint(frame, at + 1)
            return (start, at) if at + length == len(frame) else None
        tag, at = _read_varint(frame, at)
        at = _skip(frame, tag & 7, at)
    return None


def _skip(frame: bytes, wire_type: int, at: int) -> int:
    """The end of a field's value."""
    if wire_type == 0:
        return _read_varint(frame, at)[1]
    if wire_type == 2:
        length, at = _read_varint(frame, at)
        return at + length
    if wire_type in (1, 5):
        return at + (8 if wire_type == 1 else 4)
    raise IndexError(wire_type)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(frame: bytes, at: int) -> tuple[int, int]:
    """(number, position behind it). Raises IndexError at the end of the frame or after ten bytes."""
    number = shift = 0
    while shift < 70:
        byte = frame[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise IndexError(at)


def pieces(buffers: Sequence[Buffer], size: int = CHUNK) -> Iterator[list[memoryview]]:
    """The buffers cut into groups of at most `size` bytes, one per message; one empty group for no bytes at all."""
    group: list[memoryview] = []
    room = size
    sent = False
    for buffer in buffers:
        view = memoryview(buffer).cast("B") if len(buffer) else _EMPTY
        while len(view):
            if not room:
                yield group
                group, room, sent = [], size, True
            part = view[:room]
            group.append(part)
            room -= len(part)
            view = view[len(part) :]
    if group or not sent:
        yield group


class Assembly:
    """Puts data that was announced with its length together from several messages. Never holds more than announced."""

    def __init__(self, length: int) -> None:
        self.missing = length
        self.buffers: list[memoryview] = []

    def add(self, data: memoryview) -> None:
        """Raises FrameError if more comes than was announced."""
        self.missing -= len(data)
        if self.missing < 0:
            raise FrameError("more data than was announced")
        if len(data):
            self.buffers.append(data)

    def finish(self) -> list[memoryview]:
        """Raises FrameError if less came than was announced."""
        if self.missing:
            raise FrameError(f"{self.missing} bytes less than were announced")
        return self.buffers


def divide(buffers: Sequence[memoryview], lengths: Sequence[int]) -> list[Buffer]:
    """The concatenated buffers, cut into pieces of these lengths, which must add up.

    Most of what came stays where it is: copying it took an eighth of a read. A small piece would keep all of it.
    """
    whole = buffers[0] if len(buffers) == 1 else memoryview(b"".join(buffers))
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    pieces = [whole[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return [piece if 2 * len(piece) > len(whole) else bytes(piece) for piece in pieces]
