"""A piece of one shard from a drive that is well: one request, its checksums, the answer.

`reading` keeps books about every block, of which a megabyte has sixteen. Here there is nothing to decide: the bytes are
all good and come in time, or the piece is read in blocks, around what is wrong. What was wrong is told from here, since
the second request may well be answered as it should.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio

from ecfs.errors import DriveError, FormatTooNewError, ShardCorruptError, ShardMissingError
from ecfs.geometry import BLOCK_SIZE, Piece, blocks_covering
from ecfs.shard import Buffer
from ecfs.stripes.blocks import is_handed_out
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.fetch import Fetched, Source
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
    if not context.access.latency_p95(source.slot):
        return None  # given up as late, its answers would never teach anybody how fast it is
    fetched = await _fetch(context, source, rows)
    if fetched is None:
        return None
    cache.put_header(fact, fetched.header)
    for row, data in fetched.blocks.items():
        if fetched.run is None or not is_handed_out(piece, row, len(data)):
            cache.put_block(fact, piece.index, row, data)
    if fetched.run is None:
        return None
    start = piece.offset - rows.start * BLOCK_SIZE
    if start == 0 and piece.length == len(fetched.run):
        return [fetched.run]
    return [memoryview(fetched.run)[start : start + piece.length]]


async def _fetch(context: ReadContext, source: Source, rows: Sequence[int]) -> Fetched | None:
    """What the drive answers in time; None if it does not. Damage and failures are told."""
    fact, slot = source.fact, source.slot
    late_at = trio.current_time() + context.hedge.patience(slot)
    with trio.move_on_at(late_at) as scope:
        try:
            fetched = await source.blocks(rows, context.cache.header(fact, source.index))
        except FormatTooNewError:
            return None
        except (ShardMissingError, ShardCorruptError) as error:
            context.bad.report(fact.id, slot, error)
            return None
        except DriveError as error:
            context.access.drive_failed(slot, error)
            context.hedge.was_late(slot)  # else it is asked again at once, and may take as long again
            return None
    if scope.cancelled_caught:
        if trio.current_time() - late_at < HELD_UP_S:
            context.hedge.was_late(slot)  # so that the others are asked at once
        return None
    context.access.drive_answered(slot)
    context.hedge.answered(slot)
    if fetched.flaw is not None:
        context.bad.report(fact.id, slot, fetched.flaw)
    return fetched
