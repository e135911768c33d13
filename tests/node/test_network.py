"""Nodes with addresses of their own: pulled cables, lost packets, delay, partitions. Minutes, and root: `make soak`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.conftest import tree as tree
from tests.mount.real import Pool, assert_same, call
from tests.node.network import Network
from tests.node.network import six as six
from tests.node.workers import Worker, report, working

pytestmark = [pytest.mark.mount, pytest.mark.soak, pytest.mark.timeout(600)]


def check_all(pool: Pool, workers: list[Worker]) -> None:
    """Nothing is wrong anywhere, and what was acknowledged is there after everything was forgotten."""
    print(report(workers))
    assert "nothing was wrong" in pool.ecfs("scrub", "--no-progress", "mnt")
    pool.remount()
    for worker in workers:
        assert worker.acknowledged
        worker.check()


Weather = Callable[[Network], None]
SURVIVED: dict[str, tuple[Weather, Weather]] = {
    "two cables": (lambda net: net.pull(1, 4), lambda net: net.plug(1, 4)),
    "partition from two": (lambda net: net.part(0, 3), lambda net: net.join()),
    "a third of the packets lost": (lambda net: net.drop(3, 30), lambda net: net.clear(3)),
    "200 ms delay": (lambda net: net.delay(0.2), lambda net: net.delay(0)),
}
"""How bad weather begins, and how it ends."""


@pytest.mark.parametrize("weather", SURVIVED)
def test_up_to_two_nodes_in_bad_weather_cost_no_error(six: tuple[Pool, Network], weather: str, tree: Path) -> None:
    pool, net = six
    begin, end = SURVIVED[weather]
    with working(pool) as workers:
        time.sleep(3)
        begin(net)
        call("cp", "-a", tree, pool.mnt / "during")
        time.sleep(15)
        assert_same(tree, pool.mnt / "during")
        end(net)
        pool.until_healthy()
    assert [worker.errors for worker in workers] == [[], [], []]
    check_all(pool, workers)
    assert_same(tree, pool.mnt / "during")


def test_one_cable_after_the_other(six: tuple[Pool, Network]) -> None:
    """The second one while the first is still being waited for: the worst case for a program."""
    pool, net = six
    with working(pool) as workers:
        time.sleep(3)
        net.pull(1)
        time.sleep(1)
        net.pull(4)
        time.sleep(15)
        net.plug(1, 4)
        pool.until_healthy()
    assert [worker.errors for worker in workers] == [[], [], []]
    check_all(pool, workers)


REFUSED: dict[str, tuple[Weather, Weather]] = {
    "three cables": (lambda net: net.pull(0, 2, 5), lambda net: net.plug(0, 2, 5)),
    "partition from three": (lambda net: net.part(0, 2, 5), lambda net: net.join()),
}


@pytest.mark.parametrize("weather", REFUSED)
def test_three_nodes_out_refuse_changes_and_lose_nothing(six: tuple[Pool, Network], weather: str, tree: Path) -> None:
    pool, net = six
    begin, end = REFUSED[weather]
    with working(pool) as workers:
        time.sleep(3)
        begin(net)
        time.sleep(20)
        assert all(clean(error) for worker in workers for error in worker.errors)
        assert any(worker.errors for worker in workers)
        with contextlib.suppress(OSError):
            (pool.mnt / "refused").write_bytes(b"data")
        before = [len(worker.acknowledged) for worker in workers]
        end(net)
        pool.until_healthy()
        deadline = time.monotonic() + 60
        while any(len(w.acknowledged) <= count for w, count in zip(workers, before, strict=True)):
            assert time.monotonic() < deadline, f"work goes on by itself: {report(workers)}, {workers[-1].errors[-1:]}"
            time.sleep(0.5)
    check_all(pool, workers)
    call("cp", "-a", tree, pool.mnt / "afterwards")


def clean(error: Exception) -> bool:
    """What programs are told: EIO or EROFS, or what they make of it."""
    return not isinstance(error, OSError) or error.errno in (5, 30)
