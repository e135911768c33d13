"""A pool over real nodes, mounted, under ordinary programs: nodes die, come back, hang, and another host takes over."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.conftest import tree as tree
from tests.mount.real import Pool, assert_same, call
from tests.nodes import ProcessNode
from tests.programs import Place, place, wait_for_end
from tests.relay import Relay

pytestmark = pytest.mark.mount


class NodePool(Pool):
    """nodes: by slot; None for a slot that is a directory of ours."""

    nodes: list[ProcessNode | None]

    def node(self, slot: int) -> ProcessNode:
        node = self.nodes[slot]
        assert node is not None
        return node

    def kill_node(self, *slots: int) -> None:
        for slot in slots:
            self.node(slot).kill()

    def start_node(self, *slots: int) -> None:
        for slot in slots:
            self.node(slot).start()

    def status(self) -> dict[str, object]:
        return dict(json.loads(self.ecfs("status", "--json", "mnt", status=None)))


def until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.contextmanager
def pool_of_nodes(folder: Path, count: int, *, relayed: bool = False) -> Iterator[tuple[NodePool, list[Relay]]]:
    """Six drives, the first `count` of them nodes, the others directories. Mounted."""
    (folder / "drives").mkdir()
    nodes = [ProcessNode(folder / f"n{slot}") for slot in range(count)]
    relays = [Relay(node.port) for node in nodes] if relayed else []
    urls = [each.address for each in (relays or nodes)] + [f"d{slot}" for slot in range(count, 6)]
    lines = ["[pool]", "data = 4", "parity = 2", *(f'[[drive]]\nurl = "{url}"' for url in urls)]
    (folder / "drives" / "pool.toml").write_text("\n".join(lines) + "\n")
    with place(folder) as here:
        pool = NodePool(here)
        pool.nodes = [*nodes, *[None] * (6 - count)]
        try:
            pool.ecfs("create", "drives/pool.toml")
            pool.mount()
            yield pool, relays
        finally:
            here.clean_up()
            for node in nodes:
                node.process.kill()
                node.process.__exit__(None, None, None)
            for relay in relays:
                relay.stop()


@pytest.fixture
def six(tmp_path: Path) -> Iterator[NodePool]:
    with pool_of_nodes(tmp_path, 6) as (pool, _):
        yield pool


def test_two_nodes_killed_under_load_come_back_and_get_what_they_missed(six: NodePool, tree: Path) -> None:
    call("cp", "-a", tree, six.mnt / "before")
    copying = subprocess.Popen(["cp", "-a", tree, six.mnt / "during"])
    six.kill_node(1, 4)
    assert copying.wait(60) == 0
    call("cp", "-a", tree, six.mnt / "after")
    six.ecfs("sync", "mnt")
    for name in ("before", "during", "after"):
        assert_same(tree, six.mnt / name)
    assert six.status()["may_lose"] == 0
    six.start_node(1, 4)
    six.until_healthy()
    assert "nothing was wrong" in six.ecfs("scrub", "--no-progress", "mnt")
    six.kill_node(0, 5)
    six.remount()
    for name in ("before", "during", "after"):
        assert_same(tree, six.mnt / name)
    six.start_node(0, 5)
    six.until_healthy()


def test_a_node_whose_directory_was_deleted_is_rebuilt_by_scrub(six: NodePool, tree: Path) -> None:
    call("cp", "-a", tree, six.mnt)
    six.ecfs("sync", "mnt")
    shutil.rmtree(six.node(2).directory)
    until(lambda: six.status()["state"] == "degraded", 10)
    assert "healthy" in six.ecfs("scrub", "--no-progress", "mnt")
    assert (six.node(2).directory / "identity").exists()
    six.kill_node(0, 5)
    six.remount()
    assert_same(tree, six.mnt / "tree")


def test_three_nodes_and_three_directories(tmp_path: Path, tree: Path) -> None:
    with pool_of_nodes(tmp_path, 3) as (pool, _):
        call("cp", "-a", tree, pool.mnt / "before")
        copying = subprocess.Popen(["cp", "-a", tree, pool.mnt / "during"])
        pool.kill_node(1)
        pool.lose(4)
        assert copying.wait(60) == 0
        pool.ecfs("sync", "mnt")
        pool.start_node(1)
        assert "healthy" in pool.ecfs("scrub", "--no-progress", "mnt")
        pool.kill_node(0)
        pool.lose(3)
        pool.remount()
        for name in ("before", "during"):
            assert_same(tree, pool.mnt / name)


def test_a_node_that_hangs_costs_no_error_and_no_long_wait(six: NodePool, tree: Path) -> None:
    call("cp", "-a", tree / "json", six.mnt)
    six.node(3).pause()
    longest = 0.0
    for number in range(30):
        began = time.monotonic()
        with (six.mnt / f"file{number}").open("wb") as file:
            file.write(os.urandom(200_000))
            file.flush()
            os.fsync(file.fileno())
        longest = max(longest, time.monotonic() - began)
    assert longest < 6, f"a program waited {longest:.1f} s"
    assert_same(tree / "json", six.mnt / "json")
    six.node(3).resume()
    six.until_healthy()


def test_scrub_of_healthy_data_moves_checksums_not_data(tmp_path: Path) -> None:
    with pool_of_nodes(tmp_path, 6, relayed=True) as (pool, relays):
        size = 40 << 20
        (pool.mnt / "large").write_bytes(os.urandom(size))
        pool.ecfs("sync", "mnt")
        before = sum(relay.sent + relay.received for relay in relays)
        assert before > size * 6 // 4
        assert "nothing was wrong" in pool.ecfs("scrub", "--no-progress", "mnt")
        moved = sum(relay.sent + relay.received for relay in relays) - before
        assert moved < size // 20, f"{moved} bytes to verify {size}"


def test_a_pool_is_mounted_by_its_nodes_alone(six: NodePool, tmp_path: Path, tree: Path) -> None:
    call("cp", "-a", tree / "json", six.mnt)
    six.umount()
    six.place.extra["ECFS_STATE_DIR"] = str(tmp_path / "state")
    addresses = [node.address for node in six.nodes if node is not None]
    six.ecfs("mount", ",".join(addresses), "mnt")
    assert_same(tree / "json", six.mnt / "json")
    six.umount()
    six.ecfs("mount", "--no-create", ",".join(reversed(addresses)), "mnt")
    assert_same(tree / "json", six.mnt / "json")


def test_a_new_pool_on_six_vacant_nodes(tmp_path: Path) -> None:
    nodes = [ProcessNode(tmp_path / f"n{slot}") for slot in range(6)]
    try:
        with place(tmp_path) as here:
            here.extra["ECFS_STATE_DIR"] = str(tmp_path / "state")
            urls = ",".join(node.address for node in nodes)
            here.run("mount", "--no-create", urls, "mnt", status=2)
            assert "made a new pool" in here.run("mount", urls, "mnt")
            (tmp_path / "mnt" / "file").write_bytes(b"data")
            assert "healthy" in here.run("status", urls)
            here.run("umount", "mnt")
            assert here.run("ls", urls).split() == ["file"]
    finally:
        for node in nodes:
            node.process.kill()
            node.process.__exit__(None, None, None)


@contextlib.contextmanager
def other_host(pool: NodePool) -> Iterator[Place]:
    """A second host: it shares nothing with the first but the nodes."""
    folder = pool.place.path / "other"
    (folder / "drives").mkdir(parents=True)
    shutil.copy(pool.place.path / "drives" / "pool.toml", folder / "drives")
    with place(folder) as here:
        yield here


def test_a_second_host_is_refused_takes_over_and_the_first_can_not_change_a_byte(six: NodePool, tree: Path) -> None:
    """R2. The first daemon is stopped with SIGSTOP, and woken when the second one has the pool."""
    call("cp", "-a", tree / "json", six.mnt)
    six.ecfs("sync", "mnt")
    first = six.place.pid()
    with other_host(six) as other:
        assert "locked by process" in other.run("mount", "drives", "mnt", status=2)
        os.kill(first, signal.SIGSTOP)
        until(lambda: "Mounted on" in other.run("mount", "drives", "mnt", status=None), 60)
        there = other.path / "mnt"
        assert_same(tree / "json", there / "json")
        (there / "of the second").write_bytes(b"second")
        other.run("sync", "mnt")
        before = [contents(node.directory) for node in six.nodes if node is not None]
        os.kill(first, signal.SIGCONT)
        with contextlib.suppress(OSError):
            (six.mnt / "of the first").write_bytes(b"first")
            descriptor = os.open(six.mnt / "of the first", os.O_RDWR)
            with pytest.raises(OSError, match=r"Input/output error|Read-only"):
                os.fsync(descriptor)
            os.close(descriptor)
        until(lambda: "taken" in six.ecfs("status", "mnt", status=None), 20)
        assert [contents(node.directory) for node in six.nodes if node is not None] == before
        assert (there / "of the second").read_bytes() == b"second"
        other.run("umount", "mnt")
    subprocess.run(["fusermount3", "-u", "-z", six.mnt], check=False, capture_output=True)
    assert wait_for_end(first)
    six.mount()
    assert sorted(path.name for path in six.mnt.iterdir()) == ["json", "of the second"]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
