"""Getting a record onto all drives at once.

What is done in threads is waited for together (`Gathering`), and few threads do all that is short: a task, a scope, a
thread and a wake-up for each of six drives would cost more than the appends themselves. Drives that know no
`begin_append` get a task each.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from ecfs.commit.settle import FAILURES, Settler, Watched, raise_gravest, together
from ecfs.drive.base import Drive
from ecfs.drive.begun import Gathering, Line
from ecfs.errors import DriveFullError, EcfsError
from ecfs.journal.opened import OpenedPool
from ecfs.journal.record import Record, frame
from ecfs.journal.segments import Appending
from ecfs.pool.members import Member

Appended = dict[int, int]
"""slot → incarnation in which the drive got the record."""
Full = list[tuple[Member, DriveFullError]]
"""Drives without room for it: what that means is judged when all have answered."""


@dataclass
class _Begun:
    """A record on its way to one drive, in the incarnation of when it was begun."""

    member: Member
    drive: Drive
    incarnation: int
    appending: Appending
    given_up: bool = False

    def answered(self) -> bool:
        return self.appending.seconds is not None

    def give_up(self) -> None:
        if not self.given_up:
            self.given_up = True
            self.appending.give_up()


class Appender:
    """The records of commits, with the verdicts of rule R5 as the settler gives them."""

    def __init__(self, pool: OpenedPool, settler: Settler) -> None:
        self._pool = pool
        self._settler = settler
        self._line = Line()

    async def append(self, record: Record, targets: Iterable[Member], appended: Appended) -> None:
        """Append to every target that does not have it yet. Drives that fail are down when this returns."""
        framed, gathering = frame(record), Gathering(self._line)
        lacking = [member for member in targets if appended.get(member.slot) != member.incarnation]
        begun = [each for member in lacking if (each := self._begin(member, record, framed, gathering))]
        ours, full = {each.member.slot for each in begun}, Full()
        await together(
            [
                partial(self._finish, begun, gathering, appended, full),
                *(partial(self._one, m, record, framed, appended, full) for m in lacking if m.slot not in ours),
            ]
        )
        self._settler.no_room(full, "the journal")

    # ---- in a thread of the drive's -----------------------------------------------------------------------

    def _begin(self, member: Member, record: Record, framed: bytes, gathering: Gathering) -> _Begun | None:
        drive = member.drive
        if drive is None or not member.up:
            return None
        with suppress(*FAILURES):  # `_one` meets the same and says what it means
            appending = self._pool.segments.begin(member.slot, drive, record, framed, gathering)
            if appending is not None:
                return _Begun(member, drive, member.incarnation, appending)
        return None

    async def _finish(self, begun: list[_Begun], gathering: Gathering, appended: Appended, full: Full) -> None:
        watched = [self._settler.watch(each.member, each.drive, each.give_up, each.answered) for each in begun]
        try:
            await gathering.wait()
        except BaseException:
            for each in begun:
                each.give_up()
            raise
        finally:
            for call in watched:
                self._settler.unwatch(call)
        failures: list[EcfsError] = []
        for each, call in zip(begun, watched, strict=True):
            try:
                self._judge(each, call, appended, full)
            except EcfsError as error:
                failures.append(error)
        raise_gravest(failures)

    def _judge(self, each: _Begun, watched: Watched, appended: Appended, full: Full) -> None:
        if each.given_up:
            watched.raise_if_stalled()
            return
        member = each.member
        try:
            each.appending.result()
        except FAILURES as error:
            self._failed(member, error, full)
        else:
            self._note(member, each.incarnation, appended)

    # ---- in a task of its own -----------------------------------------------------------------------------

    async def _one(self, member: Member, record: Record, framed: bytes, appended: Appended, full: Full) -> None:
        incarnation, segments = member.incarnation, self._pool.segments

        async def append(drive: Drive) -> None:
            await segments.append(member.slot, drive, record, framed)

        try:
            if await self._settler.call(member, append):
                self._note(member, incarnation, appended)
        except DriveFullError as error:
            full.append((member, error))

    # ---- what it means ------------------------------------------------------------------------------------

    def _note(self, member: Member, incarnation: int, appended: Appended) -> None:
        if member.incarnation == incarnation:
            appended[member.slot] = incarnation

    def _failed(self, member: Member, error: EcfsError, full: Full) -> None:
        try:
            self._settler.failed(member, error)
        except DriveFullError as no_room:
            full.append((member, no_room))
