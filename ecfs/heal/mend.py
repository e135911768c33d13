"""Checking and rebuilding shards of given stripes; the outcome goes into the ledger.

A shard counts as repaired only when it was read back where it lies, and its stripe is still needed (R13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from ecfs.commit.tasks import few_at_a_time, together
from ecfs.drive.base import Buffer, Drive
from ecfs.errors import (
    DriveError,
    DriveFullError,
    FormatTooNewError,
    ShardCorruptError,
    ShardExistsError,
    ShardMissingError,
    StripeLostError,
)
from ecfs.heal.context import HealContext
from ecfs.heal.ranges import moved
from ecfs.meta import Outcome
from ecfs.meta.ranges import kind_at
from ecfs.pool.members import Member
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.rebuild import check_shard, rebuild_shards
from ecfs.stripes.writer import encode_stripe

AT_ONCE = 4
"""Stripes being rebuilt at a time: 8 MiB each, while the k shards that all begin with fit together."""


@dataclass
class Mended:
    """What came of one stripe. Per slot: the incarnation in which its shard was found good or was put, or what was
    wrong with it. lost: why it can't be decoded now."""

    stripe: int
    good: dict[int, int] = field(default_factory=dict)
    bad: dict[int, DriveError] = field(default_factory=dict)
    put: dict[int, int] = field(default_factory=dict)
    repaired: dict[int, int] = field(default_factory=dict)
    lost: StripeLostError | None = None
    length: int = 0


Job = tuple[int, frozenset[int]]
"""A stripe and the slots whose shard to look at."""


