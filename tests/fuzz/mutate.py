"""Byte mutations by a seeded generator, for where no coverage-guided fuzzer is installed, and for `make test`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tests.fuzz.targets import Target

INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
    b"\xff" * 8,
    b"[" * 50,
    b'"',
    b"\n",
)
SLOW_S = 5.0
"""No input of these sizes may take longer."""


def mutated(chance: Random, data: bytes, seeds: tuple[bytes, ...]) -> bytes:
    """A few small changes."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        _change(chance, changed, seeds)
    return bytes(changed)


def _change(chance: Random, data: bytearray, seeds: tuple[bytes, ...]) -> None:
    at = chance.randrange(len(data) + 1)
    # Headers are where the decisions are made.
    at = min(at, chance.choice([8, 64, 256, 4096, 1 << 30]))
    end = min(len(data), at + chance.choice([1, 2, 4, 8, 100]))
    match chance.randrange(8):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.randrange(256)
        case 2:
            del data[at:end]
        case 3:
            data[at:at] = chance.randbytes(end - at or 1)
        case 4:
            data[at:end] = chance.choice(INTERESTING)
        case 5:
            data[at:at] = data[at:end] * chance.choice([1, 2, 50])
        case 6:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at:end] = other[start : start + 64]
        case 7:
            del data[at:]


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """The seeds as they are, then changed ones for ever; half of them with their checksums made right again."""
    seeds = tuple(target.seeds)
    yield from seeds
    chance = Random(f"{target.name} {seed}")
    while True:
        data = mutated(chance, chance.choice(seeds), seeds)
        yield target.reseal(data) if chance.random() < 0.6 else data


@dataclass
class Counts:
    """taken: inputs that were valid all the same."""

    tried: int = 0
    taken: int = 0


def try_one(target: Target, data: bytes) -> bool:
    """True if the target took it. Raises whatever it must not raise."""
    began = time.monotonic()
    try:
        target.parse(data)
    except target.refuses:
        return False
    finally:
        taken = time.monotonic() - began
        if taken > SLOW_S:
            raise AssertionError(f"{len(data)} bytes took {taken:.1f} s")
    return True


def run(target: Target, seed: int, seconds: float, most: int = 1 << 60) -> Counts:
    """Until the time is over or `most` inputs are tried. A failure names the input."""
    counts, end = Counts(), time.monotonic() + seconds
    for data in inputs(target, seed):
        try:
            counts.taken += try_one(target, data)
        except Exception as error:
            error.add_note(f"target {target.name}, seed {seed}, input {counts.tried}: {data[:2000]!r}")
            raise
        counts.tried += 1
        if counts.tried >= most or time.monotonic() > end:
            break
    return counts
