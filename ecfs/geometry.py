"""Offset ↔ stripe ↔ shard arithmetic: pure, no I/O, exhaustively testable.

A stripe of ``length`` payload bytes is cut into k data fragments of ``ceil(length / k)`` bytes each,
in order, the last one padded with zeros; m parity fragments of the same size follow (index k … n-1).
The code is systematic, so payload byte p lies in fragment ``p // f`` at ``p % f`` (f = fragment length).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ecfs.errors import UsageError

BLOCK_SIZE = 64 * 1024
"""Bytes covered by one checksum; the smallest piece that is read and verified."""
FRAGMENT_HEADER = 80
"""Bytes that the erasure library puts before the data of each fragment. The codec proves it with each encoding."""

COUNTER_BITS = 32
MAX_DRIVES = 32


def stripe_id(epoch: int, counter: int) -> int:
    """Id of the `counter`-th stripe of an epoch. Never used twice, because epochs are not (R3)."""
    if not (0 < epoch < 1 << 31 and 0 <= counter < 1 << COUNTER_BITS):
        raise ValueError(f"stripe id out of range: epoch {epoch}, counter {counter}")
    return epoch << COUNTER_BITS | counter


def epoch_of(stripe: int) -> int:
    return stripe >> COUNTER_BITS


def counter_of(stripe: int) -> int:
    return stripe & (1 << COUNTER_BITS) - 1


@dataclass(frozen=True)
class Piece:
    """A run of payload bytes inside one data fragment. Offsets and lengths in bytes."""

    index: int
    offset: int
    length: int


@dataclass(frozen=True)
class Geometry:
    """How a stripe lies on the drives: k data and m parity shards over n = k + m slots.

    id names the geometry in every stripe and shard, so that a pool can later hold several.
    """

    id: int
    k: int
    m: int

    def __post_init__(self) -> None:
        if self.m < 1 or self.k <= self.m or self.k + self.m > MAX_DRIVES:
            # k > m: two openings of k drives each must share a drive, or a fence could miss (R2).
            raise UsageError(
                f"{self.k} data + {self.m} parity is not possible: "
                f"need parity >= 1, data > parity and at most {MAX_DRIVES} drives, for example --data 4 --parity 2"
            )

    @property
    def n(self) -> int:
        return self.k + self.m

    def slot_of(self, number: int, index: int) -> int:
        """Slot that holds shard `index` of stripe `number`; rotates so that reads use all drives."""
        return (index + number) % self.n

    def index_of(self, number: int, slot: int) -> int:
        """Shard index that slot `slot` holds of stripe `number`; inverse of `slot_of`."""
        return (slot - number) % self.n

    def fragment_length(self, length: int) -> int:
        """Bytes of each fragment of a stripe with `length` payload bytes."""
        return -(-length // self.k)

    def pieces(self, offset: int, length: int, stripe_length: int) -> Iterator[Piece]:
        """The runs of data fragments that hold payload bytes [offset, offset + length)."""
        if offset < 0 or length < 0 or offset + length > stripe_length:
            raise ValueError(f"[{offset}, +{length}) lies outside a stripe of {stripe_length} bytes")
        fragment = self.fragment_length(stripe_length)
        end = offset + length
        while offset < end:
            index, start = divmod(offset, fragment)
            run = min(fragment - start, end - offset)
            yield Piece(index, start, run)
            offset += run


def block_count(fragment_length: int) -> int:
    """How many checksummed blocks a fragment has."""
    return -(-fragment_length // BLOCK_SIZE)


def blocks_covering(offset: int, length: int) -> range:
    """Numbers of the blocks that hold fragment bytes [offset, offset + length), length > 0."""
    return range(offset // BLOCK_SIZE, (offset + length - 1) // BLOCK_SIZE + 1)
