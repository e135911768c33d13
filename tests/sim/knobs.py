"""Limits that a history would never come to, turned down in some worlds: what is forgotten, cut or put off beyond them
happens after a few operations then, in any combination and together with everything else that goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import ModuleType

from ecfs.commit import readahead, reading, sealer
from ecfs.heal import drill, foretell, mend, repair, replace, scrub_stripes
from ecfs.journal import eventlog, history, record, segments
from ecfs.meta import snapshot

KNOBS: list[tuple[ModuleType, str, int | float]] = [
    (readahead, "BLOCKS", 2),
    (readahead, "FILES", 1),
    (readahead, "WINDOW", 96 << 10),
    (reading, "FACTS_KEPT", 2),
    (reading, "STRIPES_AT_ONCE", 1),
    (sealer, "FILES", 1),
    (drill, "PAGE", 2),
    (foretell, "LONG_S", 30.0),
    (mend, "AT_ONCE", 1),
    (repair, "ASIDE_LIMIT", 1),
    (repair, "ASIDE_S", 5.0),
    (repair, "BATCH", 2),
    (repair, "QUICK_LIMIT", 1),
    (replace, "BATCH", 2),
    (scrub_stripes, "PAGE", 8),
    (scrub_stripes, "REMEMBERED", 2),
    (eventlog, "KEPT", 8),
    (history, "TOGETHER", 4 << 10),
    (record, "MAX_PART", 1 << 10),
    (segments, "SEGMENT_LIMIT", 8 << 10),
    (snapshot, "PAGES_PER_STEP", 1),
]
"""Module, name, and what it is turned down to. Formats are not changed by it: parts of a record may always be shorter
than the longest, within one world."""


@contextmanager
def turned(seed: int) -> Iterator[None]:
    """In half of the worlds, each knob as likely as not."""
    chance = Random(f"knobs {seed}")
    some = KNOBS if chance.random() < 0.5 else []
    before = [(module, name, getattr(module, name)) for module, name, _ in some]
    for module, name, value in some:
        if chance.random() < 0.5:
            setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
