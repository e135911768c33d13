"""Cross-checks: whether the tables agree with each other. Finds, never repairs.

Works in steps of bounded size, so that the event loop can breathe (and change things) between them: each step judges
only what it reads within itself, so a finding is true of one moment. A directory is judged in one step, however large.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator

from ecfs.errors import CorruptError
from ecfs.meta.database import Database
from ecfs.meta.store import Row
from ecfs.meta.types import ROOT_INO

_FIRST = -(1 << 63)
_MODES = 0o177777
"""The greatest st_mode: of others `stat` makes an error."""
_BLOBS_PER_STEP = 100
"""A blob may have 128 KiB."""


def cross_check(db: Database, chunk: int = 2_000) -> Iterator[str]:
    """Every disagreement, one line each."""
    for findings in check_steps(db, chunk):
        yield from findings


def check_steps(db: Database, chunk: int = 2_000) -> Iterator[list[str]]:
    """As `cross_check`, but yields after every `chunk` rows, mostly an empty list. May be abandoned at any time."""
    for part in (_sources, _live_rows, _extents, _blobs, _inodes, _directories, _entries, _belongings):
        yield from part(db, chunk)
    yield _totals(db)


def _pages(db: Database, sql: str, chunk: int, first: Row = (0,)) -> Iterator[list[Row]]:
    """The rows of a query over (after…, limit) that ascend by as many columns as `first` has, page by page.

    Raises CorruptError where they don't: in a damaged index one page may lead back to another, without an end.
    """
    while rows := db.store.all(sql, *first, chunk):
        yield rows
        last = rows[-1][: len(first)]
        if _order(last) <= _order(first):
            raise CorruptError("the metadata database is damaged (an index does not ascend)")
        first = last


def _order(values: Row) -> list[tuple[int, object]]:
    """To be compared as SQLite does: numbers come before text, text before bytes."""
    return [(0 if isinstance(value, int | float) else 1 if isinstance(value, str) else 2, value) for value in values]


def _are_numbers(*values: object) -> bool:
    """SQLite keeps any type in any column, and damage can make one of another."""
    return all(isinstance(value, int) for value in values)


# ---- extents, stripes, blobs


def _sources(db: Database, chunk: int) -> Iterator[list[str]]:
    """Each stripe or blob that extents point into exists, is long enough and counts the live bytes they add up to."""
    sql = """SELECT source, sum(length), max(source_offset + length),
        (SELECT s.length FROM stripe s WHERE s.id = source), (SELECT length(data) FROM inline WHERE id = -source)
        FROM extent WHERE source > ? GROUP BY source ORDER BY source LIMIT ?"""
    for rows in _pages(db, sql, chunk, (_FIRST,)):
        newest = _newest_judged(db)
        yield [finding for row in rows for finding in _source(db, newest, row)]


def _newest_judged(db: Database) -> int:
    """Stripes up to this id must be committed. Newer ones may be in flight, unless nothing is."""
    if not db.is_dirty() and db.patch_seq <= db.outcome_seq:
        return -_FIRST
    return db.store.value("SELECT max(id) FROM stripe") or 0


def _source(db: Database, newest: int, row: Row) -> Iterator[str]:
    source, total, end, stripe_length, blob_length = row
    if not _are_numbers(source, total, end):
        yield f"extents of {source!r} are no numbers"
        return
    name = f"stripe {source:016x}" if source > 0 else f"inline data {-source}"
    length = stripe_length if source > 0 else blob_length
    if length is None and source <= newest:
        yield f"{name} is referred to, but not in the database"
    if length is not None and end > length:
        yield f"{name} has {length} bytes, but is referred to up to {end}"
    if source > 0 and db.files.live(source) != total:
        yield f"{name} counts {db.files.live(source)} live bytes, extents add up to {total}"


def _live_rows(db: Database, chunk: int) -> Iterator[list[str]]:
    sql = """SELECT stripe, EXISTS (SELECT 1 FROM extent WHERE source = stripe) FROM live WHERE stripe > ?
        ORDER BY stripe LIMIT ?"""
    for rows in _pages(db, sql, chunk):
        unused = [stripe for stripe, used in rows if not used and db.files.live(stripe)]
        yield [f"stripe {stripe:016x} counts {db.files.live(stripe)} live bytes, no extent" for stripe in unused]


def _extents(db: Database, chunk: int) -> Iterator[list[str]]:
    """Extents in order; each page begins with the last row of the page before, so that no pair is left out."""
    sql = """SELECT e.ino, e.offset, e.length, i.ino FROM extent e LEFT JOIN inode i ON i.ino = e.ino
        WHERE (e.ino, e.offset) >= (?, ?) ORDER BY e.ino, e.offset LIMIT ?"""
    ino, offset = _FIRST, _FIRST
    while True:
        rows = db.store.all(sql, ino, offset, chunk + 1)
        yield list(_extent_findings(rows))
        if len(rows) <= chunk:
            return
        ino, offset = rows[-1][:2]


def _extent_findings(rows: list[Row]) -> Iterator[str]:
    before = (0, 0)
    for ino, offset, length, inode in rows:
        if not _are_numbers(ino, offset, length):
            yield f"inode {ino!r}: an extent that is no numbers"
            continue
        if inode is None:
            yield f"inode {ino}: has an extent at {offset}, but does not exist"
        if length <= 0 or offset < 0:
            yield f"inode {ino}: impossible extent at {offset}, +{length}"
        if before[0] == ino and before[1] > offset:
            yield f"inode {ino}: extents overlap at {offset}"
        before = (ino, offset + length)


def _blobs(db: Database, _chunk: int) -> Iterator[list[str]]:
    sql = """SELECT id, crc, data, EXISTS (SELECT 1 FROM extent WHERE source = -id) FROM inline WHERE id > ?
        ORDER BY id LIMIT ?"""
    for rows in _pages(db, sql, _BLOBS_PER_STEP):
        wrong = [row for row in rows if not isinstance(row[2], bytes) or zlib.crc32(row[2]) != row[1]]
        yield [f"inline data {row[0]} fails its checksum" for row in wrong] + [
            f"inline data {row[0]} is referred to by nothing" for row in rows if not row[3]
        ]


# ---- inodes and names


def _inodes(db: Database, chunk: int) -> Iterator[list[str]]:
    sql = f"""SELECT i.ino, i.mode, i.nlink, (SELECT count(*) FROM dirent d WHERE d.ino = i.ino),
        CASE WHEN i.mode & {0o170000} = {stat.S_IFDIR} THEN
        (SELECT count(*) FROM dirent d JOIN inode c ON c.ino = d.ino WHERE d.parent = i.ino
        AND c.mode & {0o170000} = {stat.S_IFDIR}) END, EXISTS (SELECT 1 FROM orphan o WHERE o.ino = i.ino),
        EXISTS (SELECT 1 FROM symlink s WHERE s.ino = i.ino)
        FROM inode i WHERE i.ino > ? ORDER BY i.ino LIMIT ?"""
    for rows in _pages(db, sql, chunk):
        yield [f"inode {row[0]}: {finding}" for row in rows for finding in _inode(row)]


def _inode(row: Row) -> Iterator[str]:
    ino, mode, nlink, names, subdirectories, orphan, target = row
    if not (_are_numbers(mode) and 0 <= mode <= _MODES):
        yield f"{mode!r} is no mode"
        return
    reachable = names > 0 or ino == ROOT_INO
    if not reachable and not orphan:
        yield "no directory names it"
    if reachable and orphan:
        yield "named by a directory, but marked as unlinked"
    should = 0 if not reachable else names if subdirectories is None else 2 + subdirectories
    if nlink != should:
        yield f"link count {nlink}, should be {should}"
    if subdirectories is not None and names > 1:
        yield f"a directory with {names} names"
    if stat.S_ISLNK(mode) != bool(target):
        yield "a symlink without target" if not target else "has a symlink's target, but is none"


def _directories(db: Database, chunk: int) -> Iterator[list[str]]:
    """Every directory that has a name knows its parent and leads to the root."""
    sql = f"""SELECT i.ino, i.parent, d.parent FROM inode i JOIN dirent d ON d.ino = i.ino
        WHERE i.ino > ? AND i.mode & {0o170000} = {stat.S_IFDIR} ORDER BY i.ino LIMIT ?"""
    for rows in _pages(db, sql, chunk):
        rooted = {ROOT_INO}
        findings = [f"inode {row[0]}: its parent is {row[2]}, not {row[1]}" for row in rows if row[1] != row[2]]
        yield findings + [
            f"inode {row[0]}: does not lead to the root" for row in rows if not _climb(db, row[0], rooted)
        ]


def _climb(db: Database, ino: int, rooted: set[int]) -> bool:
    """Whether a directory leads to the root; if so, all on the way join `rooted`."""
    way: dict[int, None] = {}
    here: int | None = ino
    while here is not None and here not in rooted:
        if here in way:
            return False
        way[here] = None
        here = db.store.value("SELECT parent FROM dirent WHERE ino = ?", here)
    rooted.update(way if here is not None else ())
    return here is not None


def _entries(db: Database, chunk: int) -> Iterator[list[str]]:
    sql = f"""SELECT d.parent, d.name, d.ino, i.ino, p.mode & {0o170000}
        FROM dirent d LEFT JOIN inode i ON i.ino = d.ino LEFT JOIN inode p ON p.ino = d.parent
        WHERE (d.parent, d.name) > (?, ?) ORDER BY d.parent, d.name LIMIT ?"""
    for rows in _pages(db, sql, chunk, (_FIRST, b"")):
        yield [f"entry {row[1]!r} of directory {row[0]}: no inode {row[2]}" for row in rows if row[3] is None] + [
            f"entry {row[1]!r}: {row[0]} is no directory" for row in rows if row[4] != stat.S_IFDIR
        ]


def _belongings(db: Database, chunk: int) -> Iterator[list[str]]:
    for table in ("symlink", "xattr", "orphan"):
        sql = f"""SELECT DISTINCT ino FROM {table} t WHERE ino > ?
            AND NOT EXISTS (SELECT 1 FROM inode i WHERE i.ino = t.ino) ORDER BY ino LIMIT ?"""
        for rows in _pages(db, sql, chunk):
            yield [f"inode {ino}: in table {table}, but does not exist" for (ino,) in rows]


def _totals(db: Database) -> list[str]:
    """The totals that spare others a scan."""
    queries = {
        "inodes": "SELECT count(*) FROM inode",
        "file_bytes": "SELECT coalesce(sum(size), 0) FROM inode",
        "inline_bytes": "SELECT coalesce(sum(length(data)), 0) FROM inline",
    }
    found = {name: db.store.value(sql) for name, sql in queries.items()}
    return [
        f"{name} counts {db.counters[name]}, is {found[name]}" for name in queries if db.counters[name] != found[name]
    ]
