"""The caches stay below their limits, whatever is put in."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ecfs.shard import parse_header
from ecfs.stripes.cache import StripeCache, StripeLru
from tests.unit.stripes.fakes import Pool, payload_of

ENCODED = Pool().encode(payload_of(300_000))
FACT = ENCODED.fact


def key(stripe: int, number: int = 0) -> tuple[int, bytes, int, int]:
    return (stripe, b"hash", 0, number)


def test_what_was_used_longest_ago_is_forgotten_first():
    lru: StripeLru[str] = StripeLru(3 * 1000)
    for stripe in range(3):
        lru.put(key(stripe), f"value {stripe}", 200)
    assert lru.get(key(0)) == "value 0"
    lru.put(key(3), "value 3", 200)
    assert [lru.get(key(stripe)) for stripe in range(4)] == ["value 0", None, "value 2", "value 3"]


def test_what_is_larger_than_the_limit_is_not_kept_and_pushes_nothing_out():
    lru: StripeLru[str] = StripeLru(2000)
    lru.put(key(1), "small", 10)
    lru.put(key(2), "large", 2000)
    assert lru.get(key(1)) == "small"
    assert lru.get(key(2)) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "get", "forget"]), st.integers(0, 4), st.integers(0, 3), st.integers(0, 4000)
        ),
        max_size=60,
    )
)
def test_the_limit_holds_and_the_count_is_right_after_any_history(history):
    lru: StripeLru[int] = StripeLru(6000)
    for what, stripe, number, size in history:
        if what == "put":
            lru.put(key(stripe, number), size, size)
        elif what == "get":
            lru.get(key(stripe, number))
        else:
            lru.forget(stripe)
        assert lru.used == sum(entry.cost for entry in lru._entries.values()) <= lru.limit
        assert {k for keys in lru._of_stripe.values() for k in keys} == set(lru._entries)
        assert all(lru._of_stripe.values())


def test_tiny_blocks_cost_what_they_take():
    cache = StripeCache(block_bytes=100_000)
    for number in range(1000):
        cache.put_block(FACT, 0, number, b"x")
    assert len(cache.blocks) <= 125


def test_a_block_is_copied_so_that_it_keeps_nothing_else_alive():
    cache = StripeCache()
    run = bytearray(b"block one block two")
    cache.put_block(FACT, 0, 0, memoryview(run)[:9])
    run[:] = bytes(len(run))
    assert cache.block(FACT, 0, 0) == b"block one"


def test_another_generation_of_a_stripe_hits_nothing():
    cache = StripeCache()
    cache.put_block(FACT, 1, 0, b"data")
    cache.put_header(FACT, parse_header(ENCODED.headers[1]))
    other = replace(FACT, content_hash=bytes(32))
    assert cache.block(other, 1, 0) is None
    assert cache.header(other, 1) is None
    assert cache.block(FACT, 1, 0) == b"data"
    assert cache.header(FACT, 1) == parse_header(ENCODED.headers[1])


def test_forget_drops_one_stripe_and_no_other():
    cache = StripeCache()
    other = replace(FACT, id=FACT.id + 1)
    for fact in (FACT, other):
        cache.put_block(fact, 1, 0, b"data")
        cache.put_header(fact, parse_header(ENCODED.headers[1]))
    cache.forget(FACT.id)
    assert (cache.block(FACT, 1, 0), cache.header(FACT, 1)) == (None, None)
    assert cache.block(other, 1, 0) == b"data"
    assert cache.header(other, 1) is not None
