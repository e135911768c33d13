"""What a drive needs of an object store, and the log on it that stands in for fence and journal (R24).

An object store can't append, lock or compare-and-write, but it can refuse to create a name twice. So fence and journal
are one sequence of objects ``log/<number>``, each created under the number after the last one. Whoever creates a number
has seen everything before it: a writer that was fenced off tries a number that the fence has taken, finds it there, and
learns from it whose the drive is now. The name says nothing about the writer, or the two would not collide.

A log object is one line of JSON (`Entry`), a newline, and the bytes of a journal record. Its number is the only order.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ecfs.drive import fence
from ecfs.drive.base import Writer
from ecfs.errors import DriveUnreachableError, DriveWrongError, ShardCorruptError

LOG = "log/"
HEADER_LIMIT = 512
"""Bytes within which the line of JSON ends."""
READERS = 16
"""Log objects read at a time."""
SMALL = 64 << 10
"""Log objects up to this size are fetched whole while the log is opened: another request would take longer."""
KEPT = 32 << 20
"""Bytes of them that are kept until their segment is read."""


@dataclass(frozen=True)
class Listed:
    """An object in a listing. tag: changes whenever the object does."""

    name: str
    size: int
    tag: str


class Objects(Protocol):
    """A store. All methods block; errors are FileNotFoundError, FileExistsError and OSError."""

    def create(self, name: str, data: bytes) -> str:
        """Only if there is no such object; its tag."""

    def write(self, name: str, data: bytes) -> str: ...

    def read(self, name: str) -> bytes: ...

    def ranges(self, name: str, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        """Each (offset, length), shorter at the object's end."""

    def size(self, name: str) -> int: ...

    def delete(self, name: str) -> None: ...

    def list(self, prefix: str, after: str | None = None) -> Iterator[list[Listed]]:
        """In the order of their names; after: only names greater than this."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One log object. token: random, tells our own object from one just like it.

    kind: "birth", "fence" or "record". epoch, nonce: to whom the drive is promised from here on. segment, offset: where
    the bytes that follow belong in the journal.
    """

    kind: str
    token: str
    epoch: int = 0
    nonce: str = ""
    segment: str = ""
    offset: int = 0


@dataclass(frozen=True)
class Part:
    """A stretch of a journal segment. skip: bytes of the object before it."""

    number: int
    offset: int
    length: int
    skip: int


