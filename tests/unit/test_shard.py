"""The bytes of a shard: what is built can be parsed, and no changed byte anywhere passes as sound."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecfs.drive.base import check_key
from ecfs.errors import CorruptError, FormatTooNewError
from ecfs.geometry import BLOCK_SIZE, stripe_id
from ecfs.shard import (
    DATA_OFFSET,
    HEADER_LENGTH,
    MAX_BLOCKS,
    ShardHeader,
    block_crcs,
    build_header,
    check_block,
    content_hash,
    crc32,
    parse_header,
    parse_key,
    shard_key,
    verify_shard,
)

FRAGMENT_HEADER = bytes(range(80))


def make_shard(length: int = 3 * BLOCK_SIZE + 77, **changes) -> tuple[ShardHeader, bytes]:
    """A shard of `length` data bytes and its header."""
    data = bytes(i * 7 % 256 for i in range(256)) * (length // 256 + 1)
    data = data[:length]
    header = ShardHeader(
        pool_id=b"sixteen byte id!",
        space="s",
        index=5,
        k=4,
        m=2,
        geometry_id=9,
        stripe_id=stripe_id(3, 17),
        payload_length=4 * length - 1,
        fragment_length=length,
        content_hash=hashlib.sha256(data).digest(),
        fragment_header_crc=zlib.crc32(FRAGMENT_HEADER),
        block_crcs=block_crcs(data),
    )
    header = replace(header, **changes)
    return header, build_header(header) + FRAGMENT_HEADER + data


HEADER, SHARD = make_shard()


def rehashed(shard: bytes) -> bytes:
    """The shard with a header hash that fits to its changed header."""
    body = shard[: HEADER_LENGTH - 32]
    return body + hashlib.blake2b(body, digest_size=32).digest() + shard[HEADER_LENGTH:]


def patched(offset: int, field: bytes, shard: bytes = SHARD) -> bytes:
    """The shard with other bytes in its header, and a hash that fits to them."""
    return rehashed(shard[:offset] + field + shard[offset + len(field) :])


# ---- round trip -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 65535, 65536, 65537, 1 << 20])
@pytest.mark.parametrize("space", ["s", "c"])
def test_what_is_built_can_be_verified(length, space):
    header, shard = make_shard(length, space=space)
    assert len(shard) == DATA_OFFSET + length == header.file_length
    assert verify_shard(shard) == header
    assert parse_header(shard[:HEADER_LENGTH]) == header
    assert verify_shard(bytearray(shard)) == verify_shard(memoryview(shard)) == header


def test_the_bytes_lie_where_the_format_document_says():
    assert SHARD[:8] == b"ECFSHARD"
    assert struct.unpack_from("<HHI", SHARD, 8) == (1, 0, 4016)
    assert SHARD[16:32] == b"sixteen byte id!"
    assert SHARD[32:36] == b"s\x05\x04\x02"
    assert struct.unpack_from("<IQQII", SHARD, 36) == (9, 3 << 32 | 17, HEADER.payload_length, 3 * 65536 + 77, 65536)
    assert SHARD[64:96] == HEADER.content_hash
    assert SHARD[96:112] == b"isa_l_rs_cauchy\0"
    assert struct.unpack_from("<II", SHARD, 112) == (zlib.crc32(FRAGMENT_HEADER), 4)
    assert struct.unpack_from("<4I", SHARD, 120)[3] == zlib.crc32(SHARD[-77:])
    assert not any(SHARD[136:3984])
    assert SHARD[3984:4016] == hashlib.blake2b(SHARD[:3984], digest_size=32).digest()


def test_content_hash_is_what_the_format_document_says():
    plain = b"ecfs stripe 1" + struct.pack("<QI", 1000, 2) + struct.pack("<4I", 1, 2, 3, 0xFFFFFFFF)
    assert content_hash(1000, 2, [[1, 2], [3, 0xFFFFFFFF]]) == hashlib.blake2b(plain, digest_size=32).digest()


@given(st.binary(max_size=3000))
def test_crc_is_the_one_of_the_standard_library(data):
    assert crc32(data) == zlib.crc32(data)


def test_as_many_blocks_as_a_header_can_hold():
    crcs = tuple(range(MAX_BLOCKS))
    header, _ = make_shard(1)
    full = replace(header, fragment_length=MAX_BLOCKS * BLOCK_SIZE, payload_length=4 * MAX_BLOCKS * BLOCK_SIZE)
    full = replace(full, block_crcs=crcs)
    assert parse_header(build_header(full)) == full
    longer = replace(full, fragment_length=full.fragment_length + 1, payload_length=full.payload_length + 1)
    with pytest.raises(ValueError, match="967 blocks"):
        build_header(replace(longer, block_crcs=(*crcs, 1)))


# ---- damage -----------------------------------------------------------------------------------------------


@given(st.integers(0, len(SHARD) - 1), st.integers(1, 255))
def test_no_changed_byte_passes(position, change):
    damaged = bytearray(SHARD)
    damaged[position] ^= change
    with pytest.raises(CorruptError):
        verify_shard(damaged)


def test_no_changed_bit_of_the_headers_passes():
    header, shard = make_shard(100)
    assert verify_shard(shard) == header
    for bit in range(8 * len(shard)):
        damaged = bytearray(shard)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError):
            verify_shard(damaged)


@given(st.integers(0, len(SHARD) - 1))
def test_no_cut_off_shard_passes(length):
    with pytest.raises(CorruptError):
        verify_shard(SHARD[:length])


@given(st.sampled_from([77, 2 * BLOCK_SIZE]), st.binary(min_size=1, max_size=100))
def test_no_longer_shard_passes_also_not_one_that_ends_with_a_full_block(length, tail):
    _, shard = make_shard(length)
    with pytest.raises(CorruptError, match=r"shard has .* bytes instead of"):
        verify_shard(shard + tail)


@given(st.binary(max_size=5000))
def test_any_bytes_are_corrupt_and_nothing_worse(data):
    with pytest.raises(CorruptError):
        verify_shard(data)


@given(st.integers(8, 3983), st.binary(min_size=1, max_size=8))
def test_a_header_with_a_right_hash_is_never_worse_than_corrupt(offset, field):
    """Whoever can compute the hash may write anything: it must parse, or be corrupt or too new."""
    try:
        header = parse_header(patched(offset, field[: 3984 - offset])[:HEADER_LENGTH])
    except (CorruptError, FormatTooNewError):
        return
    assert build_header(header) == patched(offset, field[: 3984 - offset])[:HEADER_LENGTH]


@pytest.mark.parametrize(
    ("offset", "field"),
    [
        (8, struct.pack("<H", 0)),  # format
        (10, b"\1"),  # flags
        (12, struct.pack("<I", 4096)),  # header length
        (32, b"x"),  # key space
        (32, b"\xff"),
        (33, b"\6"),  # index of 4+2
        (34, b"\2"),  # k = m
        (34, b"\0"),
        (35, b"\0"),  # m
        (35, b"\x1f"),  # more than 32 drives
        (40, struct.pack("<Q", 17)),  # epoch 0
        (40, struct.pack("<Q", 1 << 63)),
        (48, struct.pack("<Q", 0)),  # payload length
        (48, struct.pack("<Q", HEADER.payload_length + 2)),
        (56, struct.pack("<I", HEADER.fragment_length + 1)),
        (60, struct.pack("<I", 4096)),  # block size
        (96, b"isa_l_rs_vand\0\0"),  # another code
        (116, struct.pack("<I", 3)),  # blocks
        (116, struct.pack("<I", 5)),
        (116, struct.pack("<I", MAX_BLOCKS + 1)),
        (116, struct.pack("<I", 0xFFFFFFFF)),
        (136, b"\1"),  # behind the last checksum
        (3983, b"\1"),
    ],
)
def test_contradicting_fields_are_corrupt_even_with_a_right_hash(offset, field):
    with pytest.raises(CorruptError):
        parse_header(patched(offset, field))


def test_a_newer_format_is_too_new_and_not_corrupt():
    """Healing must not "repair" what a newer ecfs wrote."""
    with pytest.raises(FormatTooNewError, match="format 2"):
        parse_header(patched(8, struct.pack("<H", 2)))


def test_a_rotten_format_field_is_damage_and_not_a_newer_format():
    with pytest.raises(CorruptError, match="hash"):
        parse_header(SHARD[:8] + struct.pack("<H", 2) + SHARD[10:])


@pytest.mark.parametrize(("number", "size"), [(-1, BLOCK_SIZE), (4, 77), (0, BLOCK_SIZE - 1), (3, 76), (3, BLOCK_SIZE)])
def test_a_block_of_wrong_number_or_size_is_corrupt(number, size):
    with pytest.raises(CorruptError):
        check_block(HEADER, number, bytes(size))


def test_a_block_is_bound_to_its_number():
    data = memoryview(SHARD)[DATA_OFFSET:]
    check_block(HEADER, 3, data[3 * BLOCK_SIZE :])
    _, other = make_shard(3 * BLOCK_SIZE + 77, space="c")
    swapped = bytearray(other[DATA_OFFSET:])
    swapped[0] ^= 1
    with pytest.raises(CorruptError, match="block 0 fails"):
        check_block(HEADER, 0, swapped[:BLOCK_SIZE])


@pytest.mark.parametrize(
    "changes",
    [
        {"pool_id": b"short"},
        {"space": "j"},
        {"space": ""},
        {"index": 6},
        {"index": -1},
        {"stripe_id": 17},
        {"stripe_id": -1},
        {"payload_length": 0},
        {"content_hash": b""},
        {"block_crcs": ()},
    ],
)
def test_an_impossible_header_is_never_built(changes):
    with pytest.raises(ValueError, match="not a possible shard"):
        make_shard(**changes)


# ---- keys -------------------------------------------------------------------------------------------------


@given(st.sampled_from("sc"), st.integers(1, (1 << 31) - 1), st.integers(0, (1 << 32) - 1))
def test_keys_are_valid_and_lead_back(space, epoch, counter):
    stripe = stripe_id(epoch, counter)
    key = shard_key(space, stripe)
    assert check_key(key) == key
    assert parse_key(key) == (space, stripe)


def test_keys_look_as_the_format_document_says():
    assert shard_key("s", stripe_id(0x1A, 0xFF)) == "s/0000001a/000000ff"
    assert shard_key("c", stripe_id(0x1A, 0xFF)) == "c/0000001a.000000ff"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "s/0000001a.000000ff",
        "c/0000001a/000000ff",
        "s/0000001A/000000ff",
        "s/0000001a/000000f",
        "s/0000001a/000000ff\n",
        "s/00000000/000000ff",
        "s/80000000/000000ff",
        "j/0000001a.000001",
        "s/0000001a/0000000١",
        " s/0000001a/000000ff",
    ],
)
def test_what_is_not_a_shards_key_is_refused(key):
    with pytest.raises(CorruptError):
        parse_key(key)


@pytest.mark.parametrize(("space", "stripe"), [("j", 1 << 32), ("s", 5), ("s", 1 << 63), ("", 1 << 32)])
def test_no_key_is_made_for_an_impossible_stripe(space, stripe):
    with pytest.raises(ValueError, match=r"key space|out of range"):
        shard_key(space, stripe)
