"""The verdict, for every pattern of shards."""

from __future__ import annotations

import itertools

import pytest

from ecfs.stripes.verdict import MAX_SUBSETS, Mark, judge, subsets

SHAPES = [(2, 1), (4, 2), (8, 3)]


@pytest.mark.parametrize(("k", "n"), [(2, 3), (3, 5), (4, 6)])
def test_every_pattern_of_marks(k, n):
    order = [*range(1, n), 0]
    for marks in itertools.product(Mark, repeat=n):
        verdict = judge(k, marks, order)
        good = [index for index in order if marks[index] is Mark.GOOD]
        in_time = len(good) + marks.count(Mark.ASKED)
        unasked = [index for index in order if marks[index] is Mark.UNASKED]
        assert verdict.lost == (n - marks.count(Mark.BAD) < k)
        assert verdict.sources == (tuple(good[:k]) if len(good) >= k else ())
        if verdict.lost or verdict.sources:
            assert verdict.ask == ()
        else:
            assert verdict.ask == tuple(unasked[: max(0, k - in_time)])
            assert verdict.ask or Mark.ASKED in marks or Mark.LATE in marks, "nobody would ever end this wait"


@pytest.mark.parametrize(("k", "m"), SHAPES)
def test_asking_as_told_finds_k_shards_whenever_there_are_k(k, m):
    n = k + m
    for there in itertools.product([True, False], repeat=n):
        marks = [Mark.UNASKED] * n
        while not (verdict := judge(k, marks, range(n))).sources and not verdict.lost:
            assert verdict.ask
            for index in verdict.ask:
                marks[index] = Mark.GOOD if there[index] else Mark.BAD
        assert bool(verdict.sources) == (sum(there) >= k)
        assert all(there[index] for index in verdict.sources)
        assert marks.count(Mark.GOOD) <= k, "asked more than was needed"


def test_late_shards_count_when_they_answer_but_are_not_relied_on():
    late = [Mark.GOOD, Mark.LATE, Mark.LATE]
    assert not judge(2, late, range(3)).lost
    assert judge(2, [Mark.GOOD, Mark.LATE, Mark.UNASKED], range(3)).ask == (2,)


def test_the_order_of_preference_is_kept():
    assert judge(2, [Mark.GOOD] * 4, [3, 1, 0, 2]).sources == (3, 1)
    assert judge(2, [Mark.UNASKED] * 4, [3, 1, 0, 2]).ask == (3, 1)


def test_every_subset_is_tried_for_all_usual_shapes():
    for k, m in SHAPES:
        tried = list(subsets(k, range(k + m)))
        assert len(tried) == len(set(tried)) <= MAX_SUBSETS
        assert tried == list(itertools.combinations(range(k + m), k))


def test_the_number_of_subsets_is_bounded():
    assert len(list(subsets(17, range(32)))) == MAX_SUBSETS
