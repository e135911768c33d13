"""The drill: shows for every stripe that it would survive the loss of any m drives. What it finds bad is repaired.

It goes on where an earlier one was interrupted: how far it is lies in the setting "drill_progress", its result in
"drill". Both are about what the drives held when they were read, so the age that status shows is that of the oldest
part.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import trio

from ecfs.commit.tasks import together
from ecfs.errors import DriveError, ShardCorruptError, ShardMissingError, StalledError, StripeLostError
from ecfs.geometry import counter_of
from ecfs.heal.doubts import Doubts
from ecfs.heal.part import Job, shard_size
from ecfs.heal.prove import Proof, decode, prove
from ecfs.heal.report import LOST, PENDING, REPAIRED, Finding, ScrubReport
from ecfs.meta import Outcome
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.rebuild import rebuild_shards

PAGE = 8
"""Stripes that are pinned at a time."""
AT_ONCE = 2
"""Stripes in memory at a time: 12 MiB each."""
SAMPLE = 32
"""Without `full`, one stripe of so many is decoded without each set of m drives; the first one always."""
SAVE_S = 10.0
"""What an interruption costs at most. Each time is a commit."""


class Reached(msgspec.Struct):
    """How far a drill is. after: the last stripe it has looked at; bytes are payload; the counts are of stripes, but
    pending: findings."""

    started: int
    full: bool = False
    after: int = 0
    stripes: int = 0
    proven: int = 0
    bytes: int = 0
    proven_bytes: int = 0
    decoded: int = 0
    lost: int = 0
    pending: int = 0


@dataclass
class DrillReport(ScrubReport):
    """stripes, bytes: looked at, since the drill began. proven: any m drives may go. decoded: shown the long way,
    too, for each of `sets` sets of m drives."""

    full: bool = False
    stripes: int = 0
    proven: int = 0
    bytes: int = 0
    proven_bytes: int = 0
    decoded: int = 0
    sets: int = 0


class Drill:
    """One run over all stripes and the checkpoints."""

    def __init__(self, job: Job, report: DrillReport, *, restart: bool) -> None:
        self._job = job
        self._pool = job.ctx.pool
        self._report = report
        self._doubts = Doubts(job)
        self._reached = self._resume(restart)
        self._saved = trio.current_time()
        self._decode_next = not self._reached.decoded

    def _resume(self, restart: bool) -> Reached:
        report, stored = self._report, self._pool.db.drives.setting("drill_progress")
        if stored is not None and not restart:
            reached = msgspec.convert(stored, Reached)
            if reached.full == report.full:
                report.resumed, report.started_ns = True, reached.started
                report.lost, report.pending = reached.lost, reached.pending
                return reached
        return Reached(report.started_ns, report.full)

    async def run(self) -> None:
        job, ledger, n = self._job, self._pool.db.ledger, self._pool.geometry.n
        whole = ledger.total_length()
        left = whole - ledger.length_to(self._reached.after)
        shards = ledger.count() * n * left // whole if whole else 0
        job.meter.add_total(left * n // self._pool.geometry.k, shards)
        job.meter.phase("stripes")
        while rows := ledger.facts(self._reached.after, PAGE):
            await self._page([row.id for row in rows])
            self._reached.after, self._reached.pending = rows[-1].id, self._report.pending
            if trio.current_time() - self._saved >= SAVE_S:
                await self._record({"drill_progress": msgspec.to_builtins(self._reached)})
        job.meter.phase("checkpoints")
        await self._checkpoints()
        await self._finish()

    async def _page(self, numbers: list[int]) -> None:
        ctx, limit = self._job.ctx, trio.CapacityLimiter(AT_ONCE)

        async def one(fact: StripeFact) -> None:
            async with limit:
                await self._stripe(fact)

        with ExitStack() as pins:
            for number in numbers:
                pins.enter_context(ctx.pool.pins.pin(number))
            facts = [fact for number in numbers if (fact := ctx.fact(number)) is not None]
            await together(partial(one, fact) for fact in facts)

    async def _stripe(self, fact: StripeFact) -> None:
        proof = await self._prove(fact)
        if self._job.ctx.fact(fact.id) is None:
            return  # R13: it died while it was looked at
        reached = self._reached
        reached.stripes += 1
        reached.bytes += fact.length
        if proof.whole:
            reached.proven += 1
            reached.proven_bytes += fact.length
            reached.decoded += proof.decoded > 0
        elif await self._tell(proof):
            reached.lost += 1

    async def _checkpoints(self) -> None:
        """The metadata need the same proof. One that is not whole is no stripe of files: a scrub repairs it."""
        pool = self._pool
        async with self._job.ctx.engine.checkpointer.lock:  # a new checkpoint would prune one under our feet
            for checkpoint in pool.checkpoints:
                for fact in checkpoint.facts(pool.geometry):
                    proof = await self._prove(fact)
                    if not proof.whole:
                        await self._tell(proof)

    # ---- one stripe ---------------------------------------------------------------------------------------

    async def _prove(self, fact: StripeFact) -> Proof:
        proof = await prove(fact, self._pool.members, self._pool.pool_id)
        self._doubt(proof)
        if proof.whole and (self._report.full or self._decode_next or not counter_of(fact.id) % SAMPLE):
            self._decode_next = False
            await decode(proof)
        for index in proof.good:
            await self._job.checked(fact.slot_of(index), shard_size(fact.fragment_length))
        return proof

    def _doubt(self, proof: Proof) -> None:
        """What was never made durable can be read, from a cache, and is no proof (R21)."""
        fact = proof.fact
        missing = self._pool.db.ledger.masks(fact.id).missing if fact.space == "s" else 0
        for index in list(proof.good):
            slot = fact.slot_of(index)
            error = self._doubts.about(fact, slot)
            if missing >> slot & 1:
                error = ShardMissingError("was never made durable", slot=slot, key=fact.key)
            if error is not None:
                del proof.good[index]
                proof.bad[slot] = error

    async def _tell(self, proof: Proof) -> bool:
        """Say what a stripe lacks, and have it repaired. True if it can't be decoded at all now."""
        job, fact = self._job, proof.fact
        kind = "checkpoint" if fact.space != "s" else ""
        for slot, error in sorted(proof.bad.items()):
            self._note_bad(fact, slot, error)
            name = kind or ("missing-shard" if isinstance(error, ShardMissingError) else "corrupt-shard")
            job.add(Finding(name, PENDING, str(error), slot, fact.id))
        for slot, error in sorted(proof.wrong.items()):
            done = await self._rewrite(proof, slot)
            job.add(Finding(kind or "corrupt-shard", REPAIRED if done else PENDING, str(error), slot, fact.id))
        if proof.encoded is not None:
            return False
        try:
            await rebuild_shards(fact, (), self._pool.members, self._pool.pool_id, avoid={*proof.bad, *proof.wrong})
        except StripeLostError as error:
            paths = job.ctx.paths_of(fact.id) if fact.space == "s" else ()
            job.add(Finding(kind or "missing-shard", LOST, str(error), None, fact.id, paths))
            return True
        return False

    def _note_bad(self, fact: StripeFact, slot: int, error: Exception) -> None:
        """As a read would: damage goes to the repair queue, a drive that fails is the drive's matter."""
        if isinstance(error, ShardMissingError | ShardCorruptError):
            if fact.space == "s" and self._pool.on_bad is not None:
                self._pool.on_bad(fact.id, slot, error)
        elif isinstance(error, DriveError) and self._pool.members.readable(slot) is not None:
            self._pool.members.drive_failed(slot, error)

    async def _rewrite(self, proof: Proof, slot: int) -> bool:
        """A shard that contradicts the others looks sound to every check but this one: only what is known to be missing
        is put anew."""
        fact, encoded = proof.fact, proof.encoded
        if encoded is None:
            return False
        try:
            if fact.space == "s":
                return await self._mend(fact, slot)
            done = await self._doubts.put_right(fact, {slot: encoded.buffers(fact.index_of(slot))})
            await self._doubts.settle({(fact.id, slot) for slot in done})
            return bool(done)
        except StalledError:
            return False

    async def _mend(self, fact: StripeFact, slot: int) -> bool:
        if self._job.ctx.fact(fact.id) is None:
            return False  # R13: it died while it was looked at
        await self._job.ctx.engine.record(Outcome(missing=[(fact.id, slot)]))
        results = await self._job.repairer.mend([(fact.id, frozenset({slot}))])
        return any(slot in result.repaired for result in results)

    # ---- what is left behind ------------------------------------------------------------------------------

    async def _finish(self) -> None:
        report, reached = self._report, self._reached
        for name in ("stripes", "proven", "bytes", "proven_bytes", "decoded"):
            setattr(report, name, getattr(reached, name))
        report.finished_ns = self._pool.clock.wall_ns()
        result = msgspec.to_builtins(reached) | {"finished": report.finished_ns}
        await self._record({"drill": result, "drill_progress": None})

    async def _record(self, settings: dict[str, Any]) -> None:
        self._saved = trio.current_time()
        if not self._job.ctx.engine.stalled:
            await self._job.ctx.engine.record(Outcome(settings=settings))
