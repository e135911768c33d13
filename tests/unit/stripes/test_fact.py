"""A stripe's row judges a shard's header: every field that differs makes it a shard of something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ecfs.errors import CorruptError
from ecfs.geometry import Geometry
from ecfs.shard import parse_header
from tests.unit.stripes.fakes import POOL_ID, Pool, payload_of

ENCODED = Pool().encode(payload_of(300_000))
FACT = ENCODED.fact
HEADER = parse_header(ENCODED.headers[2])


def test_the_right_header_is_accepted():
    FACT.check_header(HEADER, POOL_ID, 2)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"pool_id": b"another pool's i"}, "pool"),
        ({"stripe_id": FACT.id + 1}, "stripe"),
        ({"space": "c"}, "key space"),
        ({"content_hash": bytes(32)}, "content"),
        ({"index": 3}, "index"),
        ({"geometry_id": 2}, "geometry"),
        ({"k": 5}, "geometry"),
        ({"m": 1}, "geometry"),
        ({"payload_length": 299_999}, "length"),
    ],
)
def test_a_header_of_something_else_is_refused(changes, what):
    with pytest.raises(CorruptError, match=f"another {what}"):
        FACT.check_header(replace(HEADER, **changes), POOL_ID, 2)


def test_slots_rotate_with_the_counter():
    assert [FACT.slot_of(index) for index in range(6)] == [1, 2, 3, 4, 5, 0]
    assert [FACT.index_of(slot) for slot in range(6)] == [5, 0, 1, 2, 3, 4]
    assert FACT.key == "s/00000001/00000007"


def test_lengths():
    fact = replace(FACT, geometry=Geometry(1, 4, 2), length=4 * 65536 + 1)
    assert fact.fragment_length == 65537
