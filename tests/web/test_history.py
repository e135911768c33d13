"""The plots' points: differences of totals, also where a counter begins anew."""

from __future__ import annotations

import itertools

from ecfs.histogram import Histogram
from ecfs.web.history import History, Ring, Totals, point


def buckets(*seconds: float) -> tuple[int, ...]:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    return tuple(histogram.buckets)


def totals(at: float, bytes_read: int = 0, written: int = 0, **requests: tuple[int, ...]) -> Totals:
    return Totals(at, int(at), bytes_read, written, requests, [buckets(0.001), ()])


def test_a_point_is_what_happened_between_two_moments() -> None:
    before = totals(10, 1000, 0, read=buckets(1.0))
    found = point(before, totals(12, 5000, 300, read=buckets(1.0, 0.01, 0.01), write=buckets(0.1)))
    assert (found["read"], found["write"], found["requests"]) == (2000, 150, 1.5)
    assert 0.005 < found["latency"]["read"] < 0.02  # the slow one was before
    assert found["latency"]["fsync"] is None
    assert found["drives"] == [None, None]


def test_a_counter_that_begins_anew_is_no_negative_rate() -> None:
    before = Totals(0, 0, 500, 500, {}, [buckets(0.1, 0.1), buckets(0.1)])
    found = point(before, Totals(2, 2, 0, 0, {}, [buckets(0.001), ()]))
    assert (found["read"], found["write"]) == (0, 0)
    assert found["drives"][0] < 0.01
    assert found["drives"][1] is None


def test_a_drive_that_joins_has_a_line_of_its_own_from_then_on() -> None:
    found = point(Totals(0, 0, 0, 0, {}, []), Totals(2, 2, 0, 0, {}, [buckets(0.5)]))
    assert found["drives"][0] is not None


def test_a_ring_takes_one_point_per_interval_whatever_it_is_offered() -> None:
    ring = Ring(2.0, 3)
    for tenth in range(200):
        ring.add(totals(tenth / 10))
    assert len(ring.after(0)) == 3
    seconds = [each["at"] for each in ring.after(0)]
    assert all(1 <= later - earlier <= 3 for earlier, later in itertools.pairwise(seconds))


def test_what_is_remembered_of_26_hours_is_bounded() -> None:
    history = History()
    for second in range(26 * 3600):
        history.add(totals(second))
    minutes, day = (history.rings[name].after(0) for name in ("minutes", "day"))
    assert (len(minutes), len(day)) == (300, 1440)
    assert [minutes[-1]["number"] - each["number"] for each in minutes[-3:]] == [2, 1, 0]
