"""How far a scrub is: bytes, rate over the last minute, and an honest guess at the time left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from ecfs.heal.report import ScrubProgress

WINDOW_S = 60.0
SILENT_S = 30.0
"""Before this, any estimate would be made up."""
SAMPLE_S = 0.5
LONG_S = 600.0
STEADY = 0.8
"""Share of the average that the last minute's speed may differ by before it counts alone."""


class Meter:
    """Counts shard bytes; slows down to `limit` bytes/s.

    Rebuilding a shard moves several times its bytes, verifying it moves them once. So the time left is reckoned in
    *work*, bytes moved, and not in the bytes that people see. As long as the last minute is about as fast as the
    last ten, their average foretells best, since it has seen the waves; when it is not, something has changed for
    good, and only the last minute counts.
    """

    def __init__(
        self, progress: ScrubProgress, on_progress: Callable[[ScrubProgress], None] | None, limit: float | None
    ) -> None:
        self.progress = progress
        self._on_progress = on_progress
        self._began = trio.current_time()
        self._work = self._work_total = 0.0
        self._samples: deque[tuple[float, int, float]] = deque([(self._began, progress.bytes_done, 0.0)])
        self._long: deque[tuple[float, float]] = deque([(self._began, 0.0)])
        self._limit = limit
        self._paced_from = (self._began, progress.bytes_done)

    def phase(self, name: str) -> None:
        self.progress.phase = name
        self._tell()

    def limit_to(self, rate: float) -> None:
        """Bytes/s from now on."""
        self._limit = rate
        self._paced_from = (trio.current_time(), self.progress.bytes_done)

    def resume_at(self, size: int) -> None:
        """`size` bytes were done by an earlier run: shown, but no measure of how fast this one is."""
        self.progress.bytes_done += size
        self.progress.bytes_total += size
        self._samples = deque([(self._began, self.progress.bytes_done, 0.0)])
        self._paced_from = (self._began, self.progress.bytes_done)

    def add_total(self, size: int, work: float | None = None) -> None:
        self.progress.bytes_total += size
        self._work_total += size if work is None else work

    async def add(self, size: int, *, checked: int = 0, work: float | None = None) -> None:
        """`size` bytes were read or written; waits if that was faster than the limit. Always a checkpoint."""
        progress, now = self.progress, trio.current_time()
        progress.bytes_done += size
        progress.checked += checked
        self._work += size if work is None else work
        # What is written meanwhile is checked too: the total follows, it is never overtaken.
        progress.bytes_total = max(progress.bytes_total, progress.bytes_done)
        self._work_total = max(self._work_total, self._work)
        if now - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((now, progress.bytes_done, self._work))
            while self._samples[0][0] < now - WINDOW_S:
                at, _, work_then = self._samples.popleft()
                self._long.append((at, work_then))
            while len(self._long) > 1 and self._long[1][0] < now - LONG_S:
                self._long.popleft()
        self._estimate(now)
        self._tell()
        since, done = self._paced_from
        ahead = (progress.bytes_done - done) / self._limit - (now - since) if self._limit else 0.0
        await trio.sleep(max(ahead, 0.0))

    def _estimate(self, now: float) -> None:
        progress, (since, done, work) = self.progress, self._samples[0]
        if now <= since:
            return
        progress.rate = (progress.bytes_done - done) / (now - since)
        pace = (self._work - work) / (now - since)
        long_since, long_work = self._long[0]
        average = (self._work - long_work) / (now - long_since)
        if STEADY * average <= pace <= average / STEADY:
            pace = average
        known = now - self._began >= SILENT_S and pace > 0
        progress.eta_s = (self._work_total - self._work) / pace if known else None

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress)