class Log:
    """The log of one drive, as far as it was seen. Used from threads."""

    def __init__(self, objects: Objects, token: Callable[[], str]) -> None:
        self._objects = objects
        self._token = token
        self._lock = threading.RLock()
        self._last = -1
        self._tag = ""
        self._promised = fence.NOBODY
        self._segments: dict[str, list[Part]] | None = None
        self._kept: dict[int, bytes] = {}
        """Objects by number, whole: each is asked for once more at most."""
        self._room = KEPT

    # ---- opening ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new log. Raises DriveWrongError if another creation was first."""
        entry = Entry("birth", self._token())
        try:
            self._tag = self._objects.create(_name(0), _encode(entry, b""))
        except FileExistsError as error:
            raise DriveWrongError("another process is making a drive here") from error
        self._last, self._promised, self._segments = 0, fence.NOBODY, {}

    def open(self) -> None:
        """Raises DriveUnreachableError where there is none."""
        with self._lock:
            found = [listed for chunk in self._objects.list(LOG) for listed in chunk]
            if not found:
                raise DriveUnreachableError("there is no drive in this bucket and prefix")
            self._last, self._tag = _number(found[-1].name), found[-1].tag
            entry = self._entry(found[-1].name)[0]
            self._promised, self._segments = Writer(entry.epoch, entry.nonce), None

    def _load(self) -> dict[str, list[Part]]:
        """Which segments there are; reads every log object or its head, once."""
        with self._lock:
            if self._segments is None:
                listed = [each for chunk in self._objects.list(LOG) for each in chunk]
                with ThreadPoolExecutor(READERS) as pool:
                    entries = list(pool.map(self._first_look, listed))
                self._segments = {}  # not before: where a look fails, the next call would take the journal for empty
                for each, (entry, skip) in zip(listed, entries, strict=True):
                    if _number(each.name) <= self._last:
                        self._note(_number(each.name), entry, skip, each.size)
            return self._segments

    def _first_look(self, listed: Listed) -> tuple[Entry, int]:
        """`_entry`. What is small is kept: whoever opens the log is about to read it."""
        data = self._kept.get(_number(listed.name))  # from a first try that failed elsewhere
        if data is None:
            if listed.size > min(SMALL, self._room):
                return self._entry(listed.name)
            data = self._kept[_number(listed.name)] = self._objects.read(listed.name)
            self._room -= len(data)
        return _decode(listed.name, data)

    def _entry(self, name: str) -> tuple[Entry, int]:
        """An object's first line, and where its data begins."""
        (head,) = self._objects.ranges(name, [(0, HEADER_LIMIT)])
        return _decode(name, head)

    def _note(self, number: int, entry: Entry, skip: int, size: int) -> None:
        if self._segments is not None and entry.kind == "record":
            parts = self._segments.setdefault(entry.segment, [])
            parts.append(Part(number, entry.offset, size - skip, skip))

    # ---- who may write ----------------------------------------------------------------------------------------------

    def promised(self) -> Writer:
        with self._lock:
            self._catch_up()
            return self._promised

    def check(self, writer: Writer | None) -> None:
        """Raise unless the drive is still there and `writer` may change it."""
        fence.judge_write(self.promised(), writer)

    def promise(self, writer: Writer) -> None:
        with self._lock:
            self._catch_up()
            fence.judge(self._promised, writer)
            if self._promised != writer:
                self._add(Entry("fence", self._token(), writer.epoch, writer.nonce), b"", writer)

    def _catch_up(self) -> None:
        """See what others have added. One request.

        Raises DriveUnreachableError if the last object that we know is not there any more, or not the same.
        """
        after = _name(self._last - 1) if self._last else LOG
        found = [listed for chunk in self._objects.list(LOG, after) for listed in chunk]
        if not found or (_number(found[0].name), found[0].tag) != (self._last, self._tag):
            raise DriveUnreachableError("what was attached has been deleted or exchanged")
        for listed in found[1:]:
            entry, skip = self._entry(listed.name)
            self._last, self._tag = _number(listed.name), listed.tag
            self._promised = Writer(entry.epoch, entry.nonce)
            self._note(self._last, entry, skip, listed.size)

    def _add(self, entry: Entry, data: bytes, writer: Writer | None) -> None:
        body = _encode(entry, data)
        while True:
            number = self._last + 1
            try:
                self._tag = self._objects.create(_name(number), body)
            except FileExistsError:
                self._catch_up()
                if self._is_ours(number, entry):
                    return  # an answer was lost on its way, and the request was sent again
                fence.judge(self._promised, writer or fence.NOBODY)
                continue
            self._last, self._promised = number, Writer(entry.epoch, entry.nonce)
            self._note(number, entry, len(body) - len(data), len(body))
            return

    def _is_ours(self, number: int, entry: Entry) -> bool:
        return self._entry(_name(number))[0].token == entry.token

    # ---- segments ---------------------------------------------------------------------------------------------------

    def append(self, segment: str, offset: int, record: bytes, writer: Writer | None) -> None:
        """Raises FileExistsError for offset 0 of a segment that is there."""
        with self._lock:
            self.check(writer)
            parts = self._load().get(segment, [])
            end = sum(part.length for part in parts)
            if parts and offset == 0:
                raise FileExistsError(errno.EEXIST, "the name is taken")
            if end != offset:
                raise DriveUnreachableError(f"the segment has {end} bytes where {offset} were written")
            promised = self._promised
            entry = Entry("record", self._token(), promised.epoch, promised.nonce, segment, offset)
            self._add(entry, record, writer)

    def segments(self) -> dict[str, int]:
        """Name → bytes."""
        with self._lock:
            self._catch_up()
            return {name: sum(part.length for part in parts) for name, parts in self._load().items()}

    def read(self, segment: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """(offset, length) each, length -1 for all that follows. Raises ShardCorruptError for what lies behind the end.
        Only the objects that hold some of it are fetched."""
        with self._lock:
            parts = list(self._load().get(segment, []))
        if not parts:
            raise FileNotFoundError(errno.ENOENT, "no such segment")
        return [self._stretch(parts, offset, length) for offset, length in ranges]

    def _stretch(self, parts: list[Part], offset: int, length: int) -> bytes:
        size = sum(part.length for part in parts)
        end = size if length < 0 else offset + length
        if offset > end or end > size:
            raise ShardCorruptError(f"it ends at {size}, {length} bytes at {offset} were asked for")
        wanted = [part for part in parts if part.offset < end and part.offset + part.length > offset]
        with ThreadPoolExecutor(READERS) as pool:
            data = b"".join(pool.map(self._data, wanted))
        start = offset - wanted[0].offset if wanted else 0
        return data[start : start + end - offset]

    def _data(self, part: Part) -> bytes:
        whole = self._kept.pop(part.number, None)
        if whole is None:
            return self._objects.read(_name(part.number))[part.skip :]
        self._room += len(whole)
        return whole[part.skip :]

    def delete(self, segment: str) -> None:
        """The last object of the log stays, whatever it holds: the next number follows from it."""
        with self._lock:
            for part in self._load().pop(segment, []):
                if part.number != self._last:
                    self._objects.delete(_name(part.number))


def _encode(entry: Entry, data: bytes) -> bytes:
    return msgspec.json.encode(entry) + b"\n" + data


def _decode(name: str, head: bytes) -> tuple[Entry, int]:
    line, newline, _ = head[:HEADER_LIMIT].partition(b"\n")
    try:
        if not newline:
            raise msgspec.DecodeError("no line")
        return msgspec.json.decode(line, type=Entry), len(line) + 1
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ShardCorruptError(f"{name} is no log object: {error}") from error


def _name(number: int) -> str:
    return f"{LOG}{number:016x}"


def _number(name: str) -> int:
    try:
        return int(name.removeprefix(LOG), 16)
    except ValueError as error:
        raise DriveWrongError(f"{name} is no log object of ecfs") from error
