"""A piece of one shard from a drive that is well: one request, its checksums, the answer.

`reading` keeps books about every block, of which a megabyte has sixteen. Here there is nothing to decide: the bytes are
all good and come in time, or the piece is read in blocks, which finds out, reports, and reads around what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio

from ecfs.errors import DriveError, FormatTooNewError
from ecfs.geometry import BLOCK_SIZE, Piece, blocks_covering
from ecfs.shard import Buffer
from ecfs.stripes.blocks import is_handed_out
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.reading import ReadContext

HELD_UP_S = 0.005
"""Time after a drive was late that somebody must have held up the event loop, so that it says nothing of the drive."""


async def read_straight(
    context: ReadContext, fact: StripeFact, pieces: Sequence[Piece], avoid: Collection[int]
) -> list[Buffer] | None:
    """The bytes of the piece, verified; None if it is better read in blocks. Never fails."""
    if len(pieces) != 1:
        return None
    piece, cache = pieces[0], context.cache
    source = context.source(fact, piece.index, avoid)
    rows = blocks_covering(piece.offset, piece.length)
    if source is None or any(cache.block(fact, piece.index, row) is not None for row in rows):
        return None
    late_at = trio.current_time() + context.hedge.patience(source.slot)
    with trio.move_on_at(late_at) as scope:
        try:
            fetched = await source.blocks(rows, cache.header(fact, piece.index))
        except (DriveError, FormatTooNewError):
            return None
    if scope.cancelled_caught:
        if trio.current_time() - late_at < HELD_UP_S:
            context.hedge.was_late(source.slot)  # so that the others are asked at once
        return None
    context.access.drive_answered(source.slot)
    context.hedge.answered(source.slot)
    cache.put_header(fact, fetched.header)
    if fetched.run is None:
        return None
    for row, data in fetched.blocks.items():
        if not is_handed_out(piece, row, len(data)):
            cache.put_block(fact, piece.index, row, data)
    start = piece.offset - rows.start * BLOCK_SIZE
    if start == 0 and piece.length == len(fetched.run):
        return [fetched.run]
    return [memoryview(fetched.run)[start : start + piece.length]]
