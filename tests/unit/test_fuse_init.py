"""INIT between kernel and libfuse: what is read out of it, and what is put in."""

from __future__ import annotations

import os
import struct

from ecfs.fuse_init import HANDLE_KILLPRIV_V2, Introduction, flags_offered, with_flags


def request(opcode: int, flags: int) -> bytes:
    """fuse_in_header and fuse_init_in."""
    return struct.pack("<IIQQIIII", 104, opcode, 2, 0, 0, 0, 0, 0) + struct.pack("<IIII48x", 7, 45, 131072, flags)


def answer(error: int = 0) -> bytes:
    """fuse_out_header and fuse_init_out."""
    body = struct.pack("<IIIIHHIII32x", 7, 38, 131072, 0x40000009, 12, 9, 1 << 20, 1, 256)
    return struct.pack("<IiQ", 16 + len(body), error, 2) + body


def test_what_the_kernel_offers_is_read() -> None:
    assert flags_offered(request(26, 0x53FFFFFB)) == 0x53FFFFFB


def test_another_request_offers_nothing() -> None:
    assert flags_offered(request(1, 0x53FFFFFB)) == 0
    assert flags_offered(b"short") == 0


def test_a_flag_is_added_and_nothing_else_changes() -> None:
    changed = with_flags(answer(), HANDLE_KILLPRIV_V2)
    assert struct.unpack_from("<I", changed, 28)[0] == 0x50000009
    assert changed[:28] == answer()[:28]
    assert changed[32:] == answer()[32:]


def test_a_refusal_stays_one() -> None:
    refusal = struct.pack("<IiQ", 16, -71, 2)
    assert with_flags(refusal, HANDLE_KILLPRIV_V2) == refusal
    assert with_flags(answer(-71), HANDLE_KILLPRIV_V2) == answer(-71)


def test_what_is_no_session_of_the_kernel_is_left_alone() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    assert Introduction.begin(reading) is None
    assert os.read(reading, 2) == b"x"
    os.close(reading)
    os.close(writing)
