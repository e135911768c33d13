"""The commit: freeze, settle, compose, append, acknowledge. The order is that of docs/INVARIANTS.md, "Commit".

One commit is on its way at a time; whoever asks meanwhile is taken into the next one. A commit that can't be
finished is kept, byte for byte, and tried again (R6).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import structs

from ecfs.commit.appending import Appender
from ecfs.commit.sealed import SealedStripe, SealedStripes
from ecfs.commit.sealer import Sealer
from ecfs.commit.settle import Settler
from ecfs.errors import FencedError, NoRoomError, StalledError
from ecfs.journal.eventlog import EventLog
from ecfs.journal.opened import OpenedPool
from ecfs.journal.record import COMMIT, Record, compose
from ecfs.journal.superblock import Checkpoint
from ecfs.meta import DriveRow, Outcome, Snapshot, outcome_to_json, schema_hash
from ecfs.pool.members import Member


@dataclass(frozen=True)
class Image:
    """A pinned snapshot to become a checkpoint: which record it stands after, and the copy's source."""

    epoch: int
    seq: int
    hash: bytes
    snapshot: Snapshot

    def checkpoint(self, length: int, stripes: list[tuple[int, int, str, list[int]]]) -> Checkpoint:
        return Checkpoint(self.epoch, self.seq, self.hash.hex(), length, stripes)


@dataclass(eq=False)
class Commit:
    """A frozen commit. dead: stripes that nobody refers to any more from this commit on."""

    seq: int
    patchset: bytes
    stripes: list[SealedStripe]
    dead: list[int]
    outcome: Outcome
    record: Record | None = None
    records: list[tuple[Record, Outcome]] = field(default_factory=list)
    appended: dict[bytes, dict[int, int]] = field(default_factory=dict)
    late: Outcome | None = None
    """What came up after its records were composed: a drive that is back while the commit is stalled."""
    image: Image | None = None


