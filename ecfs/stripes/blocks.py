"""The verified blocks that one read has together so far, and the bytes it hands out in the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ecfs.geometry import BLOCK_SIZE, Piece, blocks_covering
from ecfs.shard import Buffer
from ecfs.stripes.cache import StripeCache
from ecfs.stripes.fact import StripeFact

STREAM = 4 * BLOCK_SIZE
"""Bytes of one shard from which a read counts as part of a stream."""


def is_handed_out(piece: Piece, row: int, length: int) -> bool:
    """Whether a stream hands out the whole block, of `length` bytes. Then it is not cached: the kernel does that, and a
    long file would only drive out blocks of which somebody wants another part."""
    start = row * BLOCK_SIZE
    inside = piece.offset <= start and start + length <= piece.offset + piece.length
    return inside and piece.length >= STREAM


class Blocks:
    """Blocks of one stripe, by shard index and row. Only what was verified may be put in."""

    def __init__(self, cache: StripeCache, fact: StripeFact, pieces: Sequence[Piece]) -> None:
        self._cache = cache
        self._fact = fact
        self._streamed = [piece for piece in pieces if piece.length >= STREAM]
        self._here: dict[tuple[int, int], Buffer] = {}
        self._runs: dict[Piece, Buffer] = {}

    def get(self, index: int, row: int) -> Buffer | None:
        """A block that this read has, or that an earlier one left in the cache."""
        block = self._here.get((index, row))
        if block is None:
            block = self._cache.block(self._fact, index, row)
            if block is not None:
                self._here[index, row] = block
        return block

    def put(self, index: int, row: int, data: Buffer) -> None:
        """Keep a block, and cache it unless it goes to the kernel whole."""
        self._here[index, row] = data
        if not any(piece.index == index and is_handed_out(piece, row, len(data)) for piece in self._streamed):
            self._cache.put_block(self._fact, index, row, data)

    def put_run(self, index: int, row: int, data: Buffer) -> None:
        """Consecutive blocks from `row` on, all of which were put, as one object that need not be copied together."""
        self._runs[Piece(index, row * BLOCK_SIZE, len(data))] = data

    def joined(self, index: int, rows: Sequence[int]) -> bytes:
        """Blocks that are here, one after the other."""
        return b"".join(self._here[index, row] for row in rows)

    def answer(self, pieces: Iterable[Piece]) -> list[Buffer]:
        """The bytes of pieces that were asked for, as consecutive buffers. All of their blocks must be here."""
        return [buffer for piece in pieces for buffer in self._cut(piece)]

    def _cut(self, piece: Piece) -> list[Buffer]:
        if piece in self._runs:
            return [self._runs[piece]]
        end = piece.offset + piece.length
        buffers: list[Buffer] = []
        for row in blocks_covering(piece.offset, piece.length):
            start = row * BLOCK_SIZE
            block = self._here[piece.index, row]
            inner = slice(max(0, piece.offset - start), min(len(block), end - start))
            whole = inner == slice(0, len(block))
            buffers.append(block if whole else memoryview(block)[inner])
        return buffers
