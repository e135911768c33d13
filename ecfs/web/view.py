"""What the page and the metrics show, looked at once per second whatever the number of viewers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import trio

from ecfs import __version__
from ecfs.commit.engine import Engine
from ecfs.control.hook import Hook
from ecfs.control.status import SECOND, Status
from ecfs.control.verdict import verdict
from ecfs.drive.health import health_of
from ecfs.histogram import Histogram
from ecfs.journal.opened import OpenedPool
from ecfs.pool.members import Event
from ecfs.web.history import History, Totals

FRESH_S = 1.0
AT_ONCE_S = 0.2
"""After an event the next viewer gets a new look, but a drive that flaps must not make us look all the time."""
SAMPLE_S = 1.0


@dataclass(frozen=True)
class Source:
    """What is shown. status: builds one; name: the pool as one would type it; requests: of the mount, by kind.
    hook: what is told of events, if there is one."""

    engine: Engine
    status: Callable[[], Status]
    name: str
    requests: Mapping[str, Histogram]
    hook: Hook | None = None

    @property
    def pool(self) -> OpenedPool:
        return self.engine.pool


def told(status: Status, name: str, now: int) -> dict[str, Any]:
    """What the page says of a status. name: the pool as one would type it; now: seconds since 1970."""
    said = verdict(status, name)
    return {
        "schema": 1,
        "version": __version__,
        "now": now,
        "name": name,
        "verdict": asdict(said),
        "status": status,
    }


class View:
    """The newest look at a pool, and its history. Start `sample` in a nursery."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.history = History()
        self.late = Histogram()
        """How late the event loop was to wake the sampler: what every request waits, too."""
        self._status: Status = {}
        self._looked = float("-inf")
        self._newest: Event | None = None

    def status(self) -> Status:
        """At most a second old, and younger than the newest event."""
        now, events = trio.current_time(), self.source.pool.members.events
        newest = events[-1] if events else None
        if now - self._looked >= (FRESH_S if newest is self._newest else AT_ONCE_S):
            self._status = self.source.status()
            self._looked, self._newest = now, newest
        return self._status

    def page(self, ring: str, after: int) -> dict[str, Any]:
        """Everything the page shows; of the plot's points only those after number `after`."""
        now = self.source.pool.clock.wall_ns() // SECOND
        return told(self.status(), self.source.name, now) | {"points": self.history.rings[ring].after(after)}

    # ---- history ------------------------------------------------------------------------------------------

    async def sample(self) -> None:
        """Until cancelled. Costs some tens of microseconds per second."""
        due = trio.current_time()
        while True:
            self.history.add(self._totals())
            due += SAMPLE_S
            await trio.sleep_until(due)
            now = trio.current_time()
            self.late.add(max(now - due, 0.0))
            due = max(due, now - SAMPLE_S)  # after a pause of the whole machine nothing is made up for

    def _totals(self) -> Totals:
        engine, pool = self.source.engine, self.source.pool
        return Totals(
            trio.current_time(),
            pool.clock.wall_ns() // SECOND,
            engine.bytes_read,
            engine.bytes_written,
            {name: tuple(took.buckets) for name, took in self.source.requests.items()},
            [self._answers(slot) for slot in range(len(pool.members))],
        )

    def _answers(self, slot: int) -> tuple[int, ...]:
        """Reads and puts of a drive together."""
        health = health_of(self.source.pool.members[slot].drive)
        if health is None:
            return ()
        read, put = health.latency("read").all.buckets, health.latency("put").all.buckets
        return tuple(one + other for one, other in zip(read, put, strict=True))