class Mender:
    """Checks and rebuilds shards of given stripes, in batches that each end with one commit."""

    def __init__(self, ctx: HealContext, on_other: Callable[[int, int, DriveError], None]) -> None:
        """on_other: told about bad shards that were met while others were rebuilt."""
        self._ctx = ctx
        self._on_other = on_other
        self._lock = trio.Lock()

    async def mend(self, jobs: Iterable[Job]) -> list[Mended]:
        """Returns one result per stripe that somebody still needs. Raises StalledError, FencedError."""
        async with self._lock:  # one at a time: the new list of gaps is made from the old one
            results = await self._look(jobs)
            await self._note_bad(results)
            await few_at_a_time(AT_ONCE, [partial(self._rebuild, result) for result in results if result.bad])
            await self._sync(results)
            await together(partial(self._reread, result) for result in results if result.put)
            await self._record(results)
            for result in results:
                self._forget_dead(result)
            return results

    def _forget_dead(self, result: Mended) -> None:
        """R13: a stripe that died while it was repaired needs its shards no more. What was repaired was a finding."""
        if self._ctx.fact(result.stripe) is None:
            result.bad = {slot: error for slot, error in result.bad.items() if slot in result.repaired}
            result.lost = None

    # ---- look, rebuild, put -----------------------------------------------------------------------------

    async def _look(self, jobs: Iterable[Job]) -> list[Mended]:
        results: list[Mended] = []

        async def one(job: Job) -> None:
            result = await self._look_at(*job)
            if result is not None:
                results.append(result)

        await few_at_a_time(AT_ONCE, [partial(one, job) for job in jobs])
        return results

    async def _note_bad(self, results: list[Mended]) -> None:
        """The ledger knows before anything is put: until a sync has covered the new shard a crash may bring back the
        old one, and what is read meanwhile, from a cache, would look whole."""
        masks, new = self._ctx.pool.db.ledger.masks, []
        for result in results:
            if result.bad and self._ctx.fact(result.stripe) is not None:
                known = masks(result.stripe).missing
                new += [(result.stripe, slot) for slot in result.bad if not known >> slot & 1]
        if new:
            await self._ctx.engine.record(Outcome(missing=new))

    async def _look_at(self, stripe: int, slots: frozenset[int]) -> Mended | None:
        with self._ctx.pool.pins.pin(stripe):
            fact = self._ctx.fact(stripe)
            if fact is None:
                return None
            result = Mended(stripe, length=fact.fragment_length)
            drives = [(member, drive) for member, drive in self._ctx.workable() if member.slot in slots]
            missing = self._ctx.pool.db.ledger.masks(stripe).missing
            for member, _ in drives:
                if missing >> member.slot & 1:
                    # Should it be readable all the same, then from a cache: the sync that was to cover it failed (R21).
                    result.bad[member.slot] = ShardMissingError("was never made durable", slot=member.slot)
            await together(partial(self._check, fact, m, d, result) for m, d in drives if m.slot not in result.bad)
            return result

    async def _check(self, fact: StripeFact, member: Member, drive: Drive, result: Mended) -> None:
        pool, incarnation = self._ctx.pool, member.incarnation
        try:
            await check_shard(drive, fact, member.slot, pool.pool_id)
            pool.members.drive_answered(member.slot)
            result.good[member.slot] = incarnation
        except (ShardMissingError, ShardCorruptError) as error:
            result.bad[member.slot] = error
        except FormatTooNewError:
            return  # not damaged: whoever can read it may judge it
        except DriveError as error:
            pool.members.drive_failed(member.slot, error)

    async def _rebuild(self, result: Mended) -> None:
        with self._ctx.pool.pins.pin(result.stripe):
            fact = self._ctx.fact(result.stripe)
            if fact is None:
                return
            shards = self._from_memory(fact, result) or await self._from_drives(fact, result)
            await together(partial(self._put, fact, slot, buffers, result) for slot, buffers in shards.items())

    def _from_memory(self, fact: StripeFact, result: Mended) -> dict[int, list[Buffer]]:
        """What was committed without some drives may still be in memory: it needs no other drive then (R5)."""
        pool, payload = self._ctx.pool, self._ctx.engine.sealed.payload(fact.id)
        if payload is None:
            return {}
        encoded = encode_stripe(pool.pool_id, fact.id, fact.space, pool.geometry, payload)
        if encoded.fact != fact:
            raise RuntimeError(f"stripe {fact.id:016x} in memory is not the one of its row")
        return {slot: encoded.buffers(fact.index_of(slot)) for slot in result.bad}

    async def _from_drives(self, fact: StripeFact, result: Mended) -> dict[int, list[Buffer]]:
        pool = self._ctx.pool
        avoid = pool.db.ledger.missing_slots(fact.id)

        def on_bad(stripe: int, slot: int, error: DriveError) -> None:
            if slot not in result.bad and slot not in avoid:  # what is known already must not come round again
                self._on_other(stripe, slot, error)

        try:
            return await rebuild_shards(fact, set(result.bad), pool.members, pool.pool_id, avoid=avoid, on_bad=on_bad)
        except StripeLostError as error:
            result.lost = error
            return {}

    async def _put(self, fact: StripeFact, slot: int, buffers: list[Buffer], result: Mended) -> None:
        member = self._ctx.pool.members[slot]
        incarnation = member.incarnation

        async def put(drive: Drive) -> None:
            if isinstance(result.bad[slot], ShardMissingError):
                with suppress(ShardExistsError):
                    # There is nothing that a crash could bring back, or that must stay until this is whole: the sync
                    # for all of them and the reading again are enough, in half the time.
                    return await drive.put(fact.key, buffers)
            await drive.put(fact.key, buffers, replace=True)

        try:
            if await self._ctx.engine.settler.call(member, put):
                result.put[slot] = incarnation
        except DriveFullError:
            return  # stays in the ledger until there is room

    # ---- sync and read again ----------------------------------------------------------------------------

    async def _sync(self, results: list[Mended]) -> None:
        await together(partial(self._sync_one, slot, results) for slot in {s for r in results for s in r.put})

    async def _sync_one(self, slot: int, results: list[Mended]) -> None:
        member = self._ctx.pool.members[slot]
        try:
            done = await self._ctx.engine.settler.sync_drive(member)
        except DriveFullError:
            done = False  # stays in the ledger until there is room
        for result in results:
            if not done or result.put.get(slot) != member.incarnation:
                result.put.pop(slot, None)  # R21: what a failed sync should have covered is void

    async def _reread(self, result: Mended) -> None:
        """Never trust the write: only what was read back is repaired."""
        pool = self._ctx.pool
        with pool.pins.pin(result.stripe):
            fact = self._ctx.fact(result.stripe)
            if fact is not None:
                await self._reread_shards(fact, result)
        pool.reader.forget(result.stripe)

    async def _reread_shards(self, fact: StripeFact, result: Mended) -> None:
        for member, drive in self._ctx.pool.members.drives():
            slot, incarnation = member.slot, member.incarnation
            if result.put.get(slot) == incarnation:
                again = Mended(result.stripe)
                await self._check(fact, member, drive, again)
                if again.good.get(slot) == incarnation:
                    result.repaired[slot] = incarnation

    # ---- record -----------------------------------------------------------------------------------------

    async def _record(self, results: list[Mended]) -> None:
        outcome = self._outcome(results)
        if outcome != Outcome():
            await self._ctx.engine.record(outcome)

    def _outcome(self, results: list[Mended]) -> Outcome:
        """What the ledger should say from now on. No await between this and `Engine.record`."""
        ledger, outcome = self._ctx.pool.db.ledger, Outcome()
        whole: dict[int, set[int]] = {}
        broken: dict[int, set[int]] = {}
        for result in results:
            for slot in self._still(result.good | result.repaired):
                whole.setdefault(slot, set()).add(result.stripe)
            for slot in result.bad.keys() - result.repaired.keys():
                broken.setdefault(slot, set()).add(result.stripe)
        lost = {result.stripe for result in results if result.lost is not None}
        for slot in whole.keys() | broken.keys():
            fine, bad = whole.get(slot, set()), broken.get(slot, set())
            outcome.present += [(stripe, slot) for stripe in sorted(fine) if ledger.is_missing(stripe, slot)]
            # What can't be decoded gets a row of its own, so that the range can go on without it.
            ranged = {stripe for stripe in bad & lost if kind_at(ledger.gaps(slot), stripe)}
            new = {stripe for stripe in bad if not ledger.is_missing(stripe, slot)} | ranged
            outcome.missing += [(stripe, slot) for stripe in sorted(new)]
            gaps = moved(ledger, slot, fine | ranged)
            if gaps is not None and slot not in self._ctx.entering:
                outcome.gaps[slot] = gaps
        outcome.missing = [pair for pair in outcome.missing if self._ctx.fact(pair[0]) is not None]
        return outcome

    def _still(self, found: dict[int, int]) -> list[int]:
        """Slots whose drive is still the one that was looked at: one that came back may be an older copy (R11)."""
        members = self._ctx.pool.members
        return [slot for slot, incarnation in found.items() if members[slot].incarnation == incarnation]
