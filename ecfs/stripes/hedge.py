"""When is a drive late? Decides how long a reader waits before it asks another one as well."""

from __future__ import annotations

import trio

from ecfs.stripes.access import DriveAccess

FLOOR_S = 0.02
"""Never hedge earlier: below this, scheduling noise would double the reads of a healthy pool."""
FACTOR = 3.0
FIRST_SHUN_S = 0.1
LONGEST_SHUN_S = 2.0


class Hedge:
    """Per slot, how long to wait for it and whether to ask others first. Only used inside ``trio.run``.

    A drive that was late is shunned for a moment, twice as long each time it is late again: a hung drive costs a
    pause now and then, not one per read, and does not collect requests. One slow answer costs 0.1 s of decoding.
    """

    def __init__(self, access: DriveAccess, floor_s: float = FLOOR_S) -> None:
        self._access = access
        self._floor_s = floor_s
        self._shunned: dict[int, tuple[float, float]] = {}  # slot -> (until when, for how long)

    def patience(self, slot: int) -> float:
        """Seconds to wait for the drive before it counts as late."""
        return max(self._floor_s, FACTOR * self._access.latency_p95(slot))

    def is_shunned(self, slot: int) -> bool:
        """True if the drive was late a moment ago: ask it only if there are not enough others."""
        return slot in self._shunned and trio.current_time() < self._shunned[slot][0]

    def was_late(self, slot: int) -> None:
        """The drive did not answer within its `patience`. While it is shunned, that says nothing new."""
        if self.is_shunned(slot):
            return
        _, last = self._shunned.get(slot, (0.0, FIRST_SHUN_S / 2))
        seconds = min(2 * last, LONGEST_SHUN_S)
        self._shunned[slot] = trio.current_time() + seconds, seconds

    def answered(self, slot: int) -> None:
        """The drive answered in time again."""
        self._shunned.pop(slot, None)
