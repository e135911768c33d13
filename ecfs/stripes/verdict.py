"""Is this set of shards enough, and whom to ask next? Pure; `tests/unit/stripes/test_verdict.py` tries every pattern.

The verdict is about one row (the same block of all n shards) or about whole shards: the question is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

MAX_SUBSETS = 256
"""How many sets of k are tried when verified shards contradict each other; 8+3 has 165, 4+2 has 15."""


class Mark(Enum):
    """What is known of one shard."""

    UNASKED = "not asked yet"
    ASKED = "asked, in time"
    LATE = "asked, answers later than it should"
    GOOD = "here and verified"
    BAD = "missing, damaged or not reachable"


@dataclass(frozen=True)
class Verdict:
    """sources: k indexes to decode from, empty if there are not k yet. ask: indexes to ask now.
    lost: not even all answers still open could make k."""

    sources: tuple[int, ...]
    ask: tuple[int, ...]
    lost: bool


def judge(k: int, marks: Sequence[Mark], order: Sequence[int]) -> Verdict:
    """What to do about a row whose shard i is `marks[i]`, when k of them are needed.

    order: all indexes, the ones to be preferred first. Late shards still count if they answer, but nobody relies on
    them: for each that is missing to k, another one is asked.
    """
    good = tuple(index for index in order if marks[index] is Mark.GOOD)
    if len(good) >= k:
        return Verdict(good[:k], (), False)
    deficit = k - len(good) - marks.count(Mark.ASKED)
    unasked = tuple(index for index in order if marks[index] is Mark.UNASKED)
    lost = marks.count(Mark.BAD) > len(marks) - k
    return Verdict((), () if lost else unasked[: max(0, deficit)], lost)


def subsets(k: int, good: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Sets of k of the `good` indexes, the preferred ones first; a bounded number of them."""
    return itertools.islice(itertools.combinations(good, k), MAX_SUBSETS)
