"""Noticing that a drive went away, and finding it again. An idle pool wakes no disk: a probe is a stat.

What goes away is seen within a second or two; what comes back is taken in only if its identity says that it belongs.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

import trio

from ecfs.drive.base import Drive
from ecfs.errors import (
    DriveError,
    DriveFencedError,
    DriveTimeoutError,
    EcfsError,
    FormatTooNewError,
    HistoryGapError,
    PoolLockedError,
    StalledError,
)
from ecfs.heal.context import HealContext
from ecfs.heal.enter import Arrival, Entrance
from ecfs.journal.table import why_wrong
from ecfs.pool.judge import Sight, judge, look
from ecfs.pool.members import Member

PROBE_S = 1.0
LOOK_S = 5.0
"""How long one look at a place may take; a disk that spins up is found by a later look."""
TAKEN_IN_S = 60.0
"""How long a scrub waits for drives that are on their way in; it calls later ones pending."""
POLL_S = 0.2
REPEAT_WRONG_S = 10.0
"""Between two looks at a place where something else lies: each takes a lock and reads a file."""


class Watch:
    """One outstanding probe per drive, one outstanding look per place: whoever hangs holds up nobody else."""

    def __init__(self, ctx: HealContext, entrance: Entrance) -> None:
        self._ctx = ctx
        self._entrance = entrance
        self._probing: set[int] = set()
        self._late: set[int] = set()
        self.sweeping = trio.Lock()
        """Held while places are looked at: whoever attaches one meanwhile would find it locked by ourselves."""
        self._hung: dict[str, Drive] = {}
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                for member in self._ctx.pool.members.up():
                    if member.slot not in self._probing and member.drive is not None:
                        nursery.start_soon(self._probe, member, member.drive)
                nursery.start_soon(self._entrance.call_the_rest_members)
                if self._is_something_out():
                    nursery.start_soon(self.sweep, nursery)
                await trio.sleep(PROBE_S)

    async def probe_now(self) -> None:
        """Ask every drive once, all at the same time; whoever takes long is asked by `run` again."""
        with trio.move_on_after(LOOK_S):
            async with trio.open_nursery() as nursery:
                for member in self._ctx.pool.members.up():
                    if member.slot not in self._probing and member.drive is not None:
                        nursery.start_soon(self._probe, member, member.drive)

    def _is_something_out(self) -> bool:
        return any(not (m.up and m.in_w) and m.slot not in self._ctx.entering for m in self._ctx.pool.members)

    # ---- is it still there? -----------------------------------------------------------------------------

    async def _probe(self, member: Member, drive: Drive) -> None:
        slot = member.slot
        self._probing.add(slot)
        try:
            with trio.move_on_after(drive.capabilities.deadline_s):
                await drive.alive()
                self._late.discard(slot)
                return
            raise DriveTimeoutError(f"no answer within {drive.capabilities.deadline_s:g} s", slot=slot)
        except DriveError as error:
            if member.drive is drive and member.up:
                self._failed(member, error)
        finally:
            self._probing.discard(slot)

    def _failed(self, member: Member, error: DriveError) -> None:
        members = self._ctx.pool.members
        members.count_error(member, error)
        if isinstance(error, DriveFencedError):
            members.fenced = True
        if isinstance(error, DriveTimeoutError):
            self._late.add(member.slot)
            if not members.may_leave_for_slowness(frozenset(self._late)):
                return  # R5: when many are late, the cause is shared
        self._late.discard(member.slot)
        members.take_down(member.slot, "absent", str(error.args[0]))

    # ---- is it back? ------------------------------------------------------------------------------------

    async def sweep(self, nursery: trio.Nursery, *, at_once: bool = False) -> None:
        """Look at every place where no drive of ours is; who belongs is taken in, as a task of `nursery`.

        at_once: also where something else lay a moment ago.
        """
        if self.sweeping.locked() and not at_once:
            return
        async with self.sweeping:
            if at_once:
                self._not_before.clear()
            for member in self._ctx.pool.members:
                await self._let_go(member)
                if member.up and not member.in_w and member.drive is not None:
                    self._start(nursery, member.slot, member.drive, member.drive_id)
            sights = await self._look_at(self._places())
            await self._judge(nursery, sights)

    async def taken_in(self) -> None:
        """Until every drive that is on its way in has entered or failed to: `sweep` waits only for those it starts.
        Without it a scrub that begins just then would end before they are in, and call them pending."""
        with trio.move_on_after(TAKEN_IN_S):
            while self._ctx.entering:
                await self._ctx.pool.members.wait_change(POLL_S)

    async def _let_go(self, member: Member) -> None:
        """Close the handle of a drive that is down: its lock would keep us from looking at the place again."""
        drive = member.drive
        if member.up or drive is None or member.slot in self._ctx.entering:
            return
        with trio.move_on_after(LOOK_S):
            await drive.close()
        if member.drive is drive:
            member.drive = None
            if drive.abandoned:
                self._hung[drive.url] = drive

    def _places(self) -> list[str]:
        members = self._ctx.pool.members
        taken = {m.url for m in members if m.up or m.slot in self._ctx.entering}
        urls = dict.fromkeys([*(m.url for m in members if not m.up), *self._ctx.places()])
        self._hung = {url: drive for url, drive in self._hung.items() if drive.abandoned}
        for slot in (m.slot for m in members if m.url in self._hung and not m.up):
            # R20: what was given up may yet change the drive; taken in now, it would change under our feet.
            members.set_state(slot, "absent", "an operation that was given up has not returned yet")
        now = trio.current_time()
        return [
            url for url in urls
            if url not in taken and url not in self._hung and self._not_before.get(url, 0.0) <= now
        ]  # fmt: skip

    async def _look_at(self, urls: Iterable[str]) -> list[Sight]:
        sights: list[Sight] = []
        async with trio.open_nursery() as nursery:
            for url in urls:
                nursery.start_soon(self._look, url, sights)
        return sights

    async def _look(self, url: str, sights: list[Sight]) -> None:
        slot = next((m.slot for m in self._ctx.pool.members if m.url == url), -1)
        try:
            drive = self._ctx.open_drive(url, slot)
        except EcfsError as error:
            self._ctx.pool.members.note(None, "place", f"{url}: {error}")
            self._not_before[url] = float("inf")
            return
        sights.append(await self._sight(drive))
        if sights[-1].state != "absent":
            self._not_before[url] = trio.current_time() + REPEAT_WRONG_S

    async def _sight(self, drive: Drive) -> Sight:
        try:
            with trio.move_on_after(min(LOOK_S, drive.capabilities.deadline_s)):
                return await look(drive, exclusive=True)
            self._hung[drive.url] = drive
            return Sight(drive, "absent", "does not answer")
        except FormatTooNewError as error:
            return Sight(drive, "wrong", str(error))
        except PoolLockedError as error:
            await self._have_we_lost_it(drive)
            return Sight(drive, "absent", str(error))
        except EcfsError as error:
            return Sight(drive, "absent", str(error))

    async def _have_we_lost_it(self, drive: Drive) -> None:
        """Somebody else has a drive of ours. If it is promised to them, the pool is theirs, and we must say so (R2)."""
        with trio.move_on_after(LOOK_S), suppress(EcfsError):  # a node can name any
            await drive.attach(exclusive=False)
            if (await drive.read_fence()).epoch > self._ctx.pool.writer.epoch:
                self._ctx.pool.members.fenced = True
                self._ctx.pool.members.note(drive.slot, "fenced", "promised to another process")

    # ---- does it belong? --------------------------------------------------------------------------------

    async def _judge(self, nursery: trio.Nursery, sights: list[Sight]) -> None:
        pool = self._ctx.pool
        for sight in judge(sights, pool.pool_id.hex(), pool.geometry.n):
            slot = self._slot_of(sight)
            sight = self._judge_one(sight)
            member = pool.members[slot] if slot is not None else None
            if member is None or member.up or member.slot in self._ctx.entering or sight.identity is None:
                await sight.drive.close()
            elif sight.is_member:
                self._start(nursery, member.slot, sight.drive, sight.identity.drive_id)
                continue
            else:
                await sight.drive.close()
            if member is not None and not member.up and member.slot not in self._ctx.entering:
                pool.members.set_state(member.slot, sight.state, sight.reason)

    def _slot_of(self, sight: Sight) -> int | None:
        """The slot that a sight tells something about: whose it says it is, else whose place it is."""
        members = self._ctx.pool.members
        identity = sight.identity
        if identity is not None and identity.pool_id == self._ctx.pool.pool_id.hex() and identity.slot < len(members):
            return identity.slot
        return next((m.slot for m in members if m.url == sight.drive.url), None)

    def _judge_one(self, sight: Sight) -> Sight:
        """The rules of an opening, for one that comes later (R7, R11)."""
        identity, pool = sight.identity, self._ctx.pool
        if identity is None or sight.state not in ("member", "joining"):
            return sight
        row = pool.db.drives.row(identity.slot)
        reason = why_wrong(pool, row, identity) if row is not None else "is not in the drive table"
        if any(m.up and m.drive_id == identity.drive_id for m in pool.members):
            reason = "another drive with this identity is in use: one is a copy; take it away"
        if reason and sight.is_member:
            return replace(sight, state="wrong", reason=reason)
        if not reason and sight.state == "joining":
            return replace(sight, state="member")  # its id is in the table: only the last step was missing
        return sight

    # ---- taking it in -----------------------------------------------------------------------------------

    def _start(self, nursery: trio.Nursery, slot: int, drive: Drive, drive_id: str) -> None:
        if slot not in self._ctx.entering:
            self._ctx.entering.add(slot)
            drive.slot = slot
            nursery.start_soon(self._take_in, Arrival(slot, drive, drive_id, tape=slot))

    async def _take_in(self, arrival: Arrival) -> None:
        members, slot = self._ctx.pool.members, arrival.slot
        try:
            await self._entrance.enter(arrival)
            return
        except DriveFencedError as error:
            members.fenced = True
            state, why = "wrong", f"was opened by another process meanwhile ({error.args[0]})"
        except (DriveError, HistoryGapError, StalledError) as error:
            state, why = "absent", str(error.args[0])
        except EcfsError as error:
            state, why = "absent", str(error)
        finally:
            self._ctx.entering.discard(slot)
        if members[slot].up and members[slot].drive is arrival.drive:
            members.take_down(slot, state, why)
            return
        await arrival.drive.close()
        if not members[slot].up:  # else it is another drive's slot by now
            members.set_state(slot, state, why)
