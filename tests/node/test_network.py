"""Nodes with addresses of their own: pulled cables, lost packets, partitions. Minutes, and root: `make soak`."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.conftest import tree as tree
from tests.mount.real import Pool, assert_same, call
from tests.node.network import Network, is_root, pool_on_network

pytestmark = [pytest.mark.mount, pytest.mark.soak]


@pytest.fixture
def six(tmp_path: Path) -> Iterator[tuple[Pool, Network]]:
    if not is_root():
        pytest.skip("network namespaces need root")
    with pool_on_network(tmp_path) as made:
        yield made


def state(pool: Pool) -> str:
    return str(json.loads(pool.ecfs("status", "--json", "mnt", status=None))["state"])


def until(pool: Pool, wanted: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while state(pool) != wanted:
        assert time.monotonic() < deadline, pool.ecfs("status", "mnt", status=None)
        time.sleep(0.5)


class Writer(threading.Thread):
    """Writes and syncs small files; remembers which were acknowledged, what failed, and the longest wait."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.ending = threading.Event()
        self.acknowledged: list[int] = []
        self.errors: list[OSError] = []
        self.longest = 0.0

    def run(self) -> None:
        number = 0
        while not self.ending.is_set():
            number += 1
            began = time.monotonic()
            try:
                with (self.folder / f"f{number}").open("wb") as file:
                    file.write(body(number))
                    file.flush()
                    os.fsync(file.fileno())
                self.acknowledged.append(number)
            except OSError as error:
                self.errors.append(error)
                time.sleep(0.2)
            self.longest = max(self.longest, time.monotonic() - began)

    def check(self) -> None:
        """Nothing that was acknowledged is lost."""
        for number in self.acknowledged:
            assert (self.folder / f"f{number}").read_bytes() == body(number)


def body(number: int) -> bytes:
    return f"{number};".encode() * (100 if number % 7 else 60_000)


@contextlib.contextmanager
def writing(pool: Pool) -> Iterator[Writer]:
    writer = Writer(pool.mnt)
    writer.start()
    try:
        yield writer
    finally:
        writer.ending.set()
        writer.join(120)


def test_two_cables_out_cost_no_error_and_little_time(six: tuple[Pool, Network], tree: Path) -> None:
    pool, net = six
    with writing(pool) as writer:
        time.sleep(2)
        net.pull(1)
        call("cp", "-a", tree, pool.mnt / "during")
        net.pull(4)
        time.sleep(15)
        assert_same(tree, pool.mnt / "during")
        net.plug(1, 4)
        until(pool, "healthy")
    assert writer.errors == []
    print(f"longest wait: {writer.longest:.2f} s")
    assert writer.longest < 8
    assert "nothing was wrong" in pool.ecfs("scrub", "--no-progress", "mnt")
    pool.remount()
    writer.check()


def test_three_cables_out_refuse_changes_and_lose_nothing(six: tuple[Pool, Network]) -> None:
    pool, net = six
    with writing(pool) as writer:
        time.sleep(2)
        net.pull(0, 2, 5)
        time.sleep(20)
        assert writer.errors
        before = len(writer.acknowledged)
        net.plug(0, 2, 5)
        until(pool, "healthy", 120)
        time.sleep(3)
        assert len(writer.acknowledged) > before, "writing went on by itself"
    pool.remount()
    writer.check()
    assert "nothing was wrong" in pool.ecfs("scrub", "--no-progress", "mnt")


def test_a_third_of_one_nodes_packets_is_lost(six: tuple[Pool, Network], tree: Path) -> None:
    pool, net = six
    net.drop(3, 30)
    with writing(pool) as writer:
        call("cp", "-a", tree, pool.mnt / "during")
        time.sleep(20)
        assert_same(tree, pool.mnt / "during")
        net.clear(3)
        until(pool, "healthy", 120)
    assert writer.errors == []
    pool.remount()
    writer.check()
    assert_same(tree, pool.mnt / "during")
