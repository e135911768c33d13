"""What bytes a file has: extents into stripes and inline blobs, and how many bytes of each stripe are still live."""

from __future__ import annotations

import zlib
from functools import partial

from ecfs.errors import CorruptError
from ecfs.meta.counters import Counters
from ecfs.meta.store import Row, Store
from ecfs.meta.types import Extent, Liveness

MAX_OFFSET = (1 << 63) - 1

# Backwards, to be stopped at the first extent that ends before the range: one step down the tree, no scan.
_BACKWARDS = """SELECT ino, offset, length, source, source_offset FROM extent WHERE ino = ? AND offset < ?
    ORDER BY offset DESC"""
# Forwards, with one more step down to where it begins; half as long where hundreds of rows are read.
_FORWARDS = """SELECT ino, offset, length, source, source_offset FROM extent WHERE ino = ?1 AND offset < ?3 AND
    offset >= coalesce((SELECT offset FROM extent WHERE ino = ?1 AND offset <= ?2 ORDER BY offset DESC LIMIT 1), ?2)
    ORDER BY offset"""
_MANY = 256 * 1024
"""Bytes that may well lie in many extents."""
_INSERT = "INSERT INTO extent VALUES (?, ?, ?, ?, ?, ?)"
_MANY_PIECES, _REMEMBERED = 256, 1000
"""Of how many pieces a file must be for `mapped_bytes` to remember their sum, and of how many files."""
_ALL = "SELECT ino, offset, length, source, source_offset FROM extent"


