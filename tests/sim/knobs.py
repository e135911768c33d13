"""Limits that a history would never come to, turned down in some worlds: what is forgotten, cut or put off beyond them
happens after a few operations then, in any combination and together with everything else that goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import ModuleType

from ecfs import geometry, shard
from ecfs.commit import readahead, sealer
from ecfs.commit import reading as file_reading
from ecfs.heal import drill, foretell, mend, repair, replace, scrub, scrub_orphans, scrub_stripes
from ecfs.journal import eventlog, history, record, segments
from ecfs.meta import snapshot
from ecfs.stripes import blocks, fetch, reader, reading, straight, whole

Knob = tuple[str, int | float, tuple[ModuleType, ...]]
KNOBS: list[Knob] = [
    ("BATCH", 2, (repair,)),
    ("BATCH", 2, (replace,)),
    ("BATCH", 2, (scrub,)),
    ("BLOCKS", 2, (readahead,)),
    ("BLOCK_SIZE", 4 << 10, (geometry, shard, blocks, fetch, reader, reading, straight, readahead)),
    ("STREAM", 16 << 10, (blocks, whole)),
    ("FILES", 1, (readahead,)),
    ("FILES", 1, (sealer,)),
    ("WINDOW", 96 << 10, (readahead,)),
    ("FACTS_KEPT", 2, (file_reading,)),
    ("STRIPES_AT_ONCE", 1, (file_reading,)),
    ("AT_ONCE", 1, (mend,)),
    ("ASIDE_LIMIT", 1, (repair,)),
    ("ASIDE_S", 5.0, (repair,)),
    ("QUICK_LIMIT", 1, (repair,)),
    ("LONG_S", 5.0, (foretell,)),
    ("WINDOW_S", 2.0, (foretell,)),
    ("PAGE", 2, (drill,)),
    ("PAGE", 8, (scrub_stripes,)),
    ("REMEMBERED", 2, (scrub_stripes,)),
    ("BREATH", 3, (scrub_orphans,)),
    ("SAVE_S", 0.5, (drill, replace, scrub)),
    ("KEPT", 8, (eventlog,)),
    ("TOGETHER", 1 << 10, (history,)),
    ("MAX_PART", 1 << 10, (record,)),
    ("SEGMENT_LIMIT", 4 << 10, (segments,)),
    ("PAGES_PER_STEP", 1, (snapshot,)),
]
"""Name, what it is turned down to, and the modules that know it. Where that changes what is written, as with blocks and
parts of records, it does so for the whole life of a world."""


@contextmanager
def turned(seed: int) -> Iterator[None]:
    """In half of the worlds, each knob as likely as not."""
    chance = Random(f"knobs {seed}")
    some = KNOBS if chance.random() < 0.5 else []
    before = [(module, name, getattr(module, name)) for name, _, modules in some for module in modules]
    try:
        for name, value, modules in some:
            if chance.random() < 0.5:
                for module in modules:
                    setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
