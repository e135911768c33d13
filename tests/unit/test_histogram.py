"""Durations in powers of two: nothing is lost, and a percentile is never off by more than its bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecfs.histogram import BUCKETS, Histogram, bound, quantile


@given(st.lists(st.floats(0, 1e7, allow_nan=False), max_size=50))
def test_every_duration_is_counted_once_where_it_belongs(durations: list[float]) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    assert histogram.count == len(durations)
    assert histogram.seconds == pytest.approx(sum(durations))
    for bucket in range(BUCKETS - 1):  # what Prometheus is told: as many as this lasted at most so long
        assert sum(histogram.buckets[: bucket + 1]) == sum(int(each * 1e6) < 2**bucket for each in durations)


def test_a_percentile_lies_in_the_bucket_of_the_true_one() -> None:
    histogram = Histogram()
    for milliseconds in range(1, 101):
        histogram.add(milliseconds / 1000)
    for share in (0.5, 0.95, 0.99, 1.0):
        found = quantile(histogram.buckets, share)
        assert found is not None
        assert share * 0.1 / 2 <= found <= share * 0.1 * 2
    assert quantile([0] * BUCKETS, 0.5) is None


def test_durations_that_are_short_or_endless() -> None:
    histogram = Histogram()
    histogram.add(0.0)
    histogram.add(1e9)
    assert histogram.buckets[0] == histogram.buckets[-1] == 1
    assert quantile([1, *[0] * (BUCKETS - 1)], 0.5) == bound(0) / 2
