"""How far a scrub is: bytes, rate over the last minute, and an honest guess at the time left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from ecfs.heal.report import ScrubProgress

WINDOW_S = 60.0
SILENT_S = 5.0
"""Before this, any estimate would be made up."""


class Meter:
    """Counts shard bytes; slows down to `limit` bytes/s."""

    def __init__(
        self, progress: ScrubProgress, on_progress: Callable[[ScrubProgress], None] | None, limit: float | None
    ) -> None:
        self.progress = progress
        self._on_progress = on_progress
        self._limit = limit
        self._began = trio.current_time()
        self._samples: deque[tuple[float, int]] = deque([(self._began, 0)])

    def phase(self, name: str) -> None:
        self.progress.phase = name
        self._tell()

    def add_total(self, size: int) -> None:
        self.progress.bytes_total += size

    async def add(self, size: int, *, checked: int = 0) -> None:
        """`size` bytes were read or written; waits if that was faster than the limit. Always a checkpoint."""
        progress, now = self.progress, trio.current_time()
        progress.bytes_done += size
        progress.checked += checked
        # What is written meanwhile is checked too: the total follows, it is never overtaken.
        progress.bytes_total = max(progress.bytes_total, progress.bytes_done)
        if now - self._samples[-1][0] >= 0.5:
            self._samples.append((now, progress.bytes_done))
            while self._samples[0][0] < now - WINDOW_S:
                self._samples.popleft()
        self._estimate(now)
        self._tell()
        ahead = progress.bytes_done / self._limit - (now - self._began) if self._limit else 0.0
        await trio.sleep(max(ahead, 0.0))

    def _estimate(self, now: float) -> None:
        progress, (since, done) = self.progress, self._samples[0]
        if now > since:
            progress.rate = (progress.bytes_done - done) / (now - since)
        known = now - self._began >= SILENT_S and progress.rate > 0
        progress.eta_s = (progress.bytes_total - progress.bytes_done) / progress.rate if known else None

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress)
