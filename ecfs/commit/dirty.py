"""Bytes that were written and not yet sealed: per file, runs that never overlap. Pure state, no I/O, no await.

What is written in order is kept as it came and joined when it is sealed; small neighbouring writes are gathered
in one growing buffer, so that a log written 100 bytes at a time does not become 100,000 runs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

GATHER = 256 * 1024
"""Bytes up to which a run grows in place."""

Run = tuple[int, bytes]


class DirtyFile:
    """The dirty runs of one file, by offset."""

    __slots__ = ("_runs", "_starts", "size")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: list[bytes | bytearray] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self._starts)

    def write(self, offset: int, data: bytes) -> None:
        """data: one byte at least."""
        if self._starts and offset < self._starts[-1] + len(self._runs[-1]):
            self.cut(offset, offset + len(data))
        at = bisect_left(self._starts, offset)
        self.size += len(data)
        if at and self._extend(at - 1, offset, data):
            return
        self._starts.insert(at, offset)
        self._runs.insert(at, data)

    def _extend(self, at: int, offset: int, data: bytes) -> bool:
        run = self._runs[at]
        if self._starts[at] + len(run) != offset or len(run) + len(data) > GATHER:
            return False
        if not isinstance(run, bytearray):
            run = self._runs[at] = bytearray(run)
        run += data
        return True

    def cut(self, lo: int, hi: int) -> None:
        """Forget the bytes in [lo, hi)."""
        first = max(bisect_right(self._starts, lo) - 1, 0)
        kept_starts: list[int] = []
        kept_runs: list[bytes | bytearray] = []
        at = first
        while at < len(self._starts) and self._starts[at] < hi:
            start, run = self._starts[at], self._runs[at]
            end = start + len(run)
            if end <= lo:
                kept_starts.append(start)
                kept_runs.append(run)
            else:
                self.size -= min(end, hi) - max(start, lo)
                if start < lo:
                    kept_starts.append(start)
                    kept_runs.append(bytes(run[: lo - start]))
                if end > hi:
                    kept_starts.append(hi)
                    kept_runs.append(bytes(run[hi - start :]))
            at += 1
        self._starts[first:at] = kept_starts
        self._runs[first:at] = kept_runs

    def pieces(self, lo: int, hi: int) -> Iterator[Run]:
        """Copies of the dirty bytes in [lo, hi), in order."""
        at = max(bisect_right(self._starts, lo) - 1, 0)
        while at < len(self._starts) and self._starts[at] < hi:
            start, run = self._starts[at], self._runs[at]
            begin, end = max(start, lo), min(start + len(run), hi)
            if begin < end:
                whole = begin == start and end == start + len(run) and isinstance(run, bytes)
                yield begin, run if whole else bytes(run[begin - start : end - start])  # type: ignore[misc]
            at += 1

    def ranges(self) -> Iterator[tuple[int, int]]:
        """(start, end) of every run, in order."""
        return ((start, start + len(run)) for start, run in zip(self._starts, self._runs, strict=True))

    def covers(self, offset: int) -> bool:
        """Is the byte at `offset` dirty?"""
        return any(self.pieces(offset, offset + 1))

    def take(self, limit: int) -> list[Run]:
        """Remove and return up to `limit` bytes from the front, in order."""
        taken: list[Run] = []
        room, at = limit, 0
        while at < len(self._starts) and room:
            start, run = self._starts[at], self._runs[at]
            if len(run) > room:
                taken.append((start, bytes(run[:room])))
                self._starts[at], self._runs[at] = start + room, bytes(run[room:])
                room = 0
                break
            taken.append((start, bytes(run) if isinstance(run, bytearray) else run))
            room -= len(run)
            at += 1
        del self._starts[:at], self._runs[:at]
        self.size -= limit - room
        return taken


class Dirty:
    """All dirty files, the longest dirty first. total: bytes. runs: in how many pieces they lie."""

    def __init__(self) -> None:
        self.total = 0
        self.runs = 0
        self._files: dict[int, DirtyFile] = {}

    def file(self, ino: int) -> DirtyFile | None:
        return self._files.get(ino)

    def write(self, ino: int, offset: int, data: bytes) -> None:
        file = self._files.get(ino)
        if file is None:
            file = self._files[ino] = DirtyFile()
        before, runs = file.size, len(file)
        file.write(offset, data)
        self.total += file.size - before
        self.runs += len(file) - runs

    def cut(self, ino: int, lo: int, hi: int) -> None:
        file = self._files.get(ino)
        if file is not None:
            before, runs = file.size, len(file)
            file.cut(lo, hi)
            self.total += file.size - before
            self.runs += len(file) - runs
            if not file.size:
                del self._files[ino]

    def drop(self, ino: int) -> None:
        file = self._files.pop(ino, None)
        if file is not None:
            self.total -= file.size
            self.runs -= len(file)

    def take(self, limit: int) -> list[tuple[int, int, bytes]]:
        """Remove up to `limit` bytes, oldest file first: (ino, offset, data)."""
        taken: list[tuple[int, int, bytes]] = []
        emptied: list[int] = []
        left = limit
        for ino, file in self._files.items():
            if left <= 0:
                break
            before, runs = file.size, len(file)
            taken += [(ino, offset, data) for offset, data in file.take(left)]
            left -= before - file.size
            self.runs -= runs - len(file)
            if not file.size:
                emptied.append(ino)
        self.total -= limit - left
        # After the loop: looking for the first key over and over walks over the places of all that are gone.
        for ino in emptied:
            del self._files[ino]
        return taken
