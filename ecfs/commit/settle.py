"""Getting shards onto drives, and deciding what a failure or a delay means (R5).

A drive that fails is taken down at once. One that is merely late is taken down only if few are late: when more
than m miss the same window the cause is shared, and the commit waits instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import trio

from ecfs.commit.sealed import SealedStripe
from ecfs.commit.tasks import raise_gravest, together
from ecfs.drive.base import ODD, Drive, odd_answer
from ecfs.drive.begun import Begun, Gathering, Line
from ecfs.errors import (
    DriveError,
    DriveFencedError,
    DriveFullError,
    EcfsError,
    FencedError,
    NoRoomError,
    StalledError,
)
from ecfs.journal.opened import OpenedPool
from ecfs.pool.members import Member
from ecfs.stripes.writer import EncodedStripe, encode_stripe, put_shard

FAILURES = (DriveError, *ODD)
"""What a drive's answer may raise. Only the first is promised, but no answer of one drive may end the engine."""
Done = Callable[[Member, int], None]
"""Told of a drive that succeeded, and in which incarnation."""
Full = Callable[[Member, DriveFullError], None]
LATE = 0.8
"""Share of the deadline after which a drive counts as late. The verdict follows at the deadline, since no program
should wait longer than that: between the two it shows who else is late."""
LOOK_S = 0.1
"""Seconds between two looks at calls on their way."""


@dataclass(eq=False)
class Watched:
    """A call on its way. give_up: ends the wait for it. answered: it only waits for other drives' calls any more.
    stalled: given up because too many drives are late at once."""

    member: Member
    started: float
    deadline_s: float
    give_up: Callable[[], object]
    answered: Callable[[], bool] = bool
    stalled: bool = False

    def stall(self) -> None:
        self.stalled = True
        self.give_up()

    def raise_if_stalled(self) -> None:
        if self.stalled:
            raise StalledError(f"drives have not answered for {trio.current_time() - self.started:.0f} s")


@dataclass
class _OnItsWay:
    """An operation of one drive, in the incarnation of when it was begun."""

    member: Member
    drive: Drive
    incarnation: int
    begun: Begun
    given_up: bool = False

    def answered(self) -> bool:
        return self.begun.seconds is not None

    def give_up(self) -> None:
        if not self.given_up:
            self.given_up = True
            self.begun.give_up()


class Joint:
    """Operations that are begun on several drives and waited for together, with R5's verdicts.

    A task, a scope and a wake-up of the event loop for each drive would cost more than many an operation does.
    """

    def __init__(self, settler: Settler, gathering: Gathering) -> None:
        self._settler = settler
        self._gathering = gathering
        self._calls: list[_OnItsWay] = []
        self._alone: list[tuple[Member, Callable[[Drive], Awaitable[None]]]] = []

    def begin(
        self,
        member: Member,
        begin: Callable[[Drive, Gathering], Begun | None],
        alone: Callable[[Drive], Awaitable[None]],
    ) -> None:
        """alone: the same as a call of its own, for where nothing was begun: the drive is down, or does not know how.
        It also meets what was raised here and says what that means."""
        drive, begun = member.drive, None
        if drive is not None and member.up:
            with suppress(*FAILURES):
                begun = begin(drive, self._gathering)
        if drive is None or begun is None:
            self._alone.append((member, alone))
        else:
            self._calls.append(_OnItsWay(member, drive, member.incarnation, begun))

    async def finish(self, done: Done, full: Full) -> None:
        """Wait, then say of each what became of it. Drives that failed are down when this returns.

        done: gets the incarnation in which it succeeded. Raises as `Settler.call`, but for DriveFullError.
        """
        await together(
            [
                partial(self._finish_begun, done, full),
                *(partial(self._call, member, alone, done, full) for member, alone in self._alone),
            ]
        )

    async def _call(self, member: Member, call: Callable[[Drive], Awaitable[None]], done: Done, full: Full) -> None:
        incarnation = member.incarnation
        try:
            if await self._settler.call(member, call):
                done(member, incarnation)
        except DriveFullError as error:
            full(member, error)

    async def _finish_begun(self, done: Done, full: Full) -> None:
        settler = self._settler
        watched = [settler.watch(each.member, each.drive, each.give_up, each.answered) for each in self._calls]
        try:
            await self._gathering.wait()
        except BaseException:
            for each in self._calls:
                each.give_up()
            raise
        finally:
            for call in watched:
                settler.unwatch(call)
        failures: list[EcfsError] = []
        for each, call in zip(self._calls, watched, strict=True):
            try:
                self._judge(each, call, done)
            except DriveFullError as error:
                full(each.member, error)
            except EcfsError as error:
                failures.append(error)
        raise_gravest(failures)

    def _judge(self, each: _OnItsWay, watched: Watched, done: Done) -> None:
        if each.given_up:
            watched.raise_if_stalled()
            return
        try:
            each.begun.result()
        except FAILURES as error:
            self._settler.failed(each.member, error)
        else:
            done(each.member, each.incarnation)


