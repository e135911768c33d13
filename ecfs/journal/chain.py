"""Which records are history: pure verdicts over what was found on the drives (R1, R9).

History is the chain of prev-hashes from the tail, the record with the greatest (epoch, seq), back to the record
that a checkpoint names. A link that nobody has is a gap, and a gap refuses: history is never cut short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ecfs.errors import HistoryGapError
from ecfs.journal.record import OPEN, RecordHead


@dataclass(frozen=True)
class Base:
    """Where a replay starts: a checkpoint's last record."""

    epoch: int
    seq: int
    hash: bytes


def choose_tail(heads: Iterable[RecordHead], base: Base) -> Base:
    """The newest record anywhere, or the checkpoint's own if none is newer."""
    tail = base
    for head in heads:
        if head.position > (tail.epoch, tail.seq):
            tail = Base(head.epoch, head.seq, head.hash)
    return tail


def walk(by_hash: Mapping[bytes, RecordHead], tail: Base, base: Base) -> list[RecordHead]:
    """The records after `base` up to `tail`, oldest first. Raises HistoryGapError when a link is missing.

    The walk stops at the base's hash. Meeting a record older than the base without having met it means that
    the base itself is not on this chain, which no order of writes can produce.
    """
    chain: list[RecordHead] = []
    wanted = tail.hash
    while wanted != base.hash:
        head = by_hash.get(wanted)
        if head is None or head.seq <= base.seq:
            raise HistoryGapError(_gap_text(chain, tail, base))
        chain.append(head)
        wanted = head.prev
    chain.reverse()
    return chain


def newest_whole(by_hash: Mapping[bytes, RecordHead], base: Base) -> list[RecordHead]:
    """The chain of the newest record from which every link back to the base is there; empty if only the base is.
    For a user who accepts that later commits, though proven, are lost."""
    for head in sorted(by_hash.values(), key=lambda each: each.position, reverse=True):
        try:
            return walk(by_hash, Base(head.epoch, head.seq, head.hash), base)
        except HistoryGapError:
            continue
    return []


def openings(by_hash: Mapping[bytes, RecordHead]) -> list[RecordHead]:
    """The open records that the newest record builds upon, as far back as records hang together."""
    history: list[RecordHead] = []
    head = max(by_hash.values(), key=lambda each: each.position, default=None)
    while head is not None:
        history.append(head)
        head = by_hash.get(head.prev)
    return [head for head in history if head.kind == OPEN]


def _gap_text(chain: list[RecordHead], tail: Base, base: Base) -> str:
    known = chain[-1].seq if chain else tail.seq + 1
    return (
        f"commit {known - 1} is missing on every drive that is here, but commit {tail.seq} proves that it existed"
        f" (the checkpoint reaches up to commit {base.seq})"
    )
