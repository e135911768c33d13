"""The full check: drives, shards, checkpoints, journals, blobs, leftovers, metadata. Then all is whole, or named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from ecfs.commit.tasks import beside
from ecfs.heal.join import Joiner
from ecfs.heal.mend import Mended
from ecfs.heal.meter import REBUILD, VERIFY
from ecfs.heal.part import Job, shard_size
from ecfs.heal.report import PENDING, Finding
from ecfs.heal.restore import Restorer
from ecfs.heal.scrub_journal import BlobCheck, CheckpointCheck, JournalCheck
from ecfs.heal.scrub_orphans import OrphanCheck
from ecfs.heal.scrub_stripes import StripeCheck
from ecfs.heal.scrubbing import SETTING, Run
from ecfs.heal.watch import Watch
from ecfs.meta import Outcome, check_steps

INODE_S = 12e-6
"""What checking the metadata takes per file; measured, for the time left."""
SAVE_S = 10.0
"""What a crash makes a scrub do again at most. Each time is a commit."""
BATCH = 1000
"""Stripes after which others get their turn."""
Save = Callable[[Run], Awaitable[None]]


class Scrub:
    """One run."""

    def __init__(self, job: Job, watch: Watch, joiner: Joiner) -> None:
        self._job = job
        self._watch = watch
        self._saved = trio.current_time()
        self._restorer = Restorer(job, joiner)

    async def run(self, run: Run, save: Save) -> None:
        """save: makes the position of the run durable."""
        job, begin = self._job, self._begin(run)
        stripes, checkpoints, orphans = StripeCheck(job), CheckpointCheck(job), OrphanCheck(job)
        job.meter.phase("drives")
        await self._watch.probe_now()
        if not job.dry_run:
            async with trio.open_nursery() as nursery:
                await self._watch.sweep(nursery, at_once=True)
            await self._watch.taken_in()
            async with self._watch.sweeping:
                await self._restorer.run()
        journals = JournalCheck(job)
        job.meter.add_total(*stripes.total(begin))
        job.meter.add_total(*checkpoints.total())
        job.meter.foresee("journals", *await journals.takes())
        job.meter.foresee("leftovers", orphans.takes())
        job.meter.foresee("metadata", job.ctx.pool.db.names.counts()[0] * INODE_S)
        if not job.dry_run:
            await self._rebuild(stripes)
        job.meter.phase("stripes")
        await stripes.run(begin, partial(self._reached, run, save))
        job.meter.phase("checkpoints")
        await checkpoints.run()
        job.meter.phase("journals")
        await journals.run()
        await BlobCheck(job).run()
        job.meter.phase("leftovers")
        await orphans.run()
        job.meter.phase("metadata")
        await self._metadata()
        await self._finish(orphans.outcome)

    def _begin(self, run: Run) -> int:
        """The stripe after which to begin: that of an earlier run, if there was one."""
        if run.position is None or not run.position.after:
            return 0
        run.position.continue_in(self._job.report)
        self._job.unseen |= dict(run.position.unseen)
        self._job.meter.resume_at(run.position.bytes)
        return run.position.after

    async def _reached(self, run: Run, save: Save, after: int, size: int) -> None:
        """Stripes up to `after` were judged, `size` shard bytes since the last time."""
        if run.position is None:
            return
        run.position.note(self._job.report, self._job.unseen, after, run.position.bytes + size)
        if trio.current_time() - self._saved >= SAVE_S:
            self._saved = trio.current_time()
            await save(run)

    async def rebuild_only(self, slot: int) -> None:
        """After a replacement: what is missing, without checking all the rest."""
        job = self._job
        await self._rebuild()
        for stripe, why in job.repairer.set_aside.items():
            if job.ctx.fact(stripe) is not None:
                job.lost(stripe, why)
        await self._tell_untried(slot)
        job.report.finished_ns = job.ctx.pool.clock.wall_ns()

    async def _tell_untried(self, slot: int) -> None:
        """What the new drive lacks, and nobody tried to decode: too much of it is on drives that are away."""
        job, repairer, after = self._job, self._job.repairer, 0
        while numbers := job.ctx.pool.db.ledger.next_missing(slot, after, BATCH):
            after = numbers[-1]
            for stripe in sorted(set(numbers).difference(repairer.set_aside)):
                if not repairer.may_decode(stripe, frozenset({slot})) and job.ctx.fact(stripe) is not None:
                    job.lost(stripe, f"stripe {stripe:016x} can't be decoded: too many drives are away")
            await trio.lowlevel.checkpoint()

    async def _rebuild(self, then: StripeCheck | None = None) -> None:
        """First what is known to be missing: that is where the danger is. then: what is checked afterwards."""
        job = self._job
        job.meter.phase("rebuilding")
        if await self._add_missing() and then is not None and not job.meter.is_limited:
            await then.sample()
        pending: list[int] = []
        job.meter.begin(REBUILD)

        def on_mended(results: list[Mended]) -> None:
            for result in results:
                job.mended(result, also_lost=False)
                if then is not None:
                    then.verified(result.stripe, result.repaired)
                pending.extend([shard_size(result.length)] * len(result.put | result.good))

        async with beside(partial(self._count_rebuilt, pending)):
            await job.repairer.drain(on_mended=on_mended)
        await job.repairer.finish_drives()  # what follows may take hours, and any two drives may be lost again now
        await job.meter.add(sum(pending), len(pending))
        job.meter.begin(VERIFY)

    async def _count_rebuilt(self, pending: list[int]) -> None:
        while True:
            sizes, pending[:] = pending[:], []
            await self._job.meter.add(sum(sizes), len(sizes))
            await trio.sleep(0.2)

    async def _add_missing(self) -> int:
        ledger, shards = self._job.ctx.pool.db.ledger, 0
        for member, _ in self._job.ctx.workable():
            after = 0
            while numbers := ledger.next_missing(member.slot, after, BATCH):
                after = numbers[-1]
                shards += len(numbers)
                await trio.lowlevel.checkpoint()
        counts, k = ledger.counts(frozenset()), self._job.ctx.pool.geometry.k
        size = shard_size(ledger.total_length() // max(counts.total, 1) // k)
        self._job.meter.add_total(shards * size, shards, REBUILD)
        return shards

    async def _metadata(self) -> None:
        for findings in check_steps(self._job.ctx.pool.db):
            for text in findings:
                self._job.found("metadata", text, repaired=False)
            self._job.meter.tick()
            await trio.lowlevel.checkpoint()

    async def _finish(self, outcome: Outcome) -> None:
        job, pool = self._job, self._job.ctx.pool
        if not job.dry_run:
            await job.repairer.finish_drives()
        for member in pool.members:
            if not (member.up and member.in_w):
                text = f"{member.url} is {member.state}" + (f": {member.reason}" if member.reason else "")
                if not any(f.kind == "drive" and f.slot == member.slot for f in job.report.findings):
                    job.add(Finding("drive", PENDING, text, member.slot))
            elif member.slot in job.unseen:
                job.unread(member.slot, job.unseen[member.slot])
        job.report.finished_ns = pool.clock.wall_ns()
        if not job.dry_run and not job.ctx.engine.stalled:
            report = job.report
            outcome.settings[SETTING] = None
            outcome.settings["scrub"] = {
                "last_finished": report.finished_ns,
                "checked": report.checked,
                "repaired": report.repaired,
                "lost": report.lost,
            }
            await job.ctx.engine.record(outcome)
