"""`ecfs probe`, `ecfs demo --nodes`, and the warning about drives that fail together."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ecfs.clock import SystemClock
from ecfs.drive.probing import probe_node
from ecfs.errors import DriveUnreachableError
from ecfs.mount.risk import domain_of, survived, warning
from ecfs.node.probe import MAX_CHUNKS, TestChunks
from ecfs.rpc import drive_pb2 as pb
from tests.node.conftest import made
from tests.nodes import ProcessNode, ThreadNode
from tests.programs import Place, place, wait_for_end


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made


async def test_probe_goes_there_and_back_and_leaves_nothing(node: ThreadNode, tmp_path: Path) -> None:
    drive = await made(node.drive())
    before = sorted(tmp_path.rglob("*"))
    steps = await probe_node(node.address, None, SystemClock(), 3 << 20)
    assert [step.name for step in steps] == ["connected", "stored", "verified", "fetched", "deleted"]
    assert sorted(tmp_path.rglob("*")) == before
    await drive.sync()  # the drive's owner notices nothing
    await drive.close()


async def test_probe_of_a_node_whose_disk_is_not_there(node: ThreadNode, tmp_path: Path) -> None:
    with pytest.raises(DriveUnreachableError, match=r"its directory .* is not there"):
        await probe_node(node.address, None, SystemClock(), 1024)
    assert not (tmp_path / "drive").exists()


async def test_forgotten_chunks_are_few_and_go_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecfs.node.probe.MAX_AGE_S", 0.01)
    chunks = TestChunks(str(tmp_path), SystemClock())
    for _ in range(MAX_CHUNKS):
        await chunks.store(pb.StoreRequest(length=4), [b"data"])
    with pytest.raises(Exception, match="try again"):
        await chunks.store(pb.StoreRequest(length=4), [b"data"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chunks.tidy, 0.05)
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    assert list(tmp_path.iterdir()) == []


def test_probe_as_a_command(process: ProcessNode, here: Place) -> None:
    process.directory.mkdir()
    said = here.run("probe", "--size", "64", process.address)
    assert "fetched" in said
    assert "came back unchanged" in said


def test_probe_of_what_is_no_node(here: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert "not reachable" in here.run("probe", f"127.0.0.1:{port}", status=1)
    assert "not reachable" in here.run("probe", f"127.0.0.1:{port}", status=1)


def test_nodes_of_a_demo_end_with_it_however_it_ends(here: Place) -> None:
    demo = here.start("demo", "--nodes")
    assert demo.stdout is not None
    try:
        assert any("ecfs create" in line for line in demo.stdout)  # now all six serve
        # A word of its own: the demo's next command has this test's name, hence "nodes", in its paths.
        nodes = [pid for pid in children(demo.pid) if b"node" in arguments_of(pid)]
        assert len(nodes) == 6
    finally:
        demo.kill()
    left = [pid for pid in nodes if not wait_for_end(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    demo.communicate()
    assert not left


def arguments_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:  # a command between two of the demo's steps ended meanwhile
        return []


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_demo_of_nodes(here: Place) -> None:
    said = here.run("demo", "--nodes")
    assert said.count("all 40 files are equal") == 2
    assert "Every byte came back" in said


def test_what_fails_together(tmp_path: Path) -> None:
    assert domain_of("nas1:9001") == domain_of("nas1:9002") != domain_of("nas2:9001")
    assert domain_of(f"{tmp_path}/missing/d0") == domain_of(str(tmp_path))
    assert domain_of("s3://b-b/x?endpoint=http://h:1") == domain_of("s3://b-b/y?endpoint=http://h:1")


@pytest.mark.parametrize(("hosts", "m", "count"), [
    ("abcdef", 2, 2), ("aabcde", 2, 1), ("aabbcc", 2, 1), ("aaabcd", 2, 0), ("aaaaaa", 2, 0), ("abc", 1, 1),
    ("aab", 1, 0), ("aabbccdd", 4, 2),
])  # fmt: skip
def test_survived_is_counted_by_whole_hosts(hosts: str, m: int, count: int) -> None:
    domains = [("host", name) for name in hosts]
    assert survived(domains, m) == count
    line = warning(domains, m)
    assert bool(line) == (count < m)
    if line:
        assert ("not of that host" if count == 0 else f"only of {count} such host") in line
