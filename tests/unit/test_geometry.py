"""Geometry: every place of every payload byte, checked against the definition."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecfs.errors import UsageError
from ecfs.geometry import (
    BLOCK_SIZE,
    Geometry,
    block_count,
    blocks_covering,
    counter_of,
    epoch_of,
    stripe_id,
)

SHAPES = [(2, 1), (3, 2), (4, 2), (8, 3), (17, 15)]


@pytest.mark.parametrize(("k", "m"), SHAPES)
def test_slot_and_index_are_inverse_and_every_slot_gets_one_shard(k, m):
    geometry = Geometry(1, k, m)
    for number in (*range(3 * geometry.n), (1 << 32) - 1):
        slots = [geometry.slot_of(number, index) for index in range(geometry.n)]
        assert sorted(slots) == list(range(geometry.n))
        assert [geometry.index_of(number, slot) for slot in slots] == list(range(geometry.n))


def test_rotation_gives_every_slot_every_index_equally_often():
    geometry = Geometry(1, 4, 2)
    for slot in range(6):
        assert sorted(geometry.index_of(number, slot) for number in range(6)) == list(range(6))


def test_index_of_a_slot_is_what_the_format_document_says():
    geometry = Geometry(1, 4, 2)
    assert geometry.index_of(7, 0) == (0 - 7) % 6 == 5


def test_only_geometries_with_more_data_than_parity_on_at_most_32_drives_exist():
    for k, m in itertools.product(range(-1, 36), repeat=2):
        if m >= 1 and k > m and k + m <= 32:
            assert Geometry(1, k, m).n == k + m
        else:
            with pytest.raises(UsageError, match="for example --data 4 --parity 2"):
                Geometry(1, k, m)


@pytest.mark.parametrize("k", [2, 3, 4, 8])
def test_pieces_hold_exactly_the_bytes_asked_for_whatever_the_range(k):
    geometry = Geometry(1, k, 1)
    for length in range(1, 3 * k + 2):
        fragment = geometry.fragment_length(length)
        place_of = [divmod(position, fragment) for position in range(length)]
        for start in range(length + 1):
            for end in range(start, length + 1):
                pieces = list(geometry.pieces(start, end - start, length))
                places = [(p.index, p.offset + i) for p in pieces for i in range(p.length)]
                assert places == place_of[start:end]
                assert all(piece.length > 0 and piece.index < k for piece in pieces)
                assert len({piece.index for piece in pieces}) == len(pieces)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (0, 11), (10, 1), (11, 0)])
def test_pieces_outside_of_the_stripe_are_refused(offset, length):
    with pytest.raises(ValueError, match="outside a stripe of 10 bytes"):
        list(Geometry(1, 4, 2).pieces(offset, length, 10))


@pytest.mark.parametrize("k", [2, 3, 4, 8])
def test_k_fragments_hold_the_payload_with_less_than_k_bytes_of_padding(k):
    for length in range(1, 200):
        assert 0 <= k * Geometry(1, k, 1).fragment_length(length) - length < k


@pytest.mark.parametrize(
    ("length", "count"),
    [(1, 1), (BLOCK_SIZE - 1, 1), (BLOCK_SIZE, 1), (BLOCK_SIZE + 1, 2), (16 * BLOCK_SIZE, 16), (0, 0)],
)
def test_block_count(length, count):
    assert block_count(length) == count


@given(st.integers(0, 10 * BLOCK_SIZE), st.integers(1, 3 * BLOCK_SIZE))
def test_covering_blocks_are_those_that_share_a_byte_with_the_range(offset, length):
    covering = blocks_covering(offset, length)
    for number in range(15):
        shares = number * BLOCK_SIZE < offset + length and offset < (number + 1) * BLOCK_SIZE
        assert (number in covering) == shares


@given(st.integers(1, (1 << 31) - 1), st.integers(0, (1 << 32) - 1))
def test_stripe_id_keeps_epoch_and_counter(epoch, counter):
    stripe = stripe_id(epoch, counter)
    assert (epoch_of(stripe), counter_of(stripe)) == (epoch, counter)
    assert 0 < stripe < 1 << 63  # SQLite keeps it as it is


@pytest.mark.parametrize(("epoch", "counter"), [(0, 1), (-1, 0), (1 << 31, 0), (1, -1), (1, 1 << 32)])
def test_stripe_id_out_of_range_is_refused(epoch, counter):
    with pytest.raises(ValueError, match="out of range"):
        stripe_id(epoch, counter)