class Committer:
    """Freezes and finishes commits. `Engine` decides when."""

    def __init__(self, pool: OpenedPool, sealed: SealedStripes, sealer: Sealer, settler: Settler) -> None:
        self._pool = pool
        self._members = pool.members
        self._sealed = sealed
        self._sealer = sealer
        self._settler = settler
        self._appender = Appender(pool, settler)
        self._unfrozen: list[SealedStripe] = []
        self._outcome = Outcome()
        self.events = EventLog(pool.members, pool.db.drives)
        self.removed: list[int] = []
        self.queue: list[SealedStripe] = []

    # ---- what the next commit will contain ----------------------------------------------------------------

    def add_stripe(self, stripe: SealedStripe) -> None:
        """A stripe was sealed: it belongs to the next commit and can be put right away."""
        self._unfrozen.append(stripe)
        self.queue.append(stripe)

    def add_outcome(self, more: Outcome) -> None:
        """Something heal or the pool found or did, for the next commit's outcome section."""
        _merge(self._outcome, more)

    def add_events(self) -> None:
        """What happened since the last commit goes with the next one."""
        self._outcome.settings.update(self.events.take())

    def amend(self, commit: Commit, more: Outcome) -> None:
        """Put drives that are back into a commit that waits for them; its records, once composed, never change."""
        if not commit.records:
            _merge(commit.outcome, more)
            return
        commit.late = commit.late or Outcome()
        _merge(commit.late, more)

    @property
    def has_work(self) -> bool:
        """Would a commit change anything durable?"""
        return bool(
            self._unfrozen
            or self.removed
            or self._outcome != Outcome()
            or self._members.leaving()
            or self._pool.db.is_dirty()
        )

    # ---- freeze: one synchronous step -------------------------------------------------------------------

    def freeze(self, *, pins: bool) -> Commit:
        """Everything answered so far becomes one commit. No await: this is the moment that a crash returns to.

        pins: `pin` comes next.
        """
        for stripe in self._sealer.seal_all():
            self.add_stripe(stripe)
        db, seq = self._pool.db, self._pool.seq + 1
        dead = db.files.take_dead()
        db.counters.set("stripe_counter", self._pool.next_stripe)  # below it, every id was given out (R12)
        patchset = db.freeze(seq, pins=pins)
        stripes, self._unfrozen = self._unfrozen, []
        self.add_events()
        outcome, self._outcome = self._outcome, Outcome()
        outcome.removed += self.removed
        self.removed.clear()
        return Commit(seq, patchset, stripes, dead, outcome)

    def pin(self) -> Image:
        """The state of the freeze just made, to be copied. In the same step as `freeze`, or right after a commit."""
        pool = self._pool
        return Image(pool.writer.epoch, pool.seq, pool.hash, pool.db.snapshot())

    # ---- finish: may be called again after StalledError -------------------------------------------------

    async def finish(self, commit: Commit) -> None:
        """Make it durable on all of W. Raises StalledError (try again later) or FencedError (never again)."""
        if not commit.records:
            await self._settle(commit)
            self._compose_first(commit)
        await self._append(commit)
        self._acknowledge(commit)

    def _need(self, commit: Commit) -> list[Member]:
        """The targets, if they are enough."""
        if self._members.fenced:
            raise FencedError("this process will not write again")
        targets = self._targets(commit)
        if len(targets) < self._members.need:
            raise StalledError(f"only {len(targets)} drives can be written, {self._members.need} are needed")
        return targets

    async def _settle(self, commit: Commit) -> None:
        """Until every target has every shard, durably, or had no room for it."""
        dead = set(commit.dead)
        while True:
            self._need(commit)
            for stripe in commit.stripes:
                await self._settler.place(stripe, targets=self._targets(commit))
            await self._settler.sync(commit.stripes)
            if all(self._is_settled(commit, stripe) for stripe in commit.stripes):
                break
        self._need(commit)  # drives that went away meanwhile: nobody may be told that room is lacking
        for stripe in commit.stripes:
            if stripe.id not in dead and len(self._holders(commit, stripe)) < self._members.need:
                stripe.full.clear()
                raise NoRoomError(f"stripe {stripe.id:016x} found room on too few drives")

    def _is_settled(self, commit: Commit, stripe: SealedStripe) -> bool:
        return all(
            stripe.holds(member.slot, member.incarnation) or member.slot in stripe.full
            for member in self._targets(commit)
        )

    def _holders(self, commit: Commit, stripe: SealedStripe) -> list[int]:
        return [m.slot for m in self._targets(commit) if stripe.holds(m.slot, m.incarnation)]

    def _compose_first(self, commit: Commit) -> None:
        """No await between the last look at the drives and this: what it says of them is what it found."""
        self._need(commit)
        outcome, dead = commit.outcome, set(commit.dead)
        for stripe in commit.stripes:
            if stripe.id in dead or stripe.fact is None:
                continue  # died before its commit: no fact, deleted like any dead stripe (R13)
            holders = set(self._holders(commit, stripe))
            mask = sum(1 << slot for slot in range(len(self._members)) if slot not in holders)
            fact = stripe.fact
            outcome.stripes.append((fact.id, fact.geometry.id, fact.length, fact.content_hash.hex(), mask))
        self._add_leaving(outcome)
        self._compose(commit, commit.patchset, outcome)

    def _add_leaving(self, outcome: Outcome) -> None:
        rows = {row.slot: row for row in outcome.drives}
        for member in self._members:
            proposed = rows.get(member.slot)
            in_w = proposed.in_w if proposed is not None else member.in_w
            if in_w and not member.up:
                rows[member.slot] = self._row_out(member.slot, proposed)
        outcome.drives = list(rows.values())
        out = {slot for slot, row in rows.items() if not row.in_w}
        # What was repaired on it meanwhile may be lost with this record, which it does not get (R11).
        outcome.missing += [pair for pair in outcome.present if pair[1] in out]
        outcome.present = [pair for pair in outcome.present if pair[1] not in out]
        for slot in out & outcome.gaps.keys():
            outcome.gaps[slot] = self._pool.all_unknown(slot)

    def _row_out(self, slot: int, proposed: DriveRow | None) -> DriveRow:
        member, row = self._members[slot], proposed or self._pool.db.drives.row(slot)
        if row is None:
            raise StalledError(f"drive {slot} is not in the drive table")
        return structs.replace(
            row, state=member.state, reason=member.reason, in_w=False, since_ns=member.since_ns,
            confirmed_epoch=self._pool.writer.epoch, confirmed_seq=self._pool.seq,
        )  # fmt: skip

    def _compose(self, commit: Commit, patchset: bytes, outcome: Outcome) -> None:
        pool = self._pool
        last = commit.records[-1][0].head if commit.records else None
        record = compose(
            COMMIT, pool.pool_id, pool.writer.epoch, last.seq + 1 if last else commit.seq,
            bytes.fromhex(pool.writer.nonce), last.hash if last else pool.hash, pool.seq,
            schema_hash()[:16], patchset, outcome_to_json(outcome),
        )  # fmt: skip
        commit.records.append((record, outcome))
        commit.appended[record.head.hash] = {}

    async def _append(self, commit: Commit) -> None:
        """Every record on all targets, in order; a drive that fails here leaves W by one more record, and one that
        is back enters it by one."""
        self._compose_late(commit)
        while True:
            for record, _ in commit.records:
                await self._append_one(commit, record)
            if not self._compose_late(commit) and not self._compose_leaving(commit):
                return

    def _compose_late(self, commit: Commit) -> bool:
        """One more record for drives that came back after the first was composed."""
        outcome, commit.late = commit.late, None
        if outcome is None:
            return False
        self._add_leaving_after(commit, outcome)
        self._compose(commit, b"", outcome)
        return True

    def _compose_leaving(self, commit: Commit) -> bool:
        if not self._not_yet_out(commit):
            return False
        self._need(commit)
        outcome = Outcome()
        self._add_leaving_after(commit, outcome)
        self._compose(commit, b"", outcome)
        return True

    async def _append_one(self, commit: Commit, record: Record) -> None:
        appended = commit.appended[record.head.hash]
        while True:
            targets = self._need(commit)
            if all(appended.get(member.slot) == member.incarnation for member in targets):
                return
            await self._appender.append(record, targets, appended)

    def _targets(self, commit: Commit) -> list[Member]:
        """Who must have shards and records: W ∩ up, and the drives that this very commit puts into W."""
        rows = self._in_w_after(commit)
        return [m for m in self._members.up() if m.in_w or (m.slot in rows and rows[m.slot].in_w)]

    def _in_w_after(self, commit: Commit) -> dict[int, DriveRow]:
        """The rows that the commit leaves behind for the slots it names."""
        outcomes = [outcome for _, outcome in commit.records] or [commit.outcome]
        return {row.slot: row for outcome in outcomes for row in outcome.drives}

    def _not_yet_out(self, commit: Commit) -> list[int]:
        rows = self._in_w_after(commit)
        return [
            member.slot
            for member in self._members
            if not member.up and (rows[member.slot].in_w if member.slot in rows else member.in_w)
        ]

    def _add_leaving_after(self, commit: Commit, outcome: Outcome) -> None:
        rows = self._in_w_after(commit)
        entering = {row.slot for row in outcome.drives if self._members[row.slot].up}
        leaving = [slot for slot in self._not_yet_out(commit) if slot not in entering]
        outcome.drives = [row for row in outcome.drives if row.slot in entering]
        outcome.drives += [self._row_out(slot, rows.get(slot)) for slot in leaving]
        self._doubt(commit, outcome, leaving)

    def _doubt(self, commit: Commit, outcome: Outcome, leaving: list[int]) -> None:
        """These fail with records of this commit already composed, and need not show them when they are back: an older
        copy, from just before, would be counted on for whatever the records say is there (R11)."""
        earlier = [each for _, each in commit.records]
        stripes = {row[0] for each in earlier for row in each.stripes}
        for slot in leaving:
            repaired = {stripe for each in earlier for stripe, where in each.present if where == slot}
            outcome.missing += [(stripe, slot) for stripe in sorted(stripes | repaired)]
            if any(slot in each.gaps for each in earlier):
                outcome.gaps[slot] = self._pool.all_unknown(slot)

    # ---- acknowledge: one synchronous step --------------------------------------------------------------

    def _acknowledge(self, commit: Commit) -> None:
        pool = self._pool
        for record, outcome in commit.records:
            pool.db.apply_outcome(outcome, record.head.seq)
            pool.seq, pool.hash = record.head.seq, record.head.hash
            pool.journal_bytes += record.head.framed_length
            for row in outcome.drives:
                self._apply_row(row)
        self._let_go(commit)

    def _let_go(self, commit: Commit) -> None:
        """Payloads leave memory, but for what a drive still lacks (R5)."""
        dead, ledger = set(commit.dead), self._pool.db.ledger
        for stripe in commit.stripes:
            whole = all(stripe.holds(member.slot, member.incarnation) for member in self._members)
            self._sealed.committed(stripe, short=not whole and stripe.id not in dead)
        for stripe_id in dead:
            self._sealed.let_go(stripe_id)
        for stripe_id in {stripe_id for _, outcome in commit.records for stripe_id, _ in outcome.present}:
            if self._sealed.is_kept(stripe_id) and not ledger.missing_slots(stripe_id):
                self._sealed.let_go(stripe_id)

    def _apply_row(self, row: DriveRow) -> None:
        member = self._members[row.slot]
        member.in_w = row.in_w
        member.drive_id = row.drive_id
        member.confirmed = (row.confirmed_epoch, row.confirmed_seq)
        member.location = row.location
        if member.up:
            self._members.set_state(row.slot, row.state, row.reason)


def _merge(ours: Outcome, more: Outcome) -> None:
    ours.missing += more.missing
    ours.present += more.present
    ours.removed += more.removed
    ours.retired += more.retired
    ours.gaps.update(more.gaps)
    ours.settings.update(more.settings)
    if more.orphan_shards is not None:
        ours.orphan_shards = {**(ours.orphan_shards or {}), **more.orphan_shards}
    changed = {row.slot for row in more.drives}
    ours.drives = [row for row in ours.drives if row.slot not in changed] + more.drives