class Settler:
    """Drive I/O of commits and checkpoints, with the verdicts of rule R5."""

    def __init__(self, pool: OpenedPool) -> None:
        self._pool = pool
        self._members = pool.members
        self._calls: set[Watched] = set()
        self._wake = trio.Event()
        self._ended = False

    # ---- shards -----------------------------------------------------------------------------------------

    async def place(self, stripe: SealedStripe, space: str = "s", targets: Sequence[Member] | None = None) -> None:
        """Put the shard of every target (W ∩ up) that lacks it. Drives that fail are down when this returns."""
        async with stripe.lock:
            lacking = [
                member
                for member in (self._members.writable() if targets is None else targets)
                if stripe.placed.get(member.slot) != member.incarnation and member.slot not in stripe.full
            ]
            if not lacking and stripe.fact is not None:
                return  # the commit asks again for what the background has put: that must not encode it again
            pool = self._pool
            # Not kept: a retry encodes again, and until then the payload alone is in memory.
            encoded = encode_stripe(pool.pool_id, stripe.id, space, pool.geometry, stripe.payload)
            stripe.fact = encoded.fact
            await self._put_all(stripe, encoded, lacking)

    async def _put_all(self, stripe: SealedStripe, encoded: EncodedStripe, targets: Sequence[Member]) -> None:
        joint = self.joint()
        for member in targets:
            self._begin_put(joint, stripe, encoded, member)

        def done(member: Member, incarnation: int) -> None:
            stripe.placed[member.slot] = incarnation

        def full(member: Member, _: DriveFullError) -> None:
            stripe.full.add(member.slot)

        await joint.finish(done, full)

    def _begin_put(self, joint: Joint, stripe: SealedStripe, encoded: EncodedStripe, member: Member) -> None:
        slot, fact = member.slot, encoded.fact
        # A second try finds the first one's name taken, whole or torn: replace it.
        again = slot in stripe.tried
        stripe.tried.add(slot)

        def begin(drive: Drive, gathering: Gathering) -> Begun | None:
            return drive.begin_put(fact.key, encoded.buffers(fact.index_of(slot)), gathering, replace=again)

        joint.begin(member, begin, lambda drive: put_shard(drive, encoded, slot, replace=again))

    async def sync(self, stripes: Iterable[SealedStripe]) -> None:
        """Make what was placed durable. A failed sync takes the drive down and thereby voids its puts (R21)."""
        waiting: dict[int, list[SealedStripe]] = {}
        for stripe in stripes:
            for slot, incarnation in stripe.placed.items():
                if stripe.synced.get(slot) != incarnation and self._members[slot].incarnation == incarnation:
                    waiting.setdefault(slot, []).append(stripe)
        await together(partial(self._sync_one, self._members[slot], placed) for slot, placed in waiting.items())

    async def _sync_one(self, member: Member, stripes: list[SealedStripe]) -> None:
        incarnation = member.incarnation
        try:
            done = await self.sync_drive(member)
        except DriveFullError as error:
            self._members.take_down(member.slot, "absent", f"sync failed: {error.args[0]}")
            return
        if done:
            for stripe in stripes:
                if stripe.placed.get(member.slot) == incarnation:  # else it was voided before this began
                    stripe.synced[member.slot] = incarnation

    async def sync_drive(self, member: Member) -> bool:
        """Make all that was put on the drive durable, by whomever. Unless it returns True, none of it counts: a second
        sync would succeed without having written anything (R21). Raises as `call` does.

        Not ended by its caller's being cancelled: that would void what others have put, on all drives at once where a
        scrub is given up. R5 ends it, and the end of `run`.
        """
        incarnation, done = member.incarnation, False
        try:
            with trio.CancelScope(shield=True):
                done = await self.call(member, lambda drive: drive.sync())
        finally:
            if not done and member.incarnation == incarnation:
                self._members.void_puts(member.slot)
        return done and member.incarnation == incarnation

    def no_room(self, full: Sequence[tuple[Member, DriveFullError]], what: str) -> None:
        """Drives found no room for what all of W must have: they leave. Where too few would be left, because somebody
        else filled the disk that they share, none leaves: all stay readable and the commit waits for room.
        Raises NoRoomError then."""
        slots = {member.slot for member, _ in full}
        left = [member for member in self._members.writable() if member.slot not in slots]
        if full and len(left) < self._members.need:
            raise NoRoomError(f"no room for {what} on drives {sorted(slots)}: {full[0][1].args[0]}")
        for member, error in full:
            self._members.take_down(member.slot, "absent", f"no room for {what}: {error.args[0]}")

    # ---- calls, with R5 ---------------------------------------------------------------------------------

    def joint(self, line: Line | None = None) -> Joint:
        """For operations of several drives that are waited for together. line: short ones, see `Line`."""
        return Joint(self, Gathering(line))

    async def call(self, member: Member, call: Callable[[Drive], Awaitable[None]]) -> bool:
        """Run one operation; False if the drive failed and is now down.

        Raises DriveFullError as it is, FencedError for good, StalledError after a shared stall of too long.
        """
        drive = member.drive
        if drive is None or not member.up:
            return False
        try:
            return await self._watched(member, drive, call)
        except FAILURES as error:
            self.failed(member, error)
            return False

    def failed(self, member: Member, error: EcfsError) -> None:
        """What one of FAILURES of an operation means: the drive is down, or it raises as `call` does."""
        if not isinstance(error, DriveError):
            error = odd_answer(error, member.slot)
        if isinstance(error, DriveFencedError):
            self._members.fenced = True
            raise FencedError(
                f"another process has taken the pool over ({error}); this one will not write again"
            ) from error
        self._members.count_error(member, error)
        if isinstance(error, DriveFullError):
            raise error
        self._members.take_down(member.slot, "absent", str(error.args[0]))

    async def _watched(self, member: Member, drive: Drive, call: Callable[[Drive], Awaitable[None]]) -> bool:
        """`run` gives up on it by cancelling the scope: for one scope per call no further task is needed."""
        with trio.CancelScope() as scope:
            watched = self.watch(member, drive, scope.cancel)
            try:
                await call(drive)
                return True
            finally:
                self.unwatch(watched)
        watched.raise_if_stalled()
        return False

    def watch(
        self, member: Member, drive: Drive, give_up: Callable[[], object], answered: Callable[[], bool] = bool
    ) -> Watched:
        """From now on `run` gives the call up when the drive goes down or R5 says that it is too late."""
        watched = Watched(member, trio.current_time(), drive.capabilities.deadline_s, give_up, answered)
        self._calls.add(watched)
        self._wake.set()
        if self._ended:
            watched.stall()
        return watched

    def unwatch(self, watched: Watched) -> None:
        self._calls.discard(watched)

    # ---- giving up on late drives -----------------------------------------------------------------------

    async def run(self) -> None:
        """Judge late calls, until cancelled. Sleeps for good while nothing is on its way."""
        try:
            while True:
                if not self._calls:
                    self._wake = trio.Event()
                    await self._wake.wait()
                await trio.sleep(LOOK_S)
                self._judge(trio.current_time())
        finally:
            # Nobody judges from now on: a sync, which is shielded, would keep unmounting from its end (R20).
            self._ended = True
            for call in list(self._calls):
                call.stall()

    def _judge(self, now: float) -> None:
        calls = [call for call in self._calls if not call.answered()]
        late = frozenset(call.member.slot for call in calls if now - call.started >= call.deadline_s * LATE)
        for call in calls:
            waited = now - call.started
            if call.member.up and waited >= call.deadline_s:
                self._judge_late(call, late, waited)
        for call in list(self._calls):
            if not call.member.up:
                call.give_up()

    def _judge_late(self, call: Watched, late: frozenset[int], waited: float) -> None:
        if self._members.may_leave_for_slowness(late):
            self._members.take_down(call.member.slot, "absent", f"no answer within {call.deadline_s:g} s")
        elif waited > call.deadline_s + self._pool.settings.shared_stall_s:
            call.stall()
