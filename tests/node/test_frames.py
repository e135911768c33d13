"""Bulk data in and out of messages: the same bytes as protobuf, whatever arrives."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc import frames
from ecfs.rpc.limits import MAX_MESSAGE


@given(st.text(max_size=20), st.integers(0, 2**63), st.booleans(), st.lists(st.binary(max_size=300), max_size=4))
def test_a_frame_is_what_protobuf_would_have_written(
    key: str, length: int, replace: bool, buffers: list[bytes]
) -> None:
    message = pb.PutRequest(key=key, length=length, replace=replace)
    frame = frames.join(message, buffers)
    understood = pb.PutRequest.FromString(frame)
    assert (understood.key, understood.length, understood.data) == (key, length, b"".join(buffers))
    again, data = frames.split(pb.PutRequest, frame)
    assert again == message
    assert bytes(data) == b"".join(buffers)


@given(st.text(max_size=20), st.binary(max_size=300))
def test_what_protobuf_writes_is_understood(key: str, data: bytes) -> None:
    message, found = frames.split(pb.PutRequest, pb.PutRequest(key=key, data=data).SerializeToString())
    assert (message.key, bytes(found)) == (key, data)


def test_fields_in_any_order_are_understood() -> None:
    frame = pb.PutRequest(data=b"bytes").SerializeToString() + pb.PutRequest(key="k").SerializeToString()
    message, data = frames.split(pb.PutRequest, frame)
    assert (message.key, bytes(data)) == ("k", b"bytes")


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(frame: bytes) -> None:
    try:
        message, data = frames.split(pb.PutRequest, frame)
    except frames.FrameError:
        return
    assert len(data) <= len(frame)
    assert isinstance(message.key, str)


def test_a_message_of_nothing_but_tiny_fields_takes_no_time() -> None:
    frame = b"\x18\x00" * (MAX_MESSAGE // 2 - 5) + b"\x18\x07\x7a\x01x"
    began = time.process_time()
    message, data = frames.split(pb.AppendRequest, frame)
    assert time.process_time() - began < 0.3
    assert (message.offset, bytes(data)) == (7, b"x")


@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(1, 40))
def test_pieces_are_the_whole_and_none_is_too_large(buffers: list[bytes], size: int) -> None:
    groups = list(frames.pieces(buffers, size))
    assert b"".join(b"".join(group) for group in groups) == b"".join(buffers)
    assert all(sum(map(len, group)) <= size for group in groups)
    assert len(groups) == max(1, -(-sum(map(len, buffers)) // size))


def test_an_assembly_takes_what_was_announced_and_nothing_else() -> None:
    assembly = frames.Assembly(5)
    assembly.add(memoryview(b"abc"))
    with pytest.raises(frames.FrameError, match="2 bytes less"):
        assembly.finish()
    with pytest.raises(frames.FrameError, match="more data"):
        assembly.add(memoryview(b"def"))
    whole = frames.Assembly(0)
    whole.add(memoryview(b""))
    assert whole.finish() == []


@given(st.lists(st.binary(max_size=9), max_size=5), st.integers(1, 7))
def test_ranges_are_cut_out_of_any_pieces(ranges: list[bytes], size: int) -> None:
    whole = memoryview(b"".join(ranges))
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert frames.divide(pieces, list(map(len, ranges))) == ranges


def test_a_small_piece_does_not_keep_all_that_came_in_memory() -> None:
    whole = memoryview(bytes(range(200)))
    large, small = frames.divide([whole], [150, 50])
    assert isinstance(large, memoryview)
    assert isinstance(small, bytes)
    assert bytes(large) + small == whole
