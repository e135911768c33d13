"""Hostile bytes: no parser raises what it must not, takes what is damaged, or fills memory."""

from __future__ import annotations

import tracemalloc

import pytest

from ecfs.errors import CorruptError
from tests.fuzz.mutate import inputs, run, try_one
from tests.fuzz.targets import TARGETS, Target, Wrong, expect

HEAP = 64 << 20


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_bytes_are_refused(target: Target) -> None:
    for seed in target.seeds:
        try_one(target, seed)
    counts = run(target, 1, seconds=1.5)
    assert counts.tried > 20


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_bytes_need_little_memory(target: Target) -> None:
    tracemalloc.start()
    try:
        for _, data in zip(range(30), inputs(target, 2), strict=False):
            tracemalloc.reset_peak()
            try_one(target, data)
            assert tracemalloc.get_traced_memory()[1] < HEAP
    finally:
        tracemalloc.stop()


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_bytes_are_refused_for_long(target: Target) -> None:
    assert run(target, 3, seconds=300).tried > 1000


def test_the_checks_can_say_no() -> None:
    def careless(data: bytes) -> None:
        if data[:1] == b"x":
            raise KeyError(data)
        expect(data[:1] != b"y", "taken")
        raise CorruptError("as it should")

    target = Target("careless", [b"a"], careless)
    assert not try_one(target, b"a")
    with pytest.raises(KeyError):
        try_one(target, b"x")
    with pytest.raises(Wrong):
        try_one(target, b"y")
