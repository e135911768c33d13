"""How much of history a drive shows, and which stripes that makes unknown (R11). Pure.

A record is history exactly if its epoch's nonce is the one that history names and it lies before the first record of
the next epoch: later ones are void (R1). So this needs no chain, and holds for records that were pruned long ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from ecfs.geometry import stripe_id
from ecfs.journal.record import RecordHead
from ecfs.journal.superblock import Superblock
from ecfs.meta import Gap

FIRST_ID = stripe_id(1, 0)
Epochs = Sequence[tuple[int, str, int]]
"""(epoch, nonce, first seq), ascending, as `meta.Drives.epochs` gives them."""


def shown_seq(epochs: Epochs, heads: Iterable[RecordHead], superblock: Superblock | None) -> int:
    """seq of the newest part of history that a drive's journal or superblock shows; 0 for none.

    Along one chain seq alone orders everything.
    """
    nonces = {epoch: nonce for epoch, nonce, _ in epochs}
    ends = {before[0]: after[2] for before, after in pairwise(epochs)}
    shown = [h.seq for h in heads if nonces.get(h.epoch) == h.nonce.hex() and h.seq < ends.get(h.epoch, h.seq + 1)]
    named = superblock.checkpoints if superblock is not None else []
    shown += [c.seq for c in named if c.epoch in nonces and c.seq < ends.get(c.epoch, c.seq + 1)]
    return max(shown, default=0)


def with_unknown(old: Sequence[Gap], low: int, high: int) -> list[Gap]:
    """A slot's gaps with ids [low, high) added as unknown; what is known missing stays so."""
    if low >= high:
        return list(old)
    result: list[Gap] = [(lo, min(hi, low), kind) for lo, hi, kind in old if lo < low]
    result += [(max(lo, high), hi, kind) for lo, hi, kind in old if hi > high]
    missing = [
        (max(lo, low), min(hi, high), kind) for lo, hi, kind in old if hi > low and lo < high and kind == "missing"
    ]
    edges = sorted([low, high, *(edge for lo, hi, _ in missing for edge in (lo, hi))])
    between: list[Gap] = [(lo, hi, "unknown") for lo, hi in zip(edges[::2], edges[1::2], strict=True) if lo < hi]
    return sorted([*result, *missing, *between])
