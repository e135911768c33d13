"""One scrub at a time: begun, joined, paused, resumed, cancelled. How far it is outlives the mount.

Its position is the setting "scrub_progress": the last stripe that was judged, and the sums so far. Every end but the
good one and a cancel leaves it there, so that no scrub ever begins again at zero: pausing is stopping with that note.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
import trio

from ecfs.errors import EcfsError, RefusedError
from ecfs.heal.context import HealContext
from ecfs.heal.report import ScrubProgress, ScrubReport
from ecfs.meta import Outcome
from ecfs.meta.drives import Drives

OnProgress = Callable[[ScrubProgress], None]
RUNNING, PAUSED, STOPPED = "running", "paused", "stopped"
SETTING = "scrub_progress"


class ScrubPosition(msgspec.Struct):
    """How far a scrub is. after: the last stripe that was judged; bytes: of shards, verified up to there.

    state: "running" (goes on by itself at the next mount), "paused" or "stopped" (waits for somebody to ask for it).
    rate: its limit in bytes/s. unseen: slots whose drive was away for some of it, and why. The others are the sums of
    its report.
    """

    started: int
    after: int = 0
    bytes: int = 0
    state: str = RUNNING
    rate: float | None = None
    checked: int = 0
    found: int = 0
    repaired: int = 0
    pending: int = 0
    lost: int = 0
    unseen: list[tuple[int, str]] = []

    def note(self, report: ScrubReport, unseen: Mapping[int, str], after: int, size: int) -> None:
        """Everything up to `after` was judged, but for what was not seen; `size` shard bytes in all."""
        self.after, self.bytes, self.unseen = after, size, sorted(unseen.items())
        for name in ("checked", "found", "repaired", "pending", "lost"):
            setattr(self, name, getattr(report, name))

    def continue_in(self, report: ScrubReport) -> None:
        """Let a new report begin with what was found before."""
        report.resumed, report.started_ns = True, self.started
        for name in ("checked", "found", "repaired", "pending", "lost"):
            setattr(report, name, getattr(self, name))


class Run:
    """A scrub that runs. `listeners` hear of its progress; `ended` is set when it has a report or a reason."""

    def __init__(self, *, dry_run: bool, rate: float | None) -> None:
        self.dry_run = dry_run
        self.rate = rate
        self.listeners: list[OnProgress] = []
        self.position: ScrubPosition | None = None
        self.on_limit: Callable[[float], None] = lambda rate: None
        self.wish = ""
        """Why it was asked to end: "paused" or "cancelled"; "" while nobody asked."""
        self.why = "the scrub was stopped by whoever began it; the next one goes on from there"
        self.report: ScrubReport | None = None
        self.ended = trio.Event()

    def tell(self, progress: ScrubProgress) -> None:
        for listener in self.listeners:
            listener(progress)

    def limit(self, rate: float) -> None:
        self.rate = rate
        self.on_limit(rate)
        if self.position is not None:
            self.position.rate = rate


def stored_position(drives: Drives) -> ScrubPosition | None:
    """Of a scrub that has not come to its end, as the metadata have it."""
    stored = drives.setting(SETTING)
    return None if stored is None else msgspec.convert(stored, ScrubPosition)


Work = Callable[[Run], Awaitable[ScrubReport]]


class Scrubbing:
    """What may be asked of scrubs. `work` does one; `stop(reason)` makes it end."""

    def __init__(self, ctx: HealContext, work: Work, stop: Callable[[str], None]) -> None:
        self._ctx = ctx
        self._work = work
        self._stop = stop
        self._wanted = trio.Event()
        self._rate: float | None = None
        self._changed = trio.Event()
        self._left: ScrubPosition | msgspec.UnsetType | None = msgspec.UNSET
        """What `_record` left; the metadata have it with the next commit only."""
        self.run: Run | None = None

    def kept(self) -> ScrubPosition | None:
        """The position of a scrub that has not come to its end."""
        if self.run is not None and self.run.position is not None:
            return self.run.position
        return stored_position(self._ctx.pool.db.drives) if self._left is msgspec.UNSET else self._left

    # ---- begin, or join -----------------------------------------------------------------------------------

    async def scrub(self, *, dry_run: bool, rate: float | None, progress: OnProgress | None) -> ScrubReport:
        """Run one to its end, or watch the one that runs. Who began it ends it by being cancelled."""
        if self.run is not None:
            return await self._join(self.run, dry_run=dry_run, rate=rate, progress=progress)
        run = Run(dry_run=dry_run, rate=rate)
        self._now(run)
        if progress is not None:
            run.listeners.append(progress)
        try:
            run.report = await self._work(run)
            return run.report
        except RefusedError as error:
            run.why = str(error)
            raise
        finally:
            self._now(None)
            if run.position is not None:  # else it was one that only looks, or was refused: what another left stays
                self._left = None
            if run.report is None:
                self._leave(run, run.wish or STOPPED)
            run.ended.set()

    def _now(self, run: Run | None) -> None:
        self.run = run
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, *, running: bool) -> None:
        """Until a scrub runs, or none does."""
        while (self.run is not None) != running:
            await self._changed.wait()

    async def _join(self, run: Run, *, dry_run: bool, rate: float | None, progress: OnProgress | None) -> ScrubReport:
        if run.dry_run != dry_run:
            kind = "one that only looks" if run.dry_run else "one that repairs"
            raise RefusedError(f"a scrub is running already, {kind}: wait for it, or stop it with: ecfs scrub --cancel")
        if rate is not None:
            run.limit(rate)
        listener = progress or (lambda progress: None)
        run.listeners.append(listener)
        try:
            await run.ended.wait()
        finally:
            run.listeners.remove(listener)
        if run.report is None:
            raise RefusedError(run.why)
        return run.report

    # ---- pause, resume, cancel ----------------------------------------------------------------------------

    def pause(self) -> None:
        """End the one that runs, and keep its position. Raises RefusedError if none runs, or only a dry run."""
        run = self.run
        if run is None or run.dry_run:
            raise RefusedError("no scrub is running")
        run.wish = PAUSED
        self._stop("the scrub was paused; to go on from there: ecfs scrub --resume")

    def resume(self) -> None:
        """Go on in the background with one that was paused or interrupted. Raises RefusedError if there is none."""
        if self.run is not None:
            raise RefusedError("a scrub is running already")
        if self.kept() is None:
            raise RefusedError("no scrub was paused or interrupted: start one with: ecfs scrub")
        self.begin()

    def begin(self, rate: float | None = None) -> None:
        """Scrub in the background, on from where one was interrupted; by default at the rate it had."""
        kept = self.kept()
        self._rate = rate if rate is not None or kept is None else kept.rate
        self._wanted.set()

    def cancel(self) -> None:
        """End the one that runs, or forget one that was paused. Raises RefusedError if there is neither."""
        run = self.run
        if run is not None:
            run.wish = "cancelled"
            self._stop("the scrub was cancelled; what it repaired stays repaired")
        elif self.kept() is not None:
            self._record(None)
        else:
            raise RefusedError("no scrub is running, paused or interrupted")

    def closing(self) -> None:
        """The pool is being closed: the next mount goes on with it. No await, so that the last commit has it."""
        if self.run is not None and not self.run.wish:
            self.run.wish = RUNNING
            self._leave(self.run, RUNNING)

    async def go_on(self, *, by_itself: bool) -> None:
        """Runs what `begin` and `resume` ask for, until cancelled. by_itself: also what the last mount left."""
        if by_itself and (kept := self.kept()) is not None and kept.state == RUNNING:
            self.begin()
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            if self.run is not None:
                continue
            try:
                await self.scrub(dry_run=False, rate=self._rate, progress=None)
            except EcfsError as error:
                self._ctx.pool.members.note(None, "scrub", str(error))

    # ---- the position -------------------------------------------------------------------------------------

    async def save(self, run: Run) -> None:
        """Make the position durable, so that not even a crash sends the scrub back to zero."""
        if run.position is not None and not self._ctx.engine.stalled:
            await self._ctx.engine.record(Outcome(settings={SETTING: msgspec.to_builtins(run.position)}))

    def _leave(self, run: Run, state: str) -> None:
        if run.position is not None:
            run.position.state = state
            self._record(None if state == "cancelled" else run.position)

    def _record(self, position: ScrubPosition | None) -> None:
        """With the next commit. Without an await, since it is also called while everything ends."""
        engine = self._ctx.engine
        self._left = position
        value = None if position is None else msgspec.to_builtins(position)
        engine.committer.add_outcome(Outcome(settings={SETTING: value}))
        engine.request_commit()
