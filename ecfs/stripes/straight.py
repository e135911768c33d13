"""A long piece of one shard, read in order from a drive that is well: one request, its checksums, the answer.

`reading` keeps books about every block, of which a megabyte has sixteen. Here there is nothing to decide: the bytes are
all good and come in time, or the piece is read in blocks, which finds out, reports, and reads around what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio

from ecfs.errors import DriveError, FormatTooNewError
from ecfs.geometry import BLOCK_SIZE, Piece, blocks_covering
from ecfs.shard import Buffer
from ecfs.stripes.blocks import STREAM
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.fetch import Source
from ecfs.stripes.reading import ReadContext

HELD_UP_S = 0.005
"""Time after a drive was late that somebody must have held up the event loop, so that it says nothing of the drive."""


async def read_straight(
    context: ReadContext, fact: StripeFact, pieces: Sequence[Piece], avoid: Collection[int]
) -> list[Buffer] | None:
    """The bytes of the piece, verified; None if it is better read in blocks. Never fails."""
    if len(pieces) != 1 or not _is_whole_blocks(fact, pieces[0]):
        return None
    piece, cached = pieces[0], context.cache.block
    source = _source(context, fact, piece.index, avoid)
    rows = blocks_covering(piece.offset, piece.length)
    if source is None or any(cached(fact, piece.index, row) is not None for row in rows):
        return None
    late_at = trio.current_time() + context.hedge.patience(source.slot)
    with trio.move_on_at(late_at) as scope:
        header = context.cache.header(fact, piece.index)
        try:
            fetched = await source.blocks(rows, header)
        except (DriveError, FormatTooNewError):
            return None
        context.access.drive_answered(source.slot)
        context.hedge.answered(source.slot)
        context.cache.put_header(fact, fetched.header)
        return None if fetched.run is None else [fetched.run]
    if scope.cancelled_caught and trio.current_time() - late_at < HELD_UP_S:
        context.hedge.was_late(source.slot)  # so that the others are asked at once
    return None


def _is_whole_blocks(fact: StripeFact, piece: Piece) -> bool:
    """Whether the piece is part of a stream and has nothing of which somebody will want the rest."""
    end = piece.offset + piece.length
    ends_well = end % BLOCK_SIZE == 0 or end == fact.fragment_length
    return piece.length >= STREAM and piece.offset % BLOCK_SIZE == 0 and ends_well


def _source(context: ReadContext, fact: StripeFact, index: int, avoid: Collection[int]) -> Source | None:
    """The shard, if there is no reason not to ask its drive."""
    slot = fact.slot_of(index)
    drive = context.access.readable(slot)
    known_bad = slot in avoid or context.bad.is_known(fact.id, slot)
    if drive is None or known_bad or context.hedge.is_shunned(slot):
        return None
    return Source(drive, fact, context.pool_id, slot)
