"""How fast work is, and what a shard costs besides its bytes; both learnt from what was done. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0
LONG_S = 600.0
STEADY = 0.8
"""Share of the average that the last minute's speed may differ by before it counts alone."""
SAMPLE_S = 0.5
EACH = tuple(64 << 10 + step for step in range(7))
"""What a shard may cost besides its bytes: 64 KiB to 4 MiB."""
USUAL = EACH.index(256 << 10)
"""Before small shards and large ones were seen. Measured: 0.12 MiB at 10 MB/s, 0.4 MiB on drives in memory."""
DOUBT = 0.05
"""How much better the data must fit for each step away from the usual."""
NOISE = 0.001
KEPT = 0.999
"""Of the weight of what was learnt, with each sample: after ten minutes half of it."""


class ShardCost:
    """What a shard costs besides its bytes, as bytes that could be read meanwhile: a thread, a file, a seek.

    Without it, small stripes after large ones take several times as long as was foretold. The model: the time is
    proportional to bytes + each x shards. Of the few values of `each` that make a difference, that with the least
    squares is taken. While all shards have one size, all fit, and the usual one is taken.
    """

    def __init__(self) -> None:
        self.each = EACH[USUAL]
        self._sums = [0.0] * 6

    def learn(self, seconds: float, size: float, shards: float) -> None:
        """`size` bytes in so many shards took so long."""
        new = (seconds**2, seconds * size, seconds * shards, size**2, size * shards, shards**2)
        self._sums = [KEPT * old + more for old, more in zip(self._sums, new, strict=True)]
        self.each = EACH[min(range(len(EACH)), key=self._misfit)]

    def _misfit(self, at: int) -> float:
        each, (tt, tb, tn, bb, bn, nn) = EACH[at], self._sums
        work = bb + 2 * each * bn + each**2 * nn
        left = 1 - (tb + each * tn) ** 2 / (work * tt) if work * tt else 0.0
        return (max(left, 0.0) + NOISE) * (1 + DOUBT * abs(at - USUAL))


Done = tuple[float, float, float]
"""A moment, and what was done up to then: bytes, shards."""


class Speed:
    """Bytes/s, or cost/s, of what is counted here.

    As long as the last minute is about as fast as the last ten, their average foretells best, since it has seen the
    waves of other programs; when it is not, something has changed for good, and only the last minute counts.
    """

    def __init__(self, now: float) -> None:
        self.began = now
        self.size = 0
        self.shards = 0
        self._minute: deque[Done] = deque([(now, 0, 0)])
        self._long: deque[Done] = deque([(now, 0, 0)])

    def add(self, now: float, size: int, shards: int) -> Done | None:
        """What was done in how many seconds since the last sample, when it is time for one."""
        self.size += size
        self.shards += shards
        at, before, fewer = self._minute[-1]
        if now - at < SAMPLE_S:
            return None
        self._minute.append((now, self.size, self.shards))
        while self._minute[0][0] < now - WINDOW_S:
            self._long.append(self._minute.popleft())
        while len(self._long) > 1 and self._long[1][0] < now - LONG_S:
            self._long.popleft()
        return now - at, self.size - before, self.shards - fewer

    def recent(self, now: float, each: int = 0) -> float:
        """Over the last minute. each: what a shard costs besides its bytes."""
        return self._since(self._minute[0], now, each)

    def foretold(self, now: float, each: int) -> float:
        recent, average = self.recent(now, each), self._since(self._long[0], now, each)
        return average if STEADY * average <= recent <= average / STEADY else recent

    def _since(self, sample: Done, now: float, each: int) -> float:
        at, size, shards = sample
        return (self.size - size + each * (self.shards - shards)) / (now - at) if now > at else 0.0
