"""The drive table at an opening: who is in W from now on, who is out, who lags behind history (R5, R11).

Pure judgement over what the opening found; nothing here talks to a drive.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from ecfs.geometry import stripe_id
from ecfs.journal.opened import OpenedPool
from ecfs.journal.shown import FIRST_ID, shown_seq, with_unknown
from ecfs.journal.state import Opening, need_k
from ecfs.meta import DriveRow, Gap, Outcome
from ecfs.pool.identity import Identity
from ecfs.pool.judge import Sight

END_OF_IDS = stripe_id((1 << 31) - 1, 0)


def open_outcome(opening: Opening, pool: OpenedPool) -> Outcome:
    rows: list[DriveRow] = []
    gaps: dict[int, list[Gap]] = {}
    for row in _rows(opening, pool):
        slot = row.slot
        if row.in_w and _rolled_back(opening, pool, slot):
            first = _first_unknown(opening, pool, slot)
            gaps[slot] = with_unknown(pool.db.ledger.gaps(slot), first, stripe_id(pool.writer.epoch, 0))
        elif not row.in_w and (uncertain := _uncertain(opening, pool, slot)):
            gaps[slot] = uncertain
        rows.append(row)
    epoch = (pool.writer.epoch, pool.writer.nonce, pool.seq + 1)
    settings = {"quarantine": quarantined(opening, pool)} if opening.quarantine is not None else {}
    return Outcome(drives=rows, gaps=gaps, epoch=epoch, settings=settings)


def quarantined(opening: Opening, pool: OpenedPool) -> list[dict[str, int]]:
    """Every stretch of history that was given up, this opening's included."""
    earlier = pool.db.drives.setting("quarantine") or []
    return [*earlier, opening.quarantine] if opening.quarantine is not None else earlier


def _rows(opening: Opening, pool: OpenedPool) -> list[DriveRow]:
    """The drive table as of now: who is here is in W (its journal was just completed), who is not is out."""
    return [judged_row(opening, pool, row) for row in judged_table(opening, pool)]


def judged_table(opening: Opening, pool: OpenedPool) -> list[DriveRow]:
    """The committed table; a drive that it does not know, or that lived on elsewhere, is turned away first (R11)."""
    rows = [_where_it_is_looked_for(opening, pool, row) for row in pool.db.drives.rows()]
    for row in rows:
        sight = opening.chosen.get(row.slot)
        if sight is not None and sight.identity is not None:
            reason = why_wrong(pool, row, sight.identity)
            if reason and not _was_given_up(opening, pool, row, sight.identity):
                opening.chosen.pop(row.slot)
                at = next(i for i, other in enumerate(opening.sights) if other is sight)
                opening.sights[at] = replace(sight, state="wrong", reason=reason)
                pool.members.take_down(row.slot, "wrong", reason)
    need_k(opening, "belong to the pool")
    return rows


def _where_it_is_looked_for(opening: Opening, pool: OpenedPool, row: DriveRow) -> DriveRow:
    """The row of an absent drive with the place that the pool file lists for its slot, if it lists the old one no more.

    A pool that was moved as a whole would else be shown, and recreated, at the path it came from.
    """
    if row.slot in opening.chosen or any(sight.drive.url == row.url for sight in opening.sights):
        return row
    for sight in opening.sights:
        if sight.drive.slot == row.slot and not sight.is_member:
            return structs.replace(row, url=sight.drive.url)
    return row


def why_wrong(pool: OpenedPool, row: DriveRow, identity: Identity) -> str:
    """Why a drive of this pool may not take its slot; "" if it may (R7, R11)."""
    if identity.drive_id != row.drive_id:
        retired = pool.db.drives.is_retired(identity.drive_id)
        return "was replaced and may not come back" if retired else "is not the drive that belongs in this slot"
    if identity.epoch and pool.db.drives.epoch_nonce(identity.epoch) != identity.nonce:
        return "diverged: it was mounted elsewhere, apart from this pool"
    return ""


def _was_given_up(opening: Opening, pool: OpenedPool, row: DriveRow, identity: Identity) -> bool:
    """Its identity is of an epoch that the user gives up with this opening."""
    given_up = opening.quarantine
    if given_up is None or identity.drive_id != row.drive_id:
        return False
    return identity.epoch <= given_up["epoch"] and pool.db.drives.epoch_nonce(identity.epoch) is None


