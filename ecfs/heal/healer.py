"""Heal as the rest of ecfs sees it: one object per open pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import comb

import trio

from ecfs.commit.engine import Engine
from ecfs.drive.base import Drive
from ecfs.errors import RefusedError
from ecfs.heal.cleanup import Cleanup
from ecfs.heal.context import HealContext
from ecfs.heal.drill import Drill, DrillReport
from ecfs.heal.enter import Entrance
from ecfs.heal.join import Joiner
from ecfs.heal.meter import Meter
from ecfs.heal.part import Job
from ecfs.heal.repair import Repairer
from ecfs.heal.replace import Replacer
from ecfs.heal.report import ScrubProgress, ScrubReport
from ecfs.heal.scrub import Scrub
from ecfs.heal.scrubbing import Run, Scrubbing, ScrubPosition
from ecfs.heal.watch import Watch

OnProgress = Callable[[ScrubProgress], None]
NAMES = {"scrub": "a scrub", "replace": "a replacement", "drill": "a drill"}


class Healer:
    """Watches, repairs, scrubs, replaces and drills. Start `run` in a nursery beside the engine's; `scrub`, `replace`
    and `drill` also work without it."""

    def __init__(
        self, engine: Engine, open_drive: Callable[[str, int], Drive], places: Callable[[], Sequence[str]]
    ) -> None:
        """open_drive: (url, slot) → a handle that is not attached yet. places: URLs where drives may be."""
        self.running: ScrubProgress | None = None
        """What a scrub, replacement or drill that runs now has done so far."""
        self.kind = ""
        """Which of them it is: "scrub", "replace" or "drill"; "" while none runs."""
        self.replacing: int | None = None
        """The slot that gets a new drive now."""
        self.last: ScrubReport | None = None
        self._ctx = HealContext(engine, open_drive, places)
        self.repairer = Repairer(self._ctx)
        self._ctx.on_nudge = self.repairer.nudge
        entrance = Entrance(self._ctx)
        self._watch = Watch(self._ctx, entrance)
        self._joiner = Joiner(self._ctx, entrance)
        self._cleanup = Cleanup(self._ctx)
        self.scrubbing = Scrubbing(self._ctx, self._scrub, self._stop)
        self._scope: trio.CancelScope | None = None
        self._why = ""
        engine.pool.on_bad = self.repairer.note_bad
        engine.pool.on_wanted = self.repairer.note_wanted

    # ---- for status -------------------------------------------------------------------------------------

    @property
    def quick_pending(self) -> int:
        """Shards that reads found bad and that were not looked at again yet."""
        return self.repairer.quick_pending

    @property
    def set_aside(self) -> dict[int, str]:
        """Stripes that can't be decoded now, and why; tried again when a drive comes back."""
        return self.repairer.set_aside

    @property
    def repaired(self) -> int:
        """Shards put right since the pool was opened."""
        return self.repairer.repaired

    # ---- work -------------------------------------------------------------------------------------------

    async def run(self, *, go_on: bool = False, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch, repair and clean up in the background, until cancelled. go_on: also with a scrub that the last mount
        left unfinished."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(self.scrubbing.go_on, by_itself=go_on))
            nursery.start_soon(self._watch.run)
            nursery.start_soon(self.repairer.run)
            nursery.start_soon(self._cleanup.run)
            task_status.started()

    async def scrub(
        self, *, dry_run: bool = False, rate: float | None = None, progress: OnProgress | None = None
    ) -> ScrubReport:
        """Check everything and make it whole; on from where one was interrupted. rate: bytes/s at most. dry_run: look
        from the beginning, change nothing. If a scrub runs already, watch it, and let it have the new rate.

        Raises RefusedError while a replacement or drill runs or when it is ended by others, FencedError, StalledError.
        """
        return await self.scrubbing.scrub(dry_run=dry_run, rate=rate, progress=progress)

    async def _scrub(self, run: Run) -> ScrubReport:
        report = ScrubReport(run.dry_run)
        with self._job("scrub", report, run.rate, run.tell) as job:
            if not run.dry_run:
                run.position = self._position(report.started_ns)
                run.position.rate = run.rate
            run.on_limit = job.meter.limit_to
            await Scrub(job, self._watch, self._joiner).run(run, self.scrubbing.save)
        return self._ended("scrub", job)

    def _position(self, started_ns: int) -> ScrubPosition:
        position = self.scrubbing.kept() or ScrubPosition(started_ns)
        position.state = "running"
        return position

    async def replace(self, slot: int, url: str, progress: OnProgress | None = None) -> ScrubReport:
        """Put a new drive at `url` into a slot and rebuild it. Raises RefusedError with nothing changed."""
        with self._job("replace", ScrubReport(), None, progress) as job:
            self.replacing = slot
            await Replacer(job, self._joiner).run(slot, url)
            await Scrub(job, self._watch, self._joiner).rebuild_only(slot)
        return self._ended("replace", job)

    async def drill(
        self,
        *,
        full: bool = False,
        restart: bool = False,
        rate: float | None = None,
        progress: OnProgress | None = None,
    ) -> DrillReport:
        """Show for every stripe that it survives the loss of any m drives; goes on where an earlier one ended.

        full: compute every stripe without each set of m drives, not only a sample. Raises as `scrub`.
        """
        report = DrillReport(full=full, sets=comb(self._ctx.pool.geometry.n, self._ctx.pool.geometry.m))
        with self._job("drill", report, rate, progress) as job:
            self.repairer.held = False  # it does not repair itself; what it finds is looked at meanwhile
            await Drill(job, report, restart=restart).run()
        self._ended("drill", job)
        return report

    def stop(self) -> None:
        """Give up the scrub, replacement or drill that runs: the pool is closing, and each would record what it did
        for ever. What is recorded already stays."""
        self.scrubbing.closing()
        self._stop("given up, because the pool is being unmounted; what was repaired stays so")

    def _stop(self, why: str) -> None:
        if self._scope is not None:
            self._why = why
            self._scope.cancel()

    @contextmanager
    def _job(self, kind: str, report: ScrubReport, rate: float | None, progress: OnProgress | None) -> Iterator[Job]:
        """One at a time. Raises RefusedError if one runs already, or if it was stopped."""
        job = self._begin(kind, report, rate, progress)
        with trio.CancelScope() as self._scope:
            try:
                yield job
            finally:
                self._end()
        if self._scope.cancelled_caught:
            self._ctx.pool.members.note(None, kind, self._why)
            raise RefusedError(self._why)

    def _begin(self, kind: str, report: ScrubReport, rate: float | None, progress: OnProgress | None) -> Job:
        if self.running is not None:
            raise RefusedError(f"{NAMES[self.kind]} is running already ({self.running.phase}): wait for its end")
        self.kind, self.running = kind, ScrubProgress()
        self._ctx.pool.members.note(None, kind, "begun" + (", to look only" if report.dry_run else ""))
        self.repairer.held = not report.dry_run
        report.started_ns = self._ctx.pool.clock.wall_ns()
        return Job(self._ctx, self.repairer, report, Meter(self.running, progress, rate), report.dry_run)

    def _end(self) -> None:
        self.running = self.replacing = None
        self.kind = ""
        self.repairer.held = False

    def _ended(self, kind: str, job: Job) -> ScrubReport:
        self.last = report = job.report
        text = f"finished: {report.found} found wrong, {report.repaired} repaired, {report.lost} lost"
        self._ctx.pool.members.note(None, kind, text)
        return report
