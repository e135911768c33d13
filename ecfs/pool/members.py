"""Who is in, who is out: the drives of an open pool, in memory.

Two facts per slot, never mixed up (rule R5):

* ``up``: we can talk to the drive right now. Changes at once, whenever an operation or a look at the drive says so.
* ``in_w``: committed records say that the drive is in W. Changes only when a record that says so is committed
  (`Members.apply_rows`), so that after a crash everybody agrees on who must have what.

A shard or record goes to slots that are both. A drive that goes down and comes up again has a new *incarnation*, and
so has one that stays but on which a sync was given up: what was put but not synced before is void (R21), and a put
counts only for the incarnation it was made in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import trio

from ecfs.clock import Clock
from ecfs.drive.base import Drive, Space
from ecfs.errors import DriveError, DriveFencedError, DriveFullError, DriveTimeoutError, DriveUnreachableError

DRIVE_STATES = ("online", "slow", "behind", "joining", "absent", "wrong", "failed", "retired")
"""Also the kinds of the events that tell of a change from one to another."""
MISSES_BEFORE_DOWN = 3
"""Timed-out reads in a row before a drive counts as down (circuit breaker); writes decide by R5."""


@dataclass(frozen=True)
class Event:
    """Something happened to a drive or the pool. slot is None for the pool; number: of this opening, from 1 on."""

    at_ns: int
    slot: int | None
    kind: str
    text: str
    number: int = 0


@dataclass
class Member:
    """One slot. state is what people see: online, behind, absent, wrong, joining, failed, slow."""

    slot: int
    url: str
    drive: Drive | None = None
    drive_id: str = ""
    up: bool = False
    in_w: bool = False
    state: str = "absent"
    reason: str = ""
    since_ns: int = 0
    incarnation: int = 0
    confirmed: tuple[int, int] = (0, 0)
    """(epoch, seq) of the last record it is known to hold; only kept exact while it is out."""
    location: dict[str, Any] = field(default_factory=dict)
    misses: int = 0
    full: bool = False
    errors: dict[str, int] = field(default_factory=dict)
    space: Space | None = None


class Members:
    """The drive table in memory. Also the `DriveAccess` of the stripe reader."""

    def __init__(self, clock: Clock, members: list[Member], *, need: int, m: int) -> None:
        """need: drives that every commit must reach, max(k, min_write_drives); m: how many may be lost."""
        self.clock = clock
        self.need = need
        self.m = m
        self.events: list[Event] = []
        self.fenced = False
        self.event_kinds: Counter[str] = Counter()
        """How many there were of each kind; `events` only has the newest."""
        self.listeners: list[Callable[[Event], None]] = []
        """Told of each event, without an await: they note it down and return."""
        self._members = members
        self._changed = trio.Event()

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def __getitem__(self, slot: int) -> Member:
        return self._members[slot]

    def __len__(self) -> int:
        return len(self._members)

    # ---- sets of slots ----------------------------------------------------------------------------------

    def writable(self) -> list[Member]:
        """W ∩ up: who gets shards and records now."""
        return [member for member in self._members if member.up and member.in_w]

    def drives(self) -> Iterator[tuple[Member, Drive]]:
        """W ∩ up, each with its drive. Whoever has gone away before it is his turn is left out."""
        for member in self._members:
            if member.up and member.in_w and member.drive is not None:
                yield member, member.drive

    def up(self) -> list[Member]:
        return [member for member in self._members if member.up]

    def out_slots(self) -> frozenset[int]:
        """Slots that can't be counted on now: down, or not in W."""
        return frozenset(member.slot for member in self._members if not (member.up and member.in_w))

    def leaving(self) -> list[Member]:
        """In W by the records, but down: the next commit takes them out."""
        return [member for member in self._members if member.in_w and not member.up]

    # ---- what the stripe reader asks --------------------------------------------------------------------

    def readable(self, slot: int) -> Drive | None:
        member = self._members[slot]
        return member.drive if member.up else None

    def drive_failed(self, slot: int, error: DriveError) -> None:
        """A read met a drive-level error. One timeout is no verdict, several in a row are, where R5 lets a drive leave
        for slowness; being gone is."""
        if isinstance(error, DriveTimeoutError):
            self.count_error(self._members[slot], error)
            self._missed(slot)
        else:
            self.chore_failed(slot, error)

    def _missed(self, slot: int) -> None:
        member = self._members[slot]
        member.misses += 1
        late = frozenset(m.slot for m in self.up() if m.misses >= MISSES_BEFORE_DOWN)
        if slot in late and self.may_leave_for_slowness(late):
            self.take_down(slot, "absent", f"no answer {member.misses} times in a row")

    def chore_failed(self, slot: int, error: DriveError) -> None:
        """Something that no program waits for met a drive-level error: a deletion, a look at the space. Late is no
        verdict here: no answered read would end the row, and the watch asks every drive whether it is there anyway."""
        self.count_error(self._members[slot], error)
        if isinstance(error, DriveTimeoutError):
            return
        if isinstance(error, DriveUnreachableError):
            self.take_down(slot, "absent", str(error.args[0]))
        elif isinstance(error, DriveFencedError):
            self.fenced = True

    def drive_answered(self, slot: int) -> None:
        self._members[slot].misses = 0

    def latency_p95(self, slot: int) -> float:
        drive = self._members[slot].drive
        return 0.0 if drive is None else drive.read_latency_p95()

    def count_error(self, member: Member, error: DriveError) -> None:
        kind = type(error).__name__.removesuffix("Error")
        member.errors[kind] = member.errors.get(kind, 0) + 1
        if isinstance(error, DriveFullError):
            member.full = True

    # ---- transitions ------------------------------------------------------------------------------------

    def take_down(self, slot: int, state: str, reason: str) -> None:
        """The drive can't be used from now on. What was put on it and not yet synced is void."""
        member = self._members[slot]
        if not member.up:
            return
        member.up = False
        member.incarnation += 1
        member.misses = 0
        self._set(member, state, reason)

    def void_puts(self, slot: int) -> None:
        """A sync failed or was given up, and the drive stays: what was put on it and not yet synced is void (R21)."""
        self._members[slot].incarnation += 1

    def bring_up(self, slot: int, drive: Drive, state: str, reason: str = "") -> None:
        """The drive is there and its identity was checked. It gets nothing new until it is in W, too."""
        member = self._members[slot]
        member.drive = drive
        member.url = drive.url
        member.up = True
        member.incarnation += 1
        member.full = False
        self._set(member, state, reason)

    def set_state(self, slot: int, state: str, reason: str = "") -> None:
        member = self._members[slot]
        if (member.state, member.reason) != (state, reason):
            self._set(member, state, reason)

    def _set(self, member: Member, state: str, reason: str) -> None:
        was = member.state
        member.state, member.reason = state, reason
        member.since_ns = self.clock.wall_ns()
        self.note(member.slot, state, f"{was} → {state}" + (f": {reason}" if reason else ""))

    def note(self, slot: int | None, kind: str, text: str) -> None:
        """Record an event and wake whoever waits for a change."""
        self.event_kinds[kind] += 1
        event = Event(self.clock.wall_ns(), slot, kind, text, self.event_kinds.total())
        self.events.append(event)
        del self.events[:-1000]  # bounded: a flapping drive must not fill memory
        for listener in self.listeners:
            listener(event)
        self._changed.set()
        self._changed = trio.Event()

    async def wait_change(self, timeout_s: float) -> None:
        """Until the next transition or event, at most `timeout_s` seconds."""
        changed = self._changed
        with trio.move_on_after(timeout_s):
            await changed.wait()

    # ---- R5: slowness -----------------------------------------------------------------------------------

    def may_leave_for_slowness(self, late: frozenset[int]) -> bool:
        """May the late drives be taken out? At most m minus those already out, and none if more than m are late:
        when everybody is slow the cause is shared, and taking drives out would only cost redundancy."""
        out = sum(1 for member in self._members if not (member.up and member.in_w) and member.slot not in late)
        remaining = len(self._members) - out - len(late)
        return len(late) <= self.m - out and remaining >= self.need
