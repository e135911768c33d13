"""Getting a record onto all drives at once.

What is done in threads is waited for together (`Joint`), and few threads do all that is short: a task, a scope, a
thread and a wake-up for each of six drives would cost more than the appends themselves. Drives that know no
`begin_append` get a task each.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from ecfs.commit.settle import Joint, Settler
from ecfs.commit.tasks import together
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
        lacking = [member for member in targets if appended.get(member.slot) != member.incarnation]
        alone = [member for member in lacking if not self._begin(joint, member, record, framed)]
        full: list[tuple[Member, DriveFullError]] = []
        """Drives without room for it: what that means is judged when all have answered."""

        def done(member: Member, incarnation: int) -> None:
            if member.incarnation == incarnation:
                appended[member.slot] = incarnation

        def no_room(member: Member, error: DriveFullError) -> None:
            full.append((member, error))

        async def append_alone(member: Member) -> None:
            incarnation = member.incarnation
            try:
                if await self._settler.call(member, partial(self._append, member.slot, record, framed)):
                    done(member, incarnation)
            except DriveFullError as error:
                no_room(member, error)

        await together([partial(joint.finish, done, no_room), *(partial(append_alone, member) for member in alone)])
        self._settler.no_room(full, "the journal")

    def _begin(self, joint: Joint, member: Member, record: Record, framed: bytes) -> bool:
        def begin(drive: Drive, gathering: Gathering) -> Begun | None:
            return self._pool.segments.begin(member.slot, drive, record, framed, gathering)

        return joint.begin(member, begin)

    async def _append(self, slot: int, record: Record, framed: bytes, drive: Drive) -> None:
        await self._pool.segments.append(slot, drive, record, framed)
