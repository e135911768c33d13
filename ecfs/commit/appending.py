"""Getting a record onto all drives at once.

What is done in threads is waited for together (`Joint`), and few threads do all that is short: a task, a scope, a
thread and a wake-up for each of six drives would cost more than the appends themselves. Drives that know no
`begin_append` get a task each.
"""

from __future__ import annotations

from collections.abc import Iterable

from ecfs.commit.settle import Joint, Settler
from ecfs.drive.base import Drive
from ecfs.drive.begun import Begun, Gathering, Line
from ecfs.errors import DriveFullError
from ecfs.journal.opened import OpenedPool
from ecfs.journal.record import Record, frame
from ecfs.pool.members import Member

Appended = dict[int, int]
"""slot → incarnation in which the drive got the record."""


class Appender:
    """The records of commits, with the verdicts of rule R5 as the settler gives them."""

    def __init__(self, pool: OpenedPool, settler: Settler) -> None:
        self._pool = pool
        self._settler = settler
        self._line = Line()

    async def append(self, record: Record, targets: Iterable[Member], appended: Appended) -> None:
        """Append to every target that does not have it yet. Drives that fail are down when this returns."""
        framed, joint = frame(record), self._settler.joint(self._line)
        for member in targets:
            if appended.get(member.slot) != member.incarnation:
                self._begin(joint, member, record, framed)
        full: list[tuple[Member, DriveFullError]] = []
        """Drives without room for it: what that means is judged when all have answered."""

        def done(member: Member, incarnation: int) -> None:
            if member.incarnation == incarnation:
                appended[member.slot] = incarnation

        await joint.finish(done, lambda member, error: full.append((member, error)))
        self._settler.no_room(full, "the journal")

    def _begin(self, joint: Joint, member: Member, record: Record, framed: bytes) -> None:
        segments, slot = self._pool.segments, member.slot

        def begin(drive: Drive, gathering: Gathering) -> Begun | None:
            return segments.begin(slot, drive, record, framed, gathering)

        joint.begin(member, begin, lambda drive: segments.append(slot, drive, record, framed))
