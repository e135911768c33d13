"""How well one file is kept: its stripes, and how many of their shards can be counted on. Read from the metadata only.

Also the extended attribute ``user.ecfs.health``, which can be read, but is neither listed nor written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ecfs.meta import Database

ATTRIBUTE = b"user.ecfs.health"
STRIPES = 10_000
"""Of one file that are looked at; of more, the state of the first is said to be that of the first."""
LISTED = 100
"""Stripes that are named one by one, the most endangered first."""


@dataclass
class FileHealth:
    """state: "healthy", "degraded" or "failed" (some of it can't be read now).

    with_shards: how many stripes can count on so many shards; storing: stripes whose shards are on their way; inline:
    bytes kept with the metadata, which every drive has. may_lose: drives that may be lost without losing any of it.
    lacking: stripes and the slots that lack them, the most endangered first. complete: every stripe was looked at.
    """

    size: int = 0
    state: str = "healthy"
    stripes: int = 0
    with_shards: dict[int, int] = field(default_factory=dict)
    storing: int = 0
    inline: int = 0
    may_lose: int = 0
    lacking: list[tuple[int, list[int]]] = field(default_factory=list)
    complete: bool = True


Examine = Callable[[int], FileHealth]


def examine(db: Database, ino: int, out: frozenset[int]) -> FileHealth:
    """out: slots that can't be reached now. Raises KeyError for an inode that is not there."""
    inode = db.names.inode(ino)
    if inode is None:
        raise KeyError(ino)
    health = FileHealth(size=inode.size)
    sources: set[int] = set()
    for extent in db.files.extents(ino, 0, inode.size):
        if extent.source < 0:
            health.inline += extent.length
        elif len(sources) < STRIPES:
            sources.add(extent.source)
        else:
            health.complete = extent.source in sources and health.complete
    _look_at_stripes(db, sorted(sources), out, health)
    return health


def _look_at_stripes(db: Database, stripes: list[int], out: frozenset[int], health: FileHealth) -> None:
    geometries = db.drives.geometries()
    newest = db.drives.geometry()
    spare = [newest.m - len(out)]
    counts: Counter[int] = Counter()
    for stripe in stripes:
        fact = db.ledger.fact(stripe)
        if fact is None:
            health.storing += 1
            continue
        geometry = geometries[fact.geometry]
        lacking = db.ledger.missing_slots(stripe) | out
        counts[geometry.n - len(lacking)] += 1
        spare.append(geometry.m - len(lacking))
        if lacking:
            health.lacking.append((stripe, sorted(lacking)))
    health.stripes = counts.total() + health.storing
    health.with_shards = dict(sorted(counts.items(), reverse=True))
    health.lacking = sorted(health.lacking, key=lambda item: (-len(item[1]), item[0]))[:LISTED]
    health.may_lose = max(0, min(spare))
    health.state = "failed" if min(spare) < 0 else "degraded" if health.lacking or out else "healthy"


def in_words(health: FileHealth, n: int) -> str:
    """One line: the state first, so that a program can look at the first word."""
    parts = [f"{count} with {shards} of {n} shards" for shards, count in health.with_shards.items()]
    if health.storing:
        parts.append(f"{health.storing} being stored")
    stripes = f"{health.stripes} stripe" + ("" if health.stripes == 1 else "s")
    what = f"{stripes} ({', '.join(parts)})" if parts else "kept with the metadata"
    if health.state == "failed":
        return f"failed: {what}; some of it can't be read now"
    more = f"{health.may_lose} more drive" + ("" if health.may_lose == 1 else "s")
    return f"{health.state}: {what}; {more} may be lost"
