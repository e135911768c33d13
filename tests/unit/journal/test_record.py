"""One damaged record never hides those behind it (R9), and what users store in one is never taken for a record."""

from __future__ import annotations

import hashlib

import pytest

from ecfs.errors import CorruptError
from ecfs.journal.record import (
    COMMIT,
    GENESIS,
    HEADER_LENGTH,
    MAGIC,
    MAX_PART,
    Flaw,
    Found,
    compose,
    frame,
    parse_part,
    parse_record,
    scan,
)

POOL = bytes(range(16))


def framed(seq: int, patchset: bytes = b"rows", prev: bytes = GENESIS) -> bytes:
    return frame(compose(COMMIT, POOL, 3, seq, POOL, prev, seq - 1, POOL, patchset, b"{}"))


def seqs(segment: bytes) -> list[int | str]:
    """Sequence numbers, "torn" and "damaged", in order."""
    found = scan(segment, POOL, 3)
    return [each.head.seq if isinstance(each, Found) else "torn" if each.torn else "damaged" for each in found]


THREE = [framed(1), framed(2, bytes(range(256)) * 20), framed(3)]


@pytest.mark.parametrize("at", [0, 7, 8, 30, 100, 144, 223, 224, 255, 256, 3000, -1])
def test_a_flipped_bit_costs_one_record(at: int) -> None:
    second = bytearray(THREE[1])
    second[at] ^= 1
    assert seqs(THREE[0] + bytes(second) + THREE[2]) == [1, "damaged", 3]


@pytest.mark.parametrize("left", [1, 100, 255, 256, 257, 3000])
def test_a_torn_last_record_costs_itself(left: int) -> None:
    """Nothing ever follows one in its segment (R20)."""
    assert seqs(THREE[0] + THREE[1][:left]) == [1, "torn"]


def test_zeros_in_the_middle_are_skipped() -> None:
    assert seqs(THREE[0] + bytes(len(THREE[1])) + THREE[2]) == [1, "damaged", 3]


def test_a_record_within_a_record_is_none() -> None:
    hidden = framed(9)
    outer = bytearray(framed(2, b"before" + hidden + b"after"))
    assert seqs(THREE[0] + bytes(outer) + THREE[2]) == [1, 2, 3]
    outer[HEADER_LENGTH] ^= 1  # its body is damaged, and skipped by its length all the same
    assert seqs(THREE[0] + bytes(outer) + THREE[2]) == [1, "damaged", 3]
    assert MAGIC in bytes(outer)[HEADER_LENGTH:]


def test_of_a_record_in_parts_all_must_be_there() -> None:
    large = framed(2, bytes(MAX_PART + 5000))
    assert seqs(THREE[0] + large + THREE[2]) == [1, 2, 3]
    assert seqs(THREE[0] + large[: HEADER_LENGTH + MAX_PART] + THREE[2]) == [1, "damaged", 3]
    assert seqs(THREE[0] + large[: HEADER_LENGTH + MAX_PART + 300]) == [1, "torn"]


def test_records_of_another_pool_or_a_later_epoch_are_damage() -> None:
    assert [isinstance(each, Flaw) for each in scan(THREE[0], bytes(16), 3)] == [True]
    assert [isinstance(each, Flaw) for each in scan(THREE[0], POOL, 2)] == [True]


def test_a_body_that_was_exchanged_with_its_checksum_fails_the_hash_of_all() -> None:
    one, other = framed(2, b"rows"), framed(2, b"ROWS")
    head = parse_part(one[:HEADER_LENGTH]).head
    parse_record(one, head)
    fields = one[:148] + other[148:152] + one[152:224]  # the other body's checksum under the first one's hash
    header = fields + hashlib.blake2b(fields, digest_size=32).digest()
    with pytest.raises(CorruptError, match="does not match its hash"):
        parse_record(header + other[HEADER_LENGTH:], head)
