"""Every shard of every stripe, where it lies; what is bad is rebuilt and read again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import trio

from ecfs.commit.tasks import together
from ecfs.errors import (
    DriveError,
    FormatTooNewError,
    ShardCorruptError,
    ShardMissingError,
    StalledError,
)
from ecfs.heal.mend import Mended
from ecfs.heal.pace import Pace
from ecfs.heal.part import Job, shard_size
from ecfs.pool.members import Member
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.rebuild import check_shard

SAMPLE_S = 3.0
"""How long a sample may take."""
PLACES = 8
"""From which it is taken."""
PAGE = 64
"""Stripes that are pinned and checked at a time."""
REMEMBERED = 20_000
"""Stripes of which it is known what was read again in this run: at most 8 MiB. Others are simply read once more."""


@dataclass
class _Page:
    facts: list[StripeFact]
    good: dict[int, set[int]] = field(default_factory=dict)
    bad: dict[int, dict[int, DriveError]] = field(default_factory=dict)
    odd: dict[int, str] = field(default_factory=dict)


class StripeCheck:
    """One walk over all committed stripes."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._pace = Pace(job.ctx.engine)
        self._verified: dict[int, dict[int, int]] = {}

    def verified(self, stripe: int, slots: dict[int, int]) -> None:
        """These shards were verified in this run, after they were rebuilt. slots: slot → incarnation of its drive."""
        if len(self._verified) < REMEMBERED:
            self._verified[stripe] = dict(slots)

    def total(self, after: int) -> tuple[int, int]:
        """Bytes, and in how many shards, that the walk over stripes beyond `after` will verify, as is known now."""
        pool = self._job.ctx.pool
        ledger, k = pool.db.ledger, pool.geometry.k
        whole = ledger.total_length()
        left = 1 - ledger.length_to(after) / whole if whole else 1
        shards = ledger.count() * len(pool.members.writable()) * left
        return int(whole // k * len(pool.members.writable()) * left + shards * shard_size(0)), int(shards)

    async def sample(self) -> None:
        """Verify a few stripes, old and new ones, so that the time left can be told while others are rebuilt."""
        ledger, members = self._job.ctx.pool.db.ledger, self._job.ctx.pool.members.writable()
        newest = ledger.newest()
        first = next((row.id for row in ledger.facts(0, 1)), newest)
        each = min(PAGE, ledger.count() // self._job.ctx.pool.settings.sampled) // PLACES
        places = [first + (newest - first) * part // PLACES - 1 for part in range(PLACES)]
        numbers = [row.id for place in places for row in ledger.facts(place, each)] if each else []
        await together(partial(self._sample_drive, member, numbers) for member in members)

    async def _sample_drive(self, member: Member, numbers: list[int]) -> None:
        pool, end = self._job.ctx.pool, trio.current_time() + SAMPLE_S
        for number in numbers:
            with pool.pins.pin(number):
                fact, drive = self._job.ctx.fact(number), pool.members.readable(member.slot)
                if fact is None or drive is None or trio.current_time() > end:
                    continue
                try:
                    await check_shard(drive, fact, member.slot, pool.pool_id)
                except (DriveError, FormatTooNewError):
                    continue  # the scrub proper comes here, too
                self._job.meter.sampled(shard_size(fact.fragment_length))

    async def run(self, after: int, reached: Callable[[int, int], Awaitable[None]]) -> None:
        """Walk over the stripes beyond `after` that are there now. What is written meanwhile is left to the next scrub:
        otherwise one beside programs that write faster than it checks would never end.

        reached: told how far it is, and bytes verified since the last time.
        """
        ledger = self._job.ctx.pool.db.ledger
        last = ledger.newest()
        while numbers := [row.id for row in ledger.facts(after, PAGE) if row.id <= last]:
            before = self._job.meter.progress.bytes_done
            await self._page(numbers)
            after = numbers[-1]
            await reached(after, self._job.meter.progress.bytes_done - before)

    async def _page(self, numbers: list[int]) -> None:
        ctx = self._job.ctx
        with ExitStack() as pins:
            for number in numbers:
                pins.enter_context(ctx.pool.pins.pin(number))
            page = _Page([fact for number in numbers if (fact := ctx.fact(number)) is not None])
            await together(partial(self._check_drive, member, page) for member, _ in self._job.here())
        await self._judge(page)

    async def _check_drive(self, member: Member, page: _Page) -> None:
        """One drive's shards one after the other; the drives side by side."""
        pool, slot = self._job.ctx.pool, member.slot
        for fact in page.facts:
            drive = pool.members.readable(slot)
            if drive is None:
                self._job.unseen.setdefault(slot, member.reason or "it went away")
                return
            try:
                if self._verified.get(fact.id, {}).get(slot) != member.incarnation:
                    async with self._pace.turn():
                        await check_shard(drive, fact, slot, pool.pool_id)
                    pool.members.drive_answered(slot)
                page.good.setdefault(fact.id, set()).add(slot)
            except (ShardMissingError, ShardCorruptError) as error:
                page.bad.setdefault(fact.id, {})[slot] = error
            except FormatTooNewError as error:
                page.odd[fact.id] = str(error)
            except DriveError as error:
                self._job.unread(slot, error)
                pool.members.drive_failed(slot, error)
                continue
            await self._job.checked(slot, shard_size(fact.fragment_length))

    async def _judge(self, page: _Page) -> None:
        job, ctx = self._job, self._job.ctx
        # R13: a stripe that died while it was looked at is no finding.
        facts = [fact for fact in page.facts if ctx.fact(fact.id) is not None]
        reported = await self._mend(facts, page)
        for fact in facts:
            here = page.good.get(fact.id, set())
            if len(here) < fact.geometry.k and fact.id not in reported and fact.id not in page.odd:
                away = [slot for slot in range(fact.geometry.n) if slot not in here]
                job.lost(fact.id, f"stripe {fact.id:016x} can't be decoded: no good shard on drives {away}")
            elif fact.id in page.odd:
                job.found("corrupt-shard", page.odd[fact.id], repaired=False, stripe=fact.id)

    async def _mend(self, facts: list[StripeFact], page: _Page) -> set[int]:
        """Repair; returns the stripes that were found lost."""
        job, ledger = self._job, self._job.ctx.pool.db.ledger
        if job.dry_run:
            self._tell(facts, page)
            return set()
        doubtful: dict[int, frozenset[int]] = {}
        for fact in facts:
            unrecorded = page.good.get(fact.id, set()) & ledger.missing_slots(fact.id)
            doubtful[fact.id] = frozenset(unrecorded.union(page.bad.get(fact.id, ())))
        try:
            results = await job.repairer.mend((stripe, slots) for stripe, slots in doubtful.items() if slots)
        except StalledError:
            self._tell(facts, page)
            return set()
        for result in results:
            self._tell_late(result, page)
            # What was repaired a moment ago by a read's complaint is fine now, and still was a finding.
            job.mended(result)
        return {result.stripe for result in results if result.lost is not None}

    def _tell_late(self, result: Mended, page: _Page) -> None:
        """What was found bad and could not be looked at again: the ledger does not know of it."""
        if self._job.ctx.fact(result.stripe) is None:
            return  # R13
        for slot, error in page.bad.get(result.stripe, {}).items():
            if slot not in result.good and slot not in result.bad:
                self._job.found(_kind(error), str(error), repaired=False, slot=slot, stripe=result.stripe)

    def _tell(self, facts: list[StripeFact], page: _Page) -> None:
        for fact in facts:
            for slot, error in page.bad.get(fact.id, {}).items():
                self._job.found(_kind(error), str(error), repaired=False, slot=slot, stripe=fact.id)


def _kind(error: DriveError) -> str:
    return "missing-shard" if isinstance(error, ShardMissingError) else "corrupt-shard"
