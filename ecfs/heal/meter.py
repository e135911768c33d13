"""How far a scrub is: bytes, rate over the last minute, and an honest guess at the time left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from ecfs.heal.report import ScrubProgress

WINDOW_S = 60.0
LONG_S = 600.0
SILENT_S = 30.0
"""Before this, any estimate would be made up."""
SETTLED_S = 30.0
"""After this a stage's own pace is better than what the one before foretold."""
STEADY = 0.8
"""Share of the average that the last minute's pace may differ by before it counts alone."""
SAMPLE_S = 0.5
VERIFY, REBUILD = "verify", "rebuild"


class Pace:
    """Bytes/s of what is counted here.

    As long as the last minute is about as fast as the last ten, their average foretells best, since it has seen the
    waves of other programs; when it is not, something has changed for good, and only the last minute counts.
    """

    def __init__(self, now: float) -> None:
        self.began = now
        self.done = 0
        self._minute: deque[tuple[float, int]] = deque([(now, 0)])
        self._long: deque[tuple[float, int]] = deque([(now, 0)])

    def add(self, now: float, size: int) -> None:
        self.done += size
        if now - self._minute[-1][0] < SAMPLE_S:
            return
        self._minute.append((now, self.done))
        while self._minute[0][0] < now - WINDOW_S:
            self._long.append(self._minute.popleft())
        while len(self._long) > 1 and self._long[1][0] < now - LONG_S:
            self._long.popleft()

    def recent(self, now: float) -> float:
        """Over the last minute."""
        return self._since(self._minute[0], now)

    def foretold(self, now: float) -> float:
        recent, average = self.recent(now), self._since(self._long[0], now)
        return average if STEADY * average <= recent <= average / STEADY else recent

    def _since(self, sample: tuple[float, int], now: float) -> float:
        at, done = sample
        return (self.done - done) / (now - at) if now > at else 0.0


class Stage:
    """Work of one kind. moved: bytes that are read and written for each that is counted, so that one stage foretells
    another: rebuilding a shard moves several times its size, verifying it moves it once."""

    def __init__(self) -> None:
        self.total = 0
        self.moved = 1.0
        self.pace: Pace | None = None

    def left(self) -> int:
        return max(self.total - (self.pace.done if self.pace is not None else 0), 0)


class Meter:
    """Counts shard bytes; slows down to `limit` bytes/s. Work is counted in the stage that was begun last."""

    def __init__(
        self, progress: ScrubProgress, on_progress: Callable[[ScrubProgress], None] | None, limit: float | None
    ) -> None:
        self.progress = progress
        self._on_progress = on_progress
        self._began = trio.current_time()
        self._all = Pace(self._began)
        self._stages = {REBUILD: Stage(), VERIFY: Stage()}
        self._stage = self._stages[VERIFY]
        self._moving = 0.0
        """Bytes moved per second, as the last settled stage did."""
        self._limit = limit
        self._paced_from = (self._began, 0)

    def phase(self, name: str) -> None:
        self.progress.phase = name
        self._tell()

    def begin(self, stage: str) -> None:
        self._stage = self._stages[stage]

    def limit_to(self, rate: float) -> None:
        """Bytes/s from now on."""
        self._limit = rate
        self._paced_from = (trio.current_time(), self._all.done)

    def resume_at(self, size: int) -> None:
        """`size` bytes were done by an earlier run: shown, but no measure of how fast this one is."""
        self.progress.bytes_done += size
        self.progress.bytes_total += size

    def add_total(self, size: int, stage: str = VERIFY, *, moved: float = 1.0) -> None:
        """There are `size` bytes more to do."""
        self.progress.bytes_total += size
        self._stages[stage].total += size
        self._stages[stage].moved = moved

    async def add(self, size: int, *, checked: int = 0) -> None:
        """`size` bytes were read or written; waits if that was faster than the limit. Always a checkpoint."""
        progress, stage, now = self.progress, self._stage, trio.current_time()
        progress.bytes_done += size
        progress.checked += checked
        # What is rebuilt meanwhile counts, too: the total follows, it is never overtaken.
        progress.bytes_total = max(progress.bytes_total, progress.bytes_done)
        if stage.pace is None:
            stage.pace = Pace(now)
        stage.pace.add(now, size)
        self._all.add(now, size)
        self._estimate(now)
        self._tell()
        since, done = self._paced_from
        ahead = (self._all.done - done) / self._limit - (now - since) if self._limit else 0.0
        await trio.sleep(max(ahead, 0.0))

    def _estimate(self, now: float) -> None:
        stage, progress = self._stage, self.progress
        progress.rate = self._all.recent(now)
        first = all(other is stage or other.pace is None for other in self._stages.values())
        if stage.pace is not None and (first or now - stage.pace.began >= SETTLED_S):
            self._moving = stage.pace.foretold(now) * stage.moved
        progress.eta_s = self._left() if now - self._began >= SILENT_S and self._moving > 0 else None

    def _left(self) -> float:
        """Seconds, each stage at the pace of the current one, none faster than the limit."""
        seconds = 0.0
        for stage in self._stages.values():
            pace = self._moving / stage.moved
            seconds += stage.left() / (min(pace, self._limit) if self._limit else pace)
        return seconds

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress)
