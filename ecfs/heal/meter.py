"""How far a scrub is: bytes, rate over the last minute, and an honest guess at the time left.

What is shown are bytes. The time left goes by *cost*: the bytes of a shard and what each shard costs besides, so that
small stripes after large ones are no surprise; and by what the phases take that verify no shards.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from ecfs.heal.foretell import ShardCost, Speed
from ecfs.heal.report import ScrubProgress

SILENT_S = 30.0
"""Before this, any estimate would be made up."""
VERIFY, REBUILD = "verify", "rebuild"


class Stage:
    """Work of one kind, with a clock that runs while it is the one that is done. left, shards: bytes to do, and in how
    many shards. foretold: cost per second, 0 before anything was measured."""

    def __init__(self) -> None:
        self.left = 0
        self.shards = 0
        self.speed: Speed | None = None
        self.foretold = 0.0
        self.cost = ShardCost()
        self._spent = 0.0
        self._since = 0.0

    def begin(self, now: float) -> None:
        self._since = now

    def end(self, now: float) -> None:
        self._spent += now - self._since

    def measure(self, now: float, size: int, shards: int) -> None:
        at = self._spent + now - self._since
        if self.speed is None:
            self.speed = Speed(at)
        elif sample := self.speed.add(at, size, shards):
            self.cost.learn(*sample)
        self.foretold = self.speed.foretold(at, self.cost.each)

    def takes(self, left: Stage) -> float:
        """Seconds that what is left of a stage takes at our speed. Infinite while nothing was measured; no time at all
        if what was measured took none, and everything was waiting for the limit."""
        if self.foretold:
            return (left.left + self.cost.each * left.shards) / self.foretold
        return inf if self.speed is None else 0.0


class Meter:
    """Counts shard bytes; slows down to `limit` bytes/s. Work is counted in the stage that was begun last."""

    def __init__(
        self, progress: ScrubProgress, on_progress: Callable[[ScrubProgress], None] | None, limit: float | None
    ) -> None:
        self.progress = progress
        self._on_progress = on_progress
        self._began = trio.current_time()
        self._all = Speed(self._began)
        self._stages = {REBUILD: Stage(), VERIFY: Stage()}
        self._stage = self._stages[VERIFY]
        self._stage.begin(self._began)
        self._limit = limit
        self._limited_from = (self._began, 0)
        self._waited = 0.0
        """Seconds of waiting for the limit, up to `_wakes`, which may lie ahead."""
        self._wakes = self._began
        self._ahead: dict[str, tuple[float, int]] = {}
        """Phases in which no shard is counted: see `foresee`."""
        self._phase_began = self._began

    def phase(self, name: str) -> None:
        self._ahead.pop(self.progress.phase, None)
        self.progress.phase, self._phase_began = name, trio.current_time()
        self.tick()

    def foresee(self, phase: str, seconds: float, size: int = 0) -> None:
        """A phase in which no shard is counted will take so long, and read `size` bytes."""
        self._ahead[phase] = seconds, size

    def tick(self) -> None:
        """Called now and then in such a phase."""
        self._estimate(trio.current_time())
        self._tell()

    def begin(self, stage: str) -> None:
        now = self._worked(trio.current_time())
        self._stage.end(now)
        self._stage = self._stages[stage]
        self._stage.begin(now)

    def limit_to(self, rate: float) -> None:
        """Bytes/s from now on."""
        self._limit = rate
        self._limited_from = (trio.current_time(), self._all.size)

    def resume_at(self, size: int) -> None:
        """`size` bytes were done by an earlier run: shown, but no measure of how fast this one is."""
        self.progress.bytes_done += size
        self.progress.bytes_total += size

    def add_total(self, size: int, shards: int, stage: str = VERIFY) -> None:
        """There are `size` bytes more to do, in so many shards."""
        self.progress.bytes_total += size
        self._stages[stage].left += size
        self._stages[stage].shards += shards

    @property
    def is_limited(self) -> bool:
        return self._limit is not None

    def sampled(self, size: int) -> None:
        """A shard of `size` bytes was verified only to see how long that takes."""
        self._stage.measure(self._worked(trio.current_time()), size, 1)

    async def checked(self, size: int) -> None:
        """A shard of `size` bytes was verified."""
        self.progress.checked += 1
        await self.add(size, 1)

    async def add(self, size: int, shards: int) -> None:
        """`size` bytes were read or written; waits if that was faster than the limit. Always a checkpoint."""
        progress, now = self.progress, trio.current_time()
        progress.bytes_done += size
        # What is rebuilt meanwhile counts, too: the total follows, it is never overtaken.
        progress.bytes_total = max(progress.bytes_total, progress.bytes_done)
        self._all.add(now, size, shards)
        progress.rate = self._all.recent(now)
        stage = self._stage
        stage.left, stage.shards = max(stage.left - size, 0), max(stage.shards - shards, 0)
        stage.measure(self._worked(now), size, shards)
        self._estimate(now)
        self._tell()
        await trio.sleep(self._too_fast(now))

    def _too_fast(self, now: float) -> float:
        """Seconds to wait for the limit. Who waits at the same time as others waits once."""
        if not self._limit:
            return 0.0
        since, done = self._limited_from
        wait = max((self._all.size - done) / self._limit - (now - since), 0.0)
        if now + wait > self._wakes:
            self._waited += now + wait - max(now, self._wakes)
            self._wakes = now + wait
        return wait

    def _worked(self, now: float) -> float:
        """A clock that stands still while the limit is waited for."""
        return now - self._waited + max(self._wakes - now, 0.0)

    def _estimate(self, now: float) -> None:
        left = self._left() + self._rest(now) if now - self._began >= SILENT_S else inf
        nothing_known = not self._limit and not any(stage.foretold for stage in self._stages.values())
        self.progress.eta_s = None if left == inf or nothing_known else left

    def _left(self) -> float:
        """Seconds, none faster than the limit. Verifying a shard is a part of rebuilding it, so it never takes longer,
        even if the sample did."""
        verify, rebuild = self._stages[VERIFY], self._stages[REBUILD]
        as_known = rebuild if rebuild.speed is not None else verify
        soonest = min(verify.takes(verify), rebuild.takes(verify))
        return max(soonest, self._limited(verify)) + max(as_known.takes(rebuild), self._limited(rebuild))

    def _limited(self, stage: Stage) -> float:
        return stage.left / self._limit if self._limit else 0.0

    def _rest(self, now: float) -> float:
        """Seconds of the phases that count no shards."""
        speed = self._stages[VERIFY].foretold or self._stages[REBUILD].foretold
        took = {phase: seconds + (size / speed if speed else 0) for phase, (seconds, size) in self._ahead.items()}
        if self.progress.phase in took:
            took[self.progress.phase] -= min(now - self._phase_began, took[self.progress.phase])
        return sum(took.values())

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress)
