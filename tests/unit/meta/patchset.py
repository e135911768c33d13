"""A decoder of patchsets in plain Python, written after docs/FORMAT.md: the proof that its text suffices (R25)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

Value = int | float | str | bytes | None
INSERT, UPDATE, DELETE = 18, 23, 9


class Change(NamedTuple):
    """values: by column; a column that is not in the record is left out."""

    table: str
    operation: int
    values: dict[int, Value]


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        piece = self.data[self.at : self.at + length]
        if len(piece) != length:
            raise ValueError("the patchset ends in the middle")
        self.at += length
        return piece

    def varint(self) -> int:
        value = 0
        for place in range(9):
            byte = self.take(1)[0]
            if place == 8:
                return value << 8 | byte
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                break
        return value

    def name(self) -> str:
        end = self.data.index(b"\0", self.at)
        return (self.take(end - self.at) + self.take(1))[:-1].decode()

    def value(self, kind: int) -> Value:
        match kind:
            case 1:
                return int(struct.unpack(">q", self.take(8))[0])
            case 2:
                return float(struct.unpack(">d", self.take(8))[0])
            case 3:
                return self.take(self.varint()).decode()
            case 4:
                return self.take(self.varint())
            case 5:
                return None
        raise ValueError(f"unknown type {kind}")


def changes(data: bytes) -> Iterator[Change]:
    reader = Reader(data)
    table, keys = "", b""
    while reader.at < len(data):
        operation = reader.take(1)[0]
        if operation == ord("P"):
            keys = reader.take(reader.varint())
            table = reader.name()
            continue
        reader.take(1)  # whether a trigger did it; there are none
        columns = [column for column, key in enumerate(keys) if key or operation != DELETE]
        values = {}
        for column in columns:
            kind = reader.take(1)[0]
            if kind:
                values[column] = reader.value(kind)
        yield Change(table, operation, values)
