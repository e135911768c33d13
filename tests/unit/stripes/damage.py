"""Ways in which a shard goes bad."""

from __future__ import annotations

import itertools
from dataclasses import replace

from ecfs.geometry import block_count
from ecfs.shard import build_header, parse_header
from ecfs.stripes.fact import StripeFact
from ecfs.stripes.writer import encode_stripe
from tests.unit.stripes.fakes import POOL_ID, Pool, payload_of

BLOCK = 65536
DAMAGES = ["missing", "header", "every block", "cut off", "unplugged", "unreadable", "generation", "swapped"]


def damage(pool: Pool, fact: StripeFact, index: int, kind: str) -> None:
    """Make every block of shard `index` unusable."""
    drive = pool.drive_of(fact, index)
    if kind == "missing":
        del drive.shards[fact.key]
    elif kind == "header":
        pool.flip(fact, index, 70)
    elif kind == "every block":
        for number in range(block_count(fact.fragment_length)):
            pool.flip(fact, index, 4096 + number * BLOCK)
    elif kind == "cut off":
        drive.shards[fact.key] = drive.shards[fact.key][:4096]
    elif kind == "unplugged":
        drive.unplug()
    elif kind == "unreadable":
        pool.unreadable.add(drive.slot)
    elif kind == "generation":
        other = encode_stripe(POOL_ID, fact.id, "s", fact.geometry, payload_of(fact.length, "other"))
        drive.shards[fact.key] = b"".join(other.buffers(index))
    elif kind == "swapped":
        right = pool.encode(payload_of(fact.length))
        drive.shards[fact.key] = b"".join(right.buffers((index + 1) % fact.geometry.n))
    else:
        raise AssertionError(kind)


def subsets_up_to(n: int, m: int) -> list[tuple[int, ...]]:
    return [lost for count in range(m + 1) for lost in itertools.combinations(range(n), count)]


def lying_parity(pool: Pool, fact: StripeFact, index: int) -> None:
    """Store a parity shard that is sound in itself but was computed from something else."""
    other = encode_stripe(POOL_ID, fact.id, "s", fact.geometry, payload_of(fact.length, "other"))
    header = replace(parse_header(other.headers[index]), content_hash=fact.content_hash)
    pool.drive_of(fact, index).shards[fact.key] = build_header(header) + b"".join(other.fragments[index])
