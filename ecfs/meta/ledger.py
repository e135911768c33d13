"""The ledger: which stripes are committed, and which slots lack their shard of which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from heapq import merge
from itertools import islice

from ecfs.geometry import MAX_DRIVES
from ecfs.meta.ranges import MAX_ID, Masks, Segment, difference, masks_at, segments
from ecfs.meta.store import Store
from ecfs.meta.types import Gap, StripeCounts, StripeFact

Tally = Counter[tuple[int, Masks]]
"""How many stripes of a geometry lack the shards of exactly these slots."""

_FACT = "SELECT id, geometry, length, hash FROM stripe"
_WORST = """SELECT e.stripe FROM (SELECT stripe, sum(NOT (?1 >> slot & 1)) AS more FROM missing
    WHERE stripe BETWEEN ?2 AND ?3 GROUP BY stripe) e JOIN stripe s ON s.id = e.stripe
    ORDER BY e.more DESC, e.stripe LIMIT ?4"""
_MORE = """SELECT m.stripe FROM missing m WHERE m.slot = ?2 AND m.stripe BETWEEN ?3 AND ?4 AND NOT (?1 >> ?2 & 1) AND
    (SELECT sum(NOT (?1 >> e.slot & 1)) FROM missing e WHERE e.stripe = m.stripe) = ?5 ORDER BY m.stripe LIMIT ?6"""
_NO_MORE = """SELECT id FROM stripe WHERE id BETWEEN ?2 AND ?3 AND NOT EXISTS
    (SELECT 1 FROM missing WHERE stripe = id AND NOT (?1 >> slot & 1)) ORDER BY id LIMIT ?4"""
_BY_MASK = """SELECT s.geometry, e.mask, count(*) FROM (SELECT stripe, sum(1 << slot) AS mask FROM missing
    WHERE stripe BETWEEN ? AND ? GROUP BY stripe) e JOIN stripe s ON s.id = e.stripe GROUP BY s.geometry, e.mask"""


class Ledger:
    """Reading side, and the changes that `outcome.apply` makes through it.

    "Missing" is an explicit (stripe, slot) or an id inside a range of that slot. The tally behind `counts` is
    made by one scan when first asked for (about 0.1 s per million stripes) and from then on kept up to date by every
    outcome, so that a status page may ask every second.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gaps: dict[int, list[Gap]] = {}
        self._tally: Tally | None = None
        self._length: int | None = None
        self._length_to: dict[int, int] = {}
        self.reload()

    def reload(self) -> None:
        """Forgets what is derived from the tables."""
        self._tally = None
        self._length = None
        self._length_to = {}
        self._gaps = {}
        for slot, lo, hi, kind in self._store.all("SELECT slot, lo, hi, kind FROM gap ORDER BY slot, lo"):
            self._gaps.setdefault(slot, []).append((lo, hi, kind))

    # ---- facts

    def fact(self, stripe: int) -> StripeFact | None:
        row = self._store.one(f"{_FACT} WHERE id = ?", stripe)
        return None if row is None else StripeFact(*row)

    def facts(self, after_id: int, limit: int) -> list[StripeFact]:
        """Committed stripes with a greater id, ascending."""
        rows = self._store.all(f"{_FACT} WHERE id > ? ORDER BY id LIMIT ?", after_id, limit)
        return [StripeFact(*row) for row in rows]

    def newest(self) -> int:
        """The greatest id of a committed stripe; 0 if there is none."""
        return int(self._store.value("SELECT coalesce(max(id), 0) FROM stripe"))

    def count(self) -> int:
        return sum(self._tallied().values())

    def total_length(self) -> int:
        """Payload bytes of all committed stripes, live or dead."""
        if self._length is None:
            self._length = int(self._store.value("SELECT coalesce(sum(length), 0) FROM stripe"))
        return self._length

    def length_to(self, stripe: int) -> int:
        """Payload bytes of the committed stripes up to this id."""
        if stripe not in self._length_to:
            sql = "SELECT coalesce(sum(length), 0) FROM stripe WHERE id <= ?"
            self._length_to = {stripe: int(self._store.value(sql, stripe))}  # asked for one id at a time
        return self._length_to[stripe]

    def garbage(self, after_id: int = 0, limit: int = -1) -> list[int]:
        """Committed stripes without a live byte, ascending: dead before their deletion was recorded.

        Right only when nothing is gathered in memory: after `Files.flush`, so at opening or after a freeze.
        """
        sql = "SELECT id FROM stripe WHERE id > ? AND id NOT IN (SELECT stripe FROM live) ORDER BY id LIMIT ?"
        return [number for (number,) in self._store.all(sql, after_id, limit)]

    # ---- what is missing

    def masks(self, stripe: int) -> Masks:
        """Slots known to lack their shard of a stripe, and slots that may."""
        explicit = self._store.value("SELECT sum(1 << slot) FROM missing WHERE stripe = ?", stripe)
        return masks_at(self._gaps, stripe).with_missing(explicit or 0)

    def missing_slots(self, stripe: int) -> frozenset[int]:
        """Slots not to be counted on for a stripe: known to lack their shard, or not known to have it."""
        masks = self.masks(stripe)
        return slots_of(masks.missing | masks.unknown)

    def unknown_slots(self, stripe: int) -> frozenset[int]:
        """Those of `missing_slots` whose shard may well be there, unverified."""
        return slots_of(self.masks(stripe).unknown)

    def is_missing(self, stripe: int, slot: int) -> bool:
        return slot in self.missing_slots(stripe)

    def gaps(self, slot: int) -> list[Gap]:
        """The ranges of a slot, ascending."""
        return list(self._gaps.get(slot, ()))

    def next_missing(self, slot: int, after_id: int, limit: int) -> list[int]:
        """The next committed stripes that a slot lacks or may lack, ascending."""
        explicit = "SELECT stripe FROM missing WHERE slot = ? AND stripe > ? ORDER BY stripe LIMIT ?"
        found = [[stripe for (stripe,) in self._store.all(explicit, slot, after_id, limit)]]
        left = limit
        for lo, hi, _ in self._gaps.get(slot, ()):
            inside = self._ids(max(lo, after_id + 1), hi, left)
            found.append(inside)
            left -= len(inside)
        return list(islice(dict.fromkeys(merge(*found)), limit))

    def _ids(self, lo: int, hi: int, limit: int) -> list[int]:
        if limit <= 0 or lo >= hi:
            return []
        sql = "SELECT id FROM stripe WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
        return [number for (number,) in self._store.all(sql, lo, hi - 1, limit)]

    def todo(self, limit: int) -> list[tuple[int, frozenset[int]]]:
        """Stripes that lack shards with those slots (unknown ones too), the most endangered first, then by id."""
        levels = {(masks.missing | masks.unknown).bit_count() for _, masks in +self._tallied()} - {0}
        if not levels:
            return []
        candidates: set[int] = set()
        for part in segments(self._gaps):
            # Sorting all of a dead drive's stripes by danger would block for a second; mostly all are alike.
            candidates.update(self._worst_of(part, limit) if len(levels) > 1 else self._first_of(part, limit))
        lacking = [(stripe, self.missing_slots(stripe)) for stripe in candidates]
        return sorted(lacking, key=lambda item: (-len(item[1]), item[0]))[:limit]

    def _first_of(self, part: Segment, limit: int) -> list[int]:
        """The first stripes of a segment that lack anything."""
        if part.masks != Masks():
            return self._ids(part.lo, part.hi, limit)
        sql = "SELECT DISTINCT stripe FROM missing WHERE stripe BETWEEN ? AND ? ORDER BY stripe LIMIT ?"
        return [stripe for (stripe,) in self._store.all(sql, part.lo, part.hi - 1, limit)]

    def _worst_of(self, part: Segment, limit: int) -> list[int]:
        gaps = part.masks.missing | part.masks.unknown
        rows = self._store.all(_WORST, gaps, part.lo, part.hi - 1, limit)
        explicit = [stripe for (stripe,) in rows]
        return explicit + (self._ids(part.lo, part.hi, limit) if gaps else [])

    def levels(self) -> list[int]:
        """How many shards stripes lack, unverified ones too: the different numbers, the most first."""
        return sorted(
            {(masks.missing | masks.unknown).bit_count() for _, masks in +self._tallied()} - {0}, reverse=True
        )

    def endangered(self, lacking: int, slots: frozenset[int], after_id: int, limit: int) -> list[int]:
        """The next stripes that lack exactly so many shards, among them one of `slots`, ascending."""
        found: list[int] = []
        for part in segments(self._gaps, after_id + 1):
            if len(found) < limit:
                found += self._endangered_in(part, lacking, slots, limit - len(found))
        return found

    def _endangered_in(self, part: Segment, lacking: int, slots: frozenset[int], limit: int) -> list[int]:
        gaps = part.masks.missing | part.masks.unknown
        more = lacking - gaps.bit_count()
        if more < 0:
            return []
        if more == 0 and slots & slots_of(gaps):
            return [stripe for (stripe,) in self._store.all(_NO_MORE, gaps, part.lo, part.hi - 1, limit)]
        # Slot by slot, along the index: what only absent drives lack may be a million rows.
        asked = slots if more else frozenset[int]()
        if more and slots & slots_of(gaps):
            asked = frozenset(range(MAX_DRIVES))
        rows = [self._store.all(_MORE, gaps, slot, part.lo, part.hi - 1, more, limit) for slot in asked]
        return list(islice(dict.fromkeys(merge(*([stripe for (stripe,) in each] for each in rows))), limit))

    # ---- counters

    def counts(self, out_slots: frozenset[int]) -> StripeCounts:
        """How the stripes are, taking every shard on `out_slots` (drives that can't be reached) as missing."""
        out = sum(1 << slot for slot in out_slots)
        sizes = {number: (k + m, m) for number, k, m in self._store.all("SELECT id, k, m FROM geometry")}
        sums: Counter[str] = Counter()
        for (geometry, masks), number in self._tallied().items():
            slots, parity = sizes[geometry]
            sums[_verdict(masks.with_missing(out & (1 << slots) - 1), parity)] += number
        return StripeCounts(sums.total(), sums["full"], sums["missing"], sums["unknown"], sums["lost"])

    def with_shards(self, out_slots: frozenset[int]) -> dict[int, int]:
        """How many stripes can count on so many shards: neither missing, nor unverified, nor on `out_slots`."""
        out = sum(1 << slot for slot in out_slots)
        sizes = {number: k + m for number, k, m in self._store.all("SELECT id, k, m FROM geometry")}
        sums: Counter[int] = Counter()
        for (geometry, masks), number in (+self._tallied()).items():
            lacking = (masks.missing | masks.unknown | out) & (1 << sizes[geometry]) - 1
            sums[sizes[geometry] - lacking.bit_count()] += number
        return dict(sorted(sums.items(), reverse=True))

    def lacking(self, slot: int) -> int:
        """Stripes of which a slot lacks, or may lack, its shard."""
        return sum(
            number for (_, masks), number in self._tallied().items() if (masks.missing | masks.unknown) >> slot & 1
        )

    def _tallied(self) -> Tally:
        if self._tally is None:
            self._tally = self._scan(0, MAX_ID)
        return self._tally

    def _scan(self, lo: int, hi: int) -> Tally:
        """The tally of stripe ids [lo, hi)."""
        tally: Tally = Counter()
        geometries = [number for (number,) in self._store.all("SELECT id FROM geometry")]
        for start, end, masks in segments(self._gaps, lo, hi):
            for geometry in geometries:
                sql = "SELECT count(*) FROM stripe WHERE id BETWEEN ? AND ? AND geometry = ?"
                tally[geometry, masks] += self._store.value(sql, start, end - 1, geometry)
            for geometry, mask, number in self._store.all(_BY_MASK, start, end - 1):
                tally[geometry, masks] -= number
                tally[geometry, masks.with_missing(mask)] += number
        return +tally

    def _count(self, stripes: Iterable[int], sign: int) -> None:
        if self._tally is None:
            return
        for stripe in stripes:
            fact = self.fact(stripe)
            if fact is not None:
                self._tally[fact.geometry, self.masks(stripe)] += sign

    def _measure(self, stripes: Collection[int], sign: int) -> None:
        """Keep the total, asked for after every commit: summed up anew, that would cost what the pool holds."""
        if stripes:
            self._length_to = {}
        if self._length is not None:
            facts = map(self.fact, stripes)
            self._length += sign * sum(fact.length for fact in facts if fact is not None)

    # ---- changes, by outcomes only

    def change(self, outcome_stripes: list[tuple[int, int, int, str, int]], removed: list[int],
               missing: list[tuple[int, int]], present: list[tuple[int, int]]) -> None:  # fmt: skip
        """Applies the stripe members of an outcome."""
        self._store.undo(self.reload)
        written = {row[0] for row in outcome_stripes} | set(removed)
        touched = written | {stripe for stripe, _ in missing + present}
        self._count(touched, -1)
        self._measure(written, -1)
        for number, geometry, length, digest, mask in outcome_stripes:
            self._add(StripeFact(number, geometry, length, bytes.fromhex(digest)), mask)
        for pair in missing:
            # A stripe that was removed meanwhile must not come back as a row about nothing.
            self._store.run("INSERT OR IGNORE INTO missing SELECT id, ?2 FROM stripe WHERE id = ?1", *pair)
        for pair in present:
            self._store.run("DELETE FROM missing WHERE stripe = ? AND slot = ?", *pair)
        for number in removed:
            self._store.run("DELETE FROM stripe WHERE id = ?", number)
            self._store.run("DELETE FROM missing WHERE stripe = ?", number)
        self._count(touched, +1)
        self._measure(written, +1)

    def _add(self, fact: StripeFact, mask: int) -> None:
        self._store.run("INSERT OR REPLACE INTO stripe VALUES (?, ?, ?, ?)", *fact)
        self._store.run("DELETE FROM missing WHERE stripe = ?", fact.id)
        for slot in slots_of(mask):
            self._store.run("INSERT INTO missing VALUES (?, ?)", fact.id, slot)

    def set_gaps(self, slot: int, ranges: list[Gap]) -> None:
        """Replaces all ranges of a slot."""
        self._store.undo(self.reload)
        ranges = sorted(ranges)
        lo, hi = difference(self.gaps(slot), ranges)
        if self._tally is not None:
            self._tally -= self._scan(lo, hi)
        self._store.run("DELETE FROM gap WHERE slot = ?", slot)
        for gap in ranges:
            self._store.run("INSERT INTO gap VALUES (?, ?, ?, ?)", slot, *gap)
        self._gaps[slot] = ranges
        if self._tally is not None:
            self._tally += self._scan(lo, hi)


def slots_of(mask: int) -> frozenset[int]:
    """The bits of a mask."""
    return frozenset(slot for slot in range(mask.bit_length()) if mask >> slot & 1)


def _verdict(masks: Masks, parity: int) -> str:
    if masks.missing.bit_count() > parity:
        return "lost"
    if masks.missing:
        return "missing"
    return "unknown" if masks.unknown else "full"
