"""Sealed text: whatever is not exactly what was written is damage; only what a newer ecfs sealed is newer."""

from __future__ import annotations

import pytest

from ecfs.errors import CorruptError, FormatTooNewError
from ecfs.pool.identity import Identity, decode_identity, encode_identity
from ecfs.pool.sealed import FORMAT, seal_body

IDENTITY = Identity("00" * 16, "11" * 16, 3, "member", 4, 2, 7, "22" * 16)


def test_what_was_sealed_is_read() -> None:
    assert decode_identity(encode_identity(IDENTITY)) == IDENTITY


def test_every_wrong_bit_is_damage_also_in_the_format_number() -> None:
    """Were "1" with one wrong bit, a "3", taken for a newer format, one drive that answers wrongly once would have the
    whole pool refused."""
    sealed = encode_identity(IDENTITY)
    for bit in range(8 * len(sealed)):
        wrong = bytearray(sealed)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptError):
            decode_identity(bytes(wrong))


def test_what_a_newer_ecfs_sealed_is_newer() -> None:
    with pytest.raises(FormatTooNewError, match="use a newer ecfs"):
        decode_identity(seal_body(b"identity", FORMAT + 1, b'{"something":"new"}'))
