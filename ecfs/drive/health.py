"""How a drive has been doing: latencies and errors. Facts only; what follows from them is the pool's to decide."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from ecfs.clock import Clock
from ecfs.drive.base import Buffer, Drive
from ecfs.drive.begun import Begun, Gathering
from ecfs.drive.wrapper import DriveWrapper
from ecfs.errors import DriveError, DriveUnreachableError
from ecfs.histogram import Histogram

T = TypeVar("T")

WINDOW = 256
"""Latencies remembered per kind of operation."""

STALE = 32
"""Answers after which `recent_p95` is worked out anew."""

NO_SIGN_OF_LIFE = frozenset({"close", "location", "is_vacant"})
"""These succeed on a drive that is gone."""


class Latencies:
    """The newest `WINDOW` durations of one kind of operation, in seconds; `all` counts every one there was."""

    def __init__(self) -> None:
        self.all = Histogram()
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._known_p95 = 0.0
        self._since_sorted = 0

    def add(self, seconds: float) -> None:
        self.all.add(seconds)
        self._seconds.append(seconds)
        self._since_sorted += 1

    def __len__(self) -> int:
        return len(self._seconds)

    def percentile(self, percent: float) -> float | None:
        """The duration that `percent` of 100 operations did not exceed; None if there was none yet."""
        if not self._seconds:
            return None
        return sorted(self._seconds)[max(0, math.ceil(len(self._seconds) * percent / 100) - 1)]

    @property
    def recent_p95(self) -> float:
        """p95, at most `STALE` answers old: the reader asks before every read, and sorting costs more than the answer
        changes. 0.0 if nothing is known."""
        if self._since_sorted >= STALE or not self._known_p95:
            self._known_p95, self._since_sorted = self.p95 or 0.0, 0
        return self._known_p95

    @property
    def p50(self) -> float | None:
        return self.percentile(50)

    @property
    def p95(self) -> float | None:
        return self.percentile(95)


class Health:
    """What was seen of one drive.

    errors: how often each kind of DriveError, by class name. last_error: the newest one, as a line for people.
    consecutive_failures: unreachable or late since the drive last answered; "no such shard" is an answer.
    in_flight: operations on their way. bytes_read, bytes_written: of shards and journal, as far as it answered.
    """

    def __init__(self) -> None:
        self.latencies: dict[str, Latencies] = {}
        self.errors: Counter[str] = Counter()
        self.last_error: str | None = None
        self.consecutive_failures = 0
        self.in_flight = 0
        self.bytes_read = 0
        self.bytes_written = 0

    def latency(self, operation: str) -> Latencies:
        """Of one kind of operation, by the name of the method; answered ones only."""
        known = self.latencies.get(operation)
        if known is None:
            known = self.latencies[operation] = Latencies()
        return known

    def answered(self, operation: str, seconds: float) -> None:
        self.latency(operation).add(seconds)
        if operation not in NO_SIGN_OF_LIFE:
            self.consecutive_failures = 0

    def failed(self, error: DriveError) -> None:
        self.errors[type(error).__name__] += 1
        self.last_error = str(error)
        unreachable = isinstance(error, DriveUnreachableError)
        self.consecutive_failures = self.consecutive_failures + 1 if unreachable else 0


class HealthDrive(DriveWrapper):
    """Keeps `health` about a drive. Goes around the deadline, so that it sees time-outs."""

    def __init__(self, inner: Drive, clock: Clock) -> None:
        super().__init__(inner)
        self.health = Health()
        self._clock = clock

    def read_latency_p95(self) -> float:
        return self.health.latency("read").recent_p95

    async def around(self, operation: str, key: str | None, call: Callable[[], Awaitable[T]]) -> T:
        began = self._clock.monotonic()
        self.health.in_flight += 1
        try:
            result = await call()
        except DriveError as error:
            self.health.failed(error)
            raise
        finally:
            self.health.in_flight -= 1
        self.health.answered(operation, self._clock.monotonic() - began)
        return result

    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        await super().put(key, buffers, replace=replace)
        self.health.bytes_written += sum(map(len, buffers))

    async def append(self, segment: str, offset: int, record: Buffer) -> None:
        await super().append(segment, offset, record)
        self.health.bytes_written += len(record)

    def begin_put(
        self, key: str, buffers: Sequence[Buffer], gathering: Gathering, *, replace: bool = False
    ) -> Begun | None:
        begin = partial(self.inner.begin_put, key, buffers, gathering, replace=replace)
        return self._begin("put", sum(map(len, buffers)), begin)

    def begin_append(self, segment: str, offset: int, record: Buffer, gathering: Gathering) -> Begun | None:
        return self._begin("append", len(record), partial(self.inner.begin_append, segment, offset, record, gathering))

    def _begin(self, operation: str, length: int, begin: Callable[[], Begun | None]) -> Begun | None:
        try:
            begun = begin()
        except DriveError as error:
            self.health.failed(error)
            raise
        return None if begun is None else _Watched(self.health, operation, begun, length)

    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        found = await super().read(key, ranges)
        self.health.bytes_read += sum(map(len, found))
        return found

    async def read_shards(
        self, wanted: Sequence[tuple[str, Sequence[tuple[int, int]]]]
    ) -> Sequence[Sequence[Buffer] | DriveError]:
        found = await self.around("read_shards", None, lambda: self.inner.read_shards(wanted))
        for each in found:
            if isinstance(each, DriveError):
                self.health.failed(each)
            else:
                self.health.bytes_read += sum(map(len, each))
        return found


class _Watched:
    """A write on its way that `Health` is told of."""

    def __init__(self, health: Health, operation: str, begun: Begun, length: int) -> None:
        self._health = health
        self._operation = operation
        self._begun = begun
        self._length = length
        self._health.in_flight += 1

    @property
    def seconds(self) -> float | None:
        return self._begun.seconds

    def result(self) -> None:
        self._health.in_flight -= 1
        try:
            self._begun.result()
        except DriveError as error:
            self._health.failed(error)
            raise
        self._health.answered(self._operation, self._begun.seconds or 0.0)
        self._health.bytes_written += self._length

    def give_up(self) -> None:
        self._health.in_flight -= 1
        self._begun.give_up()


def health_of(drive: Drive | None) -> Health | None:
    """What is known of a drive that the registry opened; None of others, and where there is none."""
    return drive.health if isinstance(drive, HealthDrive) else None