def judged_row(opening: Opening, pool: OpenedPool, row: DriveRow) -> DriveRow:
    here = row.slot in opening.chosen
    if here:
        state = "behind" if pool.db.ledger.next_missing(row.slot, 0, 1) else "online"
        member = pool.members[row.slot]
        return structs.replace(
            row, url=member.url, state=state, in_w=True, reason="", since_ns=_since(pool, row, state)
        )
    sight = _sight_of(opening, row)
    state = sight.state if sight is not None and sight.state in ("wrong", "joining") else "absent"
    reason = sight.reason if sight is not None else "not found"
    confirmed = _confirmed(pool, row) if row.in_w else (row.confirmed_epoch, row.confirmed_seq)
    return structs.replace(
        row, state=state, in_w=False, reason=reason, confirmed_epoch=confirmed[0], confirmed_seq=confirmed[1],
        since_ns=_since(pool, row, state),
    )  # fmt: skip


def _sight_of(opening: Opening, row: DriveRow) -> Sight | None:
    """The place where the table expects the drive, or one that says it is this slot."""
    for sight in opening.sights:
        if sight.identity is not None and sight.identity.slot == row.slot:
            return sight
    return next((sight for sight in opening.sights if sight.drive.url == row.url), None)


def _since(pool: OpenedPool, row: DriveRow, state: str) -> int:
    return row.since_ns if row.state == state else pool.clock.wall_ns()


def _confirmed(pool: OpenedPool, row: DriveRow) -> tuple[int, int]:
    """It was in W up to the tail, so it has everything before the tail's commit; the tail itself is not certain, unless
    a checkpoint was made of it."""
    certain = pool.seq == pool.checkpoints[0].seq
    return (pool.writer.epoch - 1, pool.seq if certain else max(pool.seq - 1, 0))


def _uncertain(opening: Opening, pool: OpenedPool, slot: int) -> list[Gap]:
    """Gaps of a drive that was in W and is not here: what the tail says it has. It need not show the tail's record when
    it comes back, so nothing would tell an older copy of it, from just before that commit, from the drive itself (R11).
    """
    row, tail = pool.db.drives.row(slot), opening.outcomes.get(pool.seq)
    if row is None or not row.in_w or tail is None:
        return []
    gaps = pool.db.ledger.gaps(slot)
    if slot in tail.gaps:  # repairs of stripes of any age
        return with_unknown(gaps, FIRST_ID, stripe_id(pool.writer.epoch, 0))
    new = {stripe[0] for stripe in tail.stripes} | {stripe for stripe, where in tail.present if where == slot}
    for stripe in sorted(new):
        gaps = with_unknown(gaps, stripe, stripe + 1)
    return gaps if new else []


def _held(opening: Opening, pool: OpenedPool, slot: int) -> int:
    """seq of the newest part of history that a drive shows by itself."""
    identity = opening.chosen[slot].identity
    heads = opening.collected.own(slot, identity.epoch if identity is not None else 0)
    return shown_seq(pool.db.drives.epochs(), heads, opening.superblocks.get(slot))


def _rolled_back(opening: Opening, pool: OpenedPool, slot: int) -> bool:
    """R11: does the drive show less than what it once confirmed, or than W had?"""
    row = pool.db.drives.row(slot)
    tail = opening.chain[-1].seq if opening.chain else pool.checkpoints[0].seq
    return row is None or _held(opening, pool, slot) < (tail if row.in_w else row.confirmed_seq)


def _first_unknown(opening: Opening, pool: OpenedPool, slot: int) -> int:
    """The lowest stripe id that the drive may not have although the records say it has."""
    seq = _held(opening, pool, slot)
    later = [outcome for at, outcome in opening.outcomes.items() if at > seq]
    if seq < pool.checkpoints[0].seq or any(slot in outcome.gaps for outcome in later):
        # The records that would tell are gone, or repairs of stripes of any age came after what the drive shows.
        return FIRST_ID
    stripes = [row[0] for outcome in later for row in outcome.stripes]
    repaired = [stripe for outcome in later for stripe, where in outcome.present if where == slot]
    return min([*stripes, *repaired], default=END_OF_IDS)