class Files:
    """Extents, inline blobs and live bytes. Extents of one file never overlap; what none covers is a hole.

    Changes of live bytes gather in memory and reach the table once per commit (`flush`), because a file that is
    written piece by piece would otherwise update one row per piece. Methods account for them.
    """

    def __init__(self, store: Store, counters: Counters) -> None:
        self._store = store
        self._counters = counters
        self._pending: dict[int, int] = {}
        self._dead: set[int] = set()
        self._stored: int | None = None
        """Sum of the table of live bytes; None until somebody asks."""
        self._mapped: dict[int, int] = {}
        """`mapped_bytes` of files in many pieces, as of their last change."""

    # ---- extents

    def extents(self, ino: int, lo: int, hi: int) -> list[Extent]:
        """What lies in bytes [lo, hi) of a file, trimmed to that range, in order. The rest is holes."""
        rows = self._forwards(ino, lo, hi) if hi - lo >= _MANY else self._overlapping(ino, lo, hi)
        extents = list(map(Extent._make, rows))
        for at in {0, len(extents) - 1} if extents else ():
            extents[at] = _trimmed(extents[at], lo, hi)
        return extents

    def _forwards(self, ino: int, lo: int, hi: int) -> list[Row]:
        rows = self._store.all(_FORWARDS, ino, lo, hi)
        if rows and rows[0][1] + rows[0][2] <= lo:
            del rows[0]
        return rows

    def _overlapping(self, ino: int, lo: int, hi: int) -> list[Row]:
        rows: list[Row] = []
        for row in self._store.each(_BACKWARDS, ino, hi) if lo < hi else ():
            if row[1] + row[2] <= lo:
                break
            rows.append(row)
        rows.reverse()
        return rows

    def put_extent(self, ino: int, offset: int, length: int, source: int, source_offset: int) -> None:
        """Makes bytes [offset, offset + length) of a file lie at `source`, replacing whatever was there."""
        if offset < 0 or length <= 0 or not source or source_offset < 0 or offset + length > MAX_OFFSET:
            raise ValueError(f"impossible extent: {offset}, +{length}, source {source}, {source_offset}")
        freed = self._clear(ino, offset, offset + length)
        self._store.run(_INSERT, ino, offset, spread(offset), length, source, source_offset)
        if source > 0:
            self._shift(source, length)
        self._drop_unused(freed)

    def punch(self, ino: int, lo: int, hi: int | None = None) -> None:
        """Makes a hole of bytes [lo, hi), or of all from lo. The size is the inode's and stays.

        All from lo go at once: a million pieces one by one held up everybody for half a minute.
        """
        if hi is not None:
            self._drop_unused(self._clear(ino, lo, hi))
            return
        freed = self._clear(ino, lo, lo + 1)  # what begins before lo is cut off there; its rest goes with the others
        beyond = "FROM extent WHERE ino = ? AND offset >= ?"
        sums = self._store.all(f"SELECT source, sum(length) {beyond} GROUP BY source", ino, lo)
        self._store.run(f"DELETE {beyond}", ino, lo)
        for source, length in sums:
            if source > 0:
                self._shift(source, -length)
            else:
                freed.add(source)
        self._drop_unused(freed)

    def remove_file(self, ino: int) -> None:
        """Removes all extents of a file, and inline blobs nobody else refers to."""
        self.punch(ino, 0)

    def _clear(self, ino: int, lo: int, hi: int) -> set[int]:
        """Removes, trims and splits what lies in [lo, hi); returns the inline sources that lost an extent."""
        self._mapped.pop(ino, None)
        freed: set[int] = set()
        for row in self._overlapping(ino, lo, hi):
            _, offset, length, source, source_offset = row
            end = offset + length
            if offset < lo:
                self._store.run("UPDATE extent SET length = ? WHERE ino = ? AND offset = ?", lo - offset, ino, offset)
            else:
                self._store.run("DELETE FROM extent WHERE ino = ? AND offset = ?", ino, offset)
            if end > hi:
                self._store.run(_INSERT, ino, hi, spread(hi), end - hi, source, source_offset + hi - offset)
            if source > 0:
                self._shift(source, max(offset, lo) - min(end, hi))
            else:
                freed.add(source)
        return freed

    def extents_of(self, source: int) -> list[Extent]:
        """Every extent that refers to a stripe (or inline blob, negative), whole, by file and offset."""
        return [Extent(*row) for row in self._store.all(f"{_ALL} WHERE source = ? ORDER BY ino, offset", source)]

    def replace_source(self, before: Extent, new_source: int, new_source_offset: int) -> bool:
        """Points an extent elsewhere, only if its row is still exactly as it was read (R13); says whether."""
        self._store.run(
            "UPDATE extent SET source = ?, source_offset = ? "
            "WHERE ino = ? AND offset = ? AND length = ? AND source = ? AND source_offset = ?",
            new_source, new_source_offset, *before,
        )  # fmt: skip
        if not self._store.changed():
            return False
        for source, change in ((before.source, -before.length), (new_source, before.length)):
            if source > 0:
                self._shift(source, change)
        self._drop_unused({before.source} if before.source < 0 else set())
        return True

    def mapped_bytes(self, ino: int) -> int:
        """Bytes of a file that are not holes. A file of 200,000 pieces, asked again after each write, would otherwise
        hold up everybody for 20 ms each time."""
        known = self._mapped.get(ino)
        if known is not None:
            return known
        count, mapped = self._store.all("SELECT count(*), coalesce(sum(length), 0) FROM extent WHERE ino = ?", ino)[0]
        if count >= _MANY_PIECES and not self._store.inside:  # what is rolled back must not be remembered
            if len(self._mapped) >= _REMEMBERED:
                self._mapped.clear()
            self._mapped[ino] = mapped
        return int(mapped)

    # ---- inline blobs (R16)

    def add_inline(self, data: bytes) -> int:
        """Stores bytes in the database itself under a fresh id; put_extent with source -id refers to them."""
        number = self._counters.take("next_blob")
        self._store.run("INSERT INTO inline VALUES (?, ?, ?)", number, zlib.crc32(data), data)
        self._counters.add("inline_bytes", len(data))
        return number

    def inline_data(self, number: int) -> bytes:
        """The bytes of a blob. Raises CorruptError if they fail their checksum or are not there."""
        row = self._store.one("SELECT crc, data FROM inline WHERE id = ?", number)
        if row is None:
            raise CorruptError(f"inline data {number} is not in the metadata database")
        data: bytes = row[1]
        if zlib.crc32(data) != row[0]:
            raise CorruptError(f"inline data {number} fails its checksum")
        return data

    @property
    def inline_total(self) -> int:
        """Bytes in all inline blobs."""
        return self._counters["inline_bytes"]

    def inline_extents(self, limit: int) -> list[Extent]:
        """Extents into inline blobs, oldest blob first, for packing into stripes."""
        rows = self._store.all(f"{_ALL} WHERE source < 0 ORDER BY source DESC, ino, offset LIMIT ?", limit)
        return [Extent(*row) for row in rows]

    def _drop_unused(self, sources: set[int]) -> None:
        for source in sources:
            if self._store.one("SELECT 1 FROM extent WHERE source = ? LIMIT 1", source) is None:
                length = self._store.value("SELECT length(data) FROM inline WHERE id = ?", -source)
                self._store.run("DELETE FROM inline WHERE id = ?", -source)
                self._counters.add("inline_bytes", -(length or 0))

    # ---- live bytes

    def live(self, stripe: int) -> int:
        """Payload bytes of a stripe that extents refer to."""
        return self._stored_live(stripe) + self._pending.get(stripe, 0)

    def _stored_live(self, stripe: int) -> int:
        stored: int = self._store.value("SELECT bytes FROM live WHERE stripe = ?", stripe) or 0
        return stored

    def live_total(self) -> int:
        """Live bytes of all stripes."""
        if self._stored is None:
            self._stored = self._store.value("SELECT coalesce(sum(bytes), 0) FROM live")
        return self._stored + sum(self._pending.values())

    def _shift(self, stripe: int, change: int) -> None:
        before = self._pending.get(stripe)
        self._pending[stripe] = (before or 0) + change
        self._store.undo(partial(self._restore, stripe, before))

    def _restore(self, stripe: int, before: int | None) -> None:
        if before is None:
            self._pending.pop(stripe, None)
        else:
            self._pending[stripe] = before

    @property
    def has_pending(self) -> bool:
        """Whether `flush` would change the table."""
        return any(self._pending.values())

    def flush(self) -> None:
        """Writes gathered changes of live bytes into the running transaction; notes which stripes died."""
        for stripe, change in self._pending.items():
            before = self._stored_live(stripe)
            after = before + change
            if after < 0:
                raise CorruptError(f"stripe {stripe:016x} would have {after} live bytes")
            self._write_live(stripe, before, after)
        self._pending.clear()

    def _write_live(self, stripe: int, before: int, after: int) -> None:
        if after and before:
            self._store.run("UPDATE live SET bytes = ? WHERE stripe = ?", after, stripe)
        elif after:
            self._store.run("INSERT INTO live VALUES (?, ?)", stripe, after)
        elif before:
            self._store.run("DELETE FROM live WHERE stripe = ?", stripe)
        if self._stored is not None:
            self._stored += after - before
        (self._dead.discard if after else self._dead.add)(stripe)

    def take_dead(self) -> list[int]:
        """Stripes whose live bytes fell to zero since this was last asked, ascending; flushes first.

        Includes stripes that were sealed and died without ever being committed.
        """
        if self._store.inside:
            raise RuntimeError("take_dead inside an operation that may still be rolled back")
        self.flush()
        dead = sorted(self._dead)
        self._dead.clear()
        return dead

    def stripes_by_liveness(self, limit: int, after: int = 0, window: int = -1) -> list[Liveness]:
        """Committed stripes with the smallest live share first, dead ones left out.

        Scans the `window` stripes after id `after` (-1: all; about 0.5 s per million).
        """
        rows = self._store.all(
            "SELECT l.stripe, l.bytes, s.length FROM (SELECT * FROM live WHERE stripe > ? ORDER BY stripe LIMIT ?) l "
            "JOIN stripe s ON s.id = l.stripe ORDER BY l.bytes * 1.0 / s.length, l.stripe LIMIT ?",
            after, window, limit,
        )  # fmt: skip
        return [Liveness(*row) for row in rows]


def _trimmed(extent: Extent, lo: int, hi: int) -> Extent:
    ino, offset, length, source, source_offset = extent
    start = max(offset, lo)
    return Extent(ino, start, min(offset + length, hi) - start, source, source_offset + start - offset)


def spread(offset: int) -> int:
    """A part of the key that follows from the offset and means nothing.

    SQLite's session keeps rows in a hash table of 2^n buckets, by a function whose low bits see only the low bits of
    each key column. Offsets are multiples of 4 KiB and more, so all rows of a commit would share a bucket: 45 instead
    of 10 µs per extent at 4,000 rows, and a replay ten times slower.
    """
    return (offset * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF) >> 48
