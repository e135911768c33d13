"""Taking a drive into W: one that came back, or a new one. The order: docs/INVARIANTS.md, "A drive comes (back)".

Everything that takes long is done before the commit lock is taken; inside it only what was committed meanwhile is
copied, and the last step, from which on commits must reach the drive, contains no await.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio
from msgspec import structs

from ecfs.drive.base import Drive
from ecfs.errors import (
    DriveError,
    DriveTimeoutError,
    DriveUnreachableError,
    FencedError,
    HistoryGapError,
    StalledError,
)
from ecfs.geometry import stripe_id
from ecfs.heal.context import HealContext, Impatient
from ecfs.journal.create import location_json
from ecfs.journal.history import Copied, copy_history, copy_rest, shown_by
from ecfs.journal.superblock import DriveEntry, Superblock
from ecfs.meta import DriveRow, Gap, Outcome
from ecfs.pool.identity import JOINING, MEMBER, Identity, encode_identity

LOOK_S = 0.02
"""Seconds between two looks at whether the commit is done that puts a drive into W; it takes about as long."""
LOCK_PATIENCE_S = 0.5
"""How long to wait for the commit lock before looking again whether the engine is stalled and so keeps it."""


@dataclass
class Arrival:
    """A drive on its way into a slot. tape: what its journal is written as until it has the slot.

    emptied: it lost shards, nobody knows which. fresh: a new drive, which has nothing until it is filled; `filled`:
    stripes up to this id were put on it before, except those in `holes`. complete: puts what was committed since then
    on it, where its slot has another drive until it comes.
    """

    slot: int
    drive: Drive
    drive_id: str
    tape: int
    fresh: bool = False
    emptied: bool = False
    filled: int = 0
    holes: list[int] = field(default_factory=list)
    present: list[int] = field(default_factory=list)
    complete: Callable[[], Awaitable[None]] | None = None
    location: dict[str, str] = field(default_factory=dict)
    copied: Copied = field(init=False, repr=False, compare=False)
    """How much of history it has, from when it was asked on."""


@dataclass
class _Way:
    """An arrival that runs. scope: cancelled to turn the drive away; ended: it has let go of slot and journal."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class Entrance:
    """Runs arrivals, one per slot at a time."""

    def __init__(self, ctx: HealContext) -> None:
        self._ctx = ctx
        self._ways: dict[int, _Way] = {}
        self._unnamed: dict[int, Arrival] = {}
        """New drives that have their slot and are not called member yet."""

    async def enter(self, arrival: Arrival) -> None:
        """Return when the drive is in W. On an error the drive is as it was, at most with more history on it.

        Raises DriveError (the drive), HistoryGapError, StalledError, FencedError.
        """
        ctx, slot = self._ctx, arrival.slot
        await self._make_way(arrival)
        ctx.entering.add(slot)
        way = self._ways[slot] = _Way()
        try:
            with way.scope:
                await self._prepare(arrival)
                while not await self._try(arrival):
                    pass
                await self._until_in(arrival)
                if arrival.fresh:
                    await self._call_it_member(arrival)
        finally:
            del self._ways[slot]
            way.ended.set()
            ctx.entering.discard(slot)
        if way.scope.cancelled_caught:
            raise DriveUnreachableError("turned away: its slot gets another drive", slot=slot)
        self._is_in()

    def _is_in(self) -> None:
        self._ctx.engine.request_checkpoint()  # R8: the newest checkpoint must lie on it, too
        self._ctx.nudge()

    async def _make_way(self, arrival: Arrival) -> None:
        """A new drive for the slot turns away one that is on its way back. Both would write one journal, and the one
        that came last would be taken in with the gaps of the other."""
        slot = arrival.slot
        while (other := self._ways.get(slot)) is not None:
            if not arrival.fresh:
                raise DriveUnreachableError("another drive is on its way into this slot", slot=slot)
            other.scope.cancel()
            await other.ended.wait()
        row = self._ctx.pool.db.drives.row(slot)
        if not arrival.fresh and (row is None or row.drive_id != arrival.drive_id):
            raise DriveUnreachableError("is not the drive of this slot any more", slot=slot)

    # ---- before the lock --------------------------------------------------------------------------------

    async def _prepare(self, arrival: Arrival) -> None:
        pool, drive = self._ctx.pool, Impatient(arrival.drive)
        await drive.fence(pool.writer)
        arrival.location = location_json(await drive.location())
        if arrival.emptied:
            await self._record_unknown(arrival)
        elif not arrival.fresh:
            await self._record_rollback(arrival, await shown_by(pool, drive))
        await drive.prepare(pool.live_epochs())
        arrival.copied = await copy_history(pool, arrival.tape, drive)
        # Copying may have taken long, and commits go on: what is left for the lock, where they wait, should be little.
        await self._complete(arrival)
        arrival.copied = await copy_rest(pool, arrival.tape, drive, arrival.copied)

    async def _complete(self, arrival: Arrival, seconds: float = float("inf")) -> None:
        """The drive that leaves its slot for this one takes its shards along, perhaps the last of them that count."""
        if arrival.complete is None:
            return
        with trio.move_on_after(seconds):
            await arrival.complete()
            return
        raise DriveTimeoutError(f"did not get the last shards within {seconds:g} s", slot=arrival.slot)

    async def _record_rollback(self, arrival: Arrival, shown: int) -> None:
        """R11: a drive that shows less than it once confirmed is an older copy of itself. What it may lack is
        committed before its journal is completed, since afterwards nothing would tell."""
        pool, member = self._ctx.pool, self._ctx.pool.members[arrival.slot]
        if shown >= (pool.seq if member.in_w else member.confirmed[1]):
            return
        pool.members.note(arrival.slot, "rolled-back", f"shows commit {shown} only: an older copy of this drive")
        await self._record_unknown(arrival)

    async def _record_unknown(self, arrival: Arrival) -> None:
        """Any stripe may be missing on it: repairs put old ones on it, too, after what it shows."""
        pool = self._ctx.pool
        await self._ctx.engine.record(Outcome(gaps={arrival.slot: pool.all_unknown(arrival.slot)}))

    # ---- the last steps ---------------------------------------------------------------------------------

    async def _try(self, arrival: Arrival) -> bool:
        """False: look again. The commit lock is held for as long as the engine is stalled, and waiting for it
        would keep out the very drive that ends the stall."""
        engine = self._ctx.engine
        if engine.fenced:
            raise FencedError(engine.fenced)
        if engine.stalled:
            return await self._enter_stalled(arrival)
        with trio.move_on_after(LOCK_PATIENCE_S) as patience:
            async with engine.between_commits():
                patience.deadline = float("inf")
                if engine.fenced:
                    raise FencedError(engine.fenced)
                await self._last_steps(arrival)
                engine.committer.add_outcome(self._admit(arrival))
                return True
        return False

    async def _enter_stalled(self, arrival: Arrival) -> bool:
        """Without the lock: a stalled commit is at rest unless it goes on, and then `seq` moves."""
        engine, seq = self._ctx.engine, self._ctx.pool.seq
        if engine.is_over:
            raise StalledError(engine.stalled)  # else this would be tried again at once, for ever, and write each time
        if arrival.fresh:
            raise StalledError("a new drive can't be taken in while commits are stalled")
        await self._last_steps(arrival)
        if self._ctx.pool.seq != seq or not engine.stalled:
            return False
        return engine.amend_stalled(self._admit(arrival))

    async def _last_steps(self, arrival: Arrival) -> None:
        pool, drive = self._ctx.pool, Impatient(arrival.drive)
        await self._complete(arrival, drive.capabilities.deadline_s)
        arrival.copied = await copy_rest(pool, arrival.tape, drive, arrival.copied)
        await drive.prepare(pool.live_epochs())
        await self._write_superblock(arrival)
        await drive.write_blob(
            "identity", encode_identity(self._identity(arrival, JOINING if arrival.fresh else MEMBER))
        )

    async def _write_superblock(self, arrival: Arrival) -> None:
        drive = Impatient(arrival.drive)
        await self._ctx.pool.write_superblock(arrival.slot, drive, partial(self._superblock, arrival))

    def _superblock(self, arrival: Arrival) -> Superblock:
        ours = self._ctx.pool.superblock_for(self._ctx.pool.members[arrival.slot])
        entry = DriveEntry(arrival.slot, arrival.drive.url, arrival.drive_id)
        drives = [entry if each.slot == arrival.slot else each for each in ours.drives]
        return structs.replace(ours, drive_id=arrival.drive_id, drives=drives)

    def _identity(self, arrival: Arrival, state: str) -> Identity:
        ours = self._ctx.pool.identity_for(self._ctx.pool.members[arrival.slot], state)
        return structs.replace(ours, drive_id=arrival.drive_id)

    def _admit(self, arrival: Arrival) -> Outcome:
        """From here on commits must reach it. No await."""
        pool, slot = self._ctx.pool, arrival.slot
        row = pool.db.drives.row(slot)
        if row is None:
            raise HistoryGapError(f"drive {slot} is not in the drive table")
        if arrival.tape != slot:
            pool.segments.hand_over(arrival.tape, slot)
        pool.members.bring_up(slot, arrival.drive, "behind")
        outcome = Outcome(drives=[self._row(arrival, row)])
        if arrival.fresh:
            self._unnamed[slot] = arrival
            outcome.gaps = {slot: self._gaps(arrival)}
            outcome.present = [(stripe, slot) for stripe in arrival.present]
        if row.drive_id != arrival.drive_id:
            outcome.retired = [(row.drive_id, slot)]
        return outcome

    def _row(self, arrival: Arrival, row: DriveRow) -> DriveRow:
        return structs.replace(
            row, drive_id=arrival.drive_id, url=arrival.drive.url, state="behind", reason="", in_w=True,
            location=arrival.location, since_ns=self._ctx.pool.clock.wall_ns(),
        )  # fmt: skip

    def _gaps(self, arrival: Arrival) -> list[Gap]:
        """All stripes but those that it was filled with."""
        pool = self._ctx.pool
        gaps: list[Gap] = [(stripe, stripe + 1, "missing") for stripe in sorted(arrival.holes)]
        high = stripe_id(pool.writer.epoch, pool.next_stripe)
        if arrival.filled + 1 < high:
            gaps.append((arrival.filled + 1, high, "missing"))
        return gaps

    # ---- after the lock ---------------------------------------------------------------------------------

    async def _until_in(self, arrival: Arrival) -> None:
        """Until a committed record says that it is in W."""
        engine, member = self._ctx.engine, self._ctx.pool.members[arrival.slot]
        engine.request_commit()
        while member.drive is arrival.drive and member.up:
            row = self._ctx.pool.db.drives.row(arrival.slot)
            if (
                member.in_w
                and row is not None
                and row.in_w
                and row.drive_id == arrival.drive_id
                and row.state == "behind"
            ):
                return
            if engine.fenced:
                raise FencedError(engine.fenced)
            await self._ctx.pool.members.wait_change(LOOK_S)
        raise DriveUnreachableError(member.reason or "went away again", slot=arrival.slot)

    async def _call_it_member(self, arrival: Arrival) -> None:
        """The last write of a new drive: only now does it count for anything at an opening (R7)."""
        pool, drive = self._ctx.pool, Impatient(arrival.drive)
        self._unnamed.pop(arrival.slot, None)
        try:
            await self._write_superblock(arrival)
            await drive.write_blob("identity", encode_identity(self._identity(arrival, MEMBER)))
        except DriveError as error:
            pool.members.take_down(arrival.slot, "absent", str(error.args[0]))
            raise

    async def call_the_rest_members(self) -> None:
        """New drives whose way in was cancelled when they had their slot. Commits rely on them, so at an opening, which
        turns away what is joining, they must count."""
        for slot, arrival in list(self._unnamed.items()):
            member = self._ctx.pool.members[slot]
            if member.drive is not arrival.drive:
                self._unnamed.pop(slot, None)  # when it is back, the watch takes it in as one that merely lacks this
            elif slot not in self._ctx.entering and member.up and member.in_w:
                with suppress(DriveError):
                    await self._call_it_member(arrival)
                    self._is_in()
