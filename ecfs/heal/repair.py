"""The repair loop: works off what the ledger says is missing, and what reads found bad, while programs go on.

The queue is the ledger itself, so nothing that was recorded can be forgotten. What can't be decoded now is set aside,
shown, and tried again when a drive comes back, or after some minutes; it never loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio
from msgspec import structs

from ecfs.errors import DriveError, EcfsError, FencedError
from ecfs.heal.context import HealContext
from ecfs.heal.mend import Job, Mended, Mender
from ecfs.meta import Gap, Outcome

LOOK_S = 1.0
BATCH = 32
"""Stripes per commit of repairs."""
RETRY_S = 60.0
"""After a pass that got nowhere, unless something changes before."""
ASIDE_S = 600.0
"""How long what could not be decoded is set aside: a read may have failed only once, of a drive that was busy."""
QUICK_LIMIT = 1000
ASIDE_LIMIT = 10_000

OnMended = Callable[[list[Mended]], None]


@dataclass
class _Tour:
    """One pass over the ledger. levels: how many shards are lacking, the most first; after: the last stripe seen of
    the first level."""

    levels: list[int]
    after: int = 0

    def turn(self, numbers: list[int]) -> list[int]:
        """The same numbers; when there are none, the next level is up."""
        if numbers:
            self.after = numbers[-1]
        else:
            self.levels.pop(0)
            self.after = 0
        return numbers


class Repairer:
    """One pass at a time, the background's or a scrub's."""

    def __init__(self, ctx: HealContext) -> None:
        self._ctx = ctx
        self.mender = Mender(ctx, self.note_bad)
        self.set_aside: dict[int, str] = {}
        """Stripes that can't be decoded now, and why."""
        self.repaired = 0
        self.dropped = 0
        """Reports of bad shards that found the quick queue full; a scrub finds them."""
        self.held = False
        """True while a scrub does the work itself."""
        self._quick: dict[tuple[int, int], None] = {}
        self._wanted: dict[int, None] = {}
        """Stripes that were read although a shard is missing, the last one asked for last."""
        self._wake = trio.Event()
        self._seen: object = None
        self._not_before = 0.0
        self._aside_until = 0.0

    @property
    def quick_pending(self) -> int:
        return len(self._quick)

    def note_bad(self, stripe: int, slot: int, error: DriveError) -> None:
        """A read found a shard bad. Called from inside the read: neither waits nor raises."""
        if len(self._quick) >= QUICK_LIMIT:
            self.dropped += 1
            return
        self._quick[stripe, slot] = None
        self._wake.set()

    def note_wanted(self, stripe: int) -> None:
        """A program reads a stripe that lacks shards: the sooner it is whole, the sooner reading is quick again."""
        self._wanted.pop(stripe, None)
        self._wanted[stripe] = None
        if len(self._wanted) > QUICK_LIMIT:
            del self._wanted[next(iter(self._wanted))]

    def nudge(self) -> None:
        """A drive is back: what was set aside may be decodable now."""
        self.set_aside.clear()
        self._not_before = 0.0
        self._wake.set()

    # ---- the background ---------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            with trio.move_on_after(LOOK_S):
                await self._wake.wait()
            self._wake = trio.Event()
            engine = self._ctx.engine
            if engine.stalled or engine.fenced or self.held:
                continue
            try:
                await self.quick_pass()
                if self._is_due():
                    await self.drain(polite=True)
                await self.finish_drives()
            except FencedError:
                return
            except EcfsError as error:
                self._ctx.pool.members.note(None, "repair", f"interrupted: {error}")

    def _is_due(self) -> bool:
        """Something new is missing, or enough time has passed since a pass that got nowhere."""
        seen = (self._ctx.pool.db.ledger.counts(frozenset()), self._ctx.pool.members.out_slots())
        changed, self._seen = seen != self._seen, seen
        now = trio.current_time()
        if self.set_aside and now >= self._aside_until:
            self.set_aside.clear()
            changed = True
        return changed or now >= self._not_before

    async def quick_pass(self) -> None:
        """Look at what reads complained about: right again without waiting for a scrub."""
        while self._quick and not self._ctx.engine.stalled:
            taken = list(self._quick)[:BATCH]
            jobs: dict[int, set[int]] = {}
            for stripe, slot in taken:
                del self._quick[stripe, slot]
                jobs.setdefault(stripe, set()).add(slot)
            try:
                await self.mend((stripe, frozenset(slots)) for stripe, slots in jobs.items())
            except BaseException:
                # A stall, say. Reads report a shard once: dropped here, the ledger would not hear of it before a scrub.
                self._quick |= dict.fromkeys(taken)
                raise
            for stripe in jobs:
                self._ctx.pool.reader.forget(stripe)  # a false alarm must not shun the shard for ever

    async def mend(self, jobs: Iterable[Job]) -> list[Mended]:
        """As `Mender.mend`; what is set aside follows."""
        mended = await self.mender.mend(jobs)
        self._count(mended)
        return mended

    # ---- passes over the ledger -------------------------------------------------------------------------

    async def drain(self, *, polite: bool = False, on_mended: OnMended | None = None) -> None:
        """Repair until nothing that can be repaired now is left. polite: let commits of programs go first."""
        for stripe in [stripe for stripe in self.set_aside if self._ctx.fact(stripe) is None]:
            del self.set_aside[stripe]  # nobody needs it any more
        tour = _Tour(self._ctx.pool.db.ledger.levels())
        fixed = 0
        while not self._ctx.engine.fenced:
            jobs = self._next_jobs(tour)
            if not jobs or (polite and self.held):
                break
            began = trio.current_time()
            mended = await self.mender.mend(jobs)
            fixed += self._count(mended)
            if on_mended is not None:
                on_mended(mended)
            if polite:
                await self._give_way(trio.current_time() - began)
        self._not_before = 0.0 if fixed else trio.current_time() + RETRY_S

    def _count(self, mended: list[Mended]) -> int:
        """How many shards were settled; notes what can't be decoded."""
        for result in mended:
            if result.lost is None:
                self.set_aside.pop(result.stripe, None)
            elif len(self.set_aside) < ASIDE_LIMIT:
                if not self.set_aside:
                    self._aside_until = trio.current_time() + ASIDE_S
                self.set_aside[result.stripe] = str(result.lost)
        repaired = sum(len(result.repaired) for result in mended)
        self.repaired += repaired
        return repaired + sum(len(result.good) for result in mended)

    async def _give_way(self, spent: float) -> None:
        engine = self._ctx.engine
        busy = engine.dirty.total or engine.sealed.bytes or engine.db.is_dirty()
        await trio.sleep(min(spent, 0.5) if busy else 0)

    def _next_jobs(self, tour: _Tour) -> list[Job]:
        """Stripes that can lose no more shard first, then those that are being read, then the others by danger; each
        at most once per pass."""
        ledger, parity = self._ctx.pool.db.ledger, self._ctx.pool.geometry.m
        workable = frozenset(member.slot for member, _ in self._ctx.workable())
        while True:
            if self._wanted and (not tour.levels or tour.levels[0] < parity):
                numbers = [self._wanted.popitem()[0] for _ in range(min(BATCH, len(self._wanted)))]
            elif tour.levels:
                numbers = tour.turn(ledger.endangered(tour.levels[0], workable, tour.after, BATCH))
            else:
                return []
            jobs = [self._job(stripe, workable) for stripe in numbers]
            if found := [job for job in jobs if job is not None]:
                return found

    def _job(self, stripe: int, workable: frozenset[int]) -> Job | None:
        slots = self._ctx.pool.db.ledger.missing_slots(stripe) & workable
        if not slots or stripe in self.set_aside or not self.may_decode(stripe, slots):
            return None
        return stripe, slots

    def may_decode(self, stripe: int, slots: frozenset[int]) -> bool:
        """False if trying would be in vain: too many of the drives that have its shards are away."""
        pool = self._ctx.pool
        if self._ctx.engine.sealed.is_kept(stripe):
            return True
        masks = pool.db.ledger.masks(stripe)
        if any(masks.unknown >> slot & 1 for slot in slots):
            return True
        holders = [m for m in pool.members.up() if not masks.missing >> m.slot & 1]
        return len(holders) >= pool.geometry.k

    # ---- from behind to online --------------------------------------------------------------------------

    async def finish_drives(self) -> None:
        """A drive on which nothing is missing or unknown is online; only then (users rely on the word)."""
        pool, rows = self._ctx.pool, []
        gaps: dict[int, list[Gap]] = {}
        for member, _ in self._ctx.workable():
            row = pool.db.drives.row(member.slot)
            if row is None or row.state == "online" or pool.db.ledger.next_missing(member.slot, 0, 1):
                continue
            rows.append(structs.replace(row, state="online", reason="", in_w=True, since_ns=pool.clock.wall_ns()))
            if pool.db.ledger.gaps(member.slot):
                gaps[member.slot] = []
        if rows and not self._ctx.engine.stalled:
            await self._ctx.engine.record(Outcome(drives=rows, gaps=gaps))
