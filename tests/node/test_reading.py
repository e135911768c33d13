"""What reads may take of a node's memory."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio

from ecfs.drive.node import NodeDrive
from ecfs.errors import ShardCorruptError, UsageError
from ecfs.node.guard import MEMORY
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.limits import MAX_DATA, MIB
from ecfs.rpc.methods import DRIVE
from tests.node.conftest import made
from tests.nodes import ProcessNode

KEY = "s/00000002/00000000"


@pytest.mark.parametrize("ranges", [
    [(0, -1)] * 1025,
    [(0, -1)] * 4096,
    [(0, 1)] * 4097,
    [(0, MAX_DATA), (0, 1)],
    [(0, MAX_DATA), (0, -1)],
])  # fmt: skip
async def test_a_call_brings_64_mib_at_most(drive: NodeDrive, ranges: list[tuple[int, int]]) -> None:
    await drive.put(KEY, [bytes(64 * 1024)])
    with pytest.raises(UsageError):
        await drive.read(KEY, ranges)
    assert await drive.read(KEY, [(0, -1), (1, 2), (5, -1)]) == [bytes(64 * 1024), bytes(2), bytes(64 * 1024 - 5)]


async def test_a_file_that_is_longer_than_any_may_be_is_not_read(drive: NodeDrive, tmp_path: Path) -> None:
    await drive.put(KEY, [b"short"])
    with (tmp_path / "drive" / KEY).open("r+b") as file:
        file.truncate(MAX_DATA + 1)
    with pytest.raises(ShardCorruptError, match="more than"):
        await drive.get(KEY)
    with pytest.raises(ShardCorruptError, match="more than"):
        await drive.verify(KEY)
    assert await drive.get(KEY, MAX_DATA) == b"\0"


def resident(process: ProcessNode) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


async def asked_for_much(process: ProcessNode) -> tuple[NodeDrive, bytes, int]:
    """The drive, a request whose answer has 60 MiB, and what the node has in memory before it."""
    drive = await made(process.drive())
    await drive.put(KEY, [bytes(MIB)])
    before = resident(process)
    ranges = [pb.Range(offset=0, length=MIB)] * 60
    request = pb.ReadRequest(caller=drive._by(drive._attachment), key=KEY, ranges=ranges)
    return drive, request.SerializeToString(), before


def channel_to(process: ProcessNode) -> Any:
    return grpc.insecure_channel(process.address, options=[("grpc.max_receive_message_length", -1)])


async def test_replies_that_nobody_fetches_count_as_memory(process: ProcessNode) -> None:
    drive, request, before = await asked_for_much(process)
    channel = channel_to(process)
    calls = [channel.unary_stream(DRIVE["Read"].path)(request, timeout=30) for _ in range(12)]
    await trio.sleep(3)
    taken = resident(process) - before
    for call in calls:
        call.cancel()
    channel.close()
    assert await drive.get(KEY, 0, 3) == bytes(3)  # small ones need no room
    await drive.close()
    assert taken < MEMORY + 100 * MIB  # and of each of these calls one message, twice


async def test_replies_that_were_fetched_leave_no_more_memory_behind_than_they_may_take(process: ProcessNode) -> None:
    """The C library kept what each of its arenas had at its peak, one or more for each processor."""
    drive, request, before = await asked_for_much(process)

    def fetch() -> int:
        with channel_to(process) as channel:
            return sum(map(len, channel.unary_stream(DRIVE["Read"].path)(request, timeout=60)))

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(fetch) for _ in range(48)]
        while not all(call.done() for call in calls):
            await trio.sleep(0.05)
    assert all(call.result() > 60 * MIB for call in calls)
    taken = resident(process) - before
    await drive.close()
    assert taken < MEMORY + 100 * MIB


async def test_a_long_listing_has_more_time_than_a_call(drive: NodeDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive of some TiB has a million shards. Its scrub was never done with them, each time again."""
    for number in range(60):
        await drive.put(f"s/00000002/{number:08x}", [b"data"])
    monkeypatch.setattr("ecfs.node.service.ENTRIES", 1)
    monkeypatch.setattr("ecfs.node.guard.MAX_CALL_S", 1.0)
    monkeypatch.setattr("ecfs.drive.node_link.MAX_CALL_S", 1.0)
    found = 0
    async for _ in drive.list("s/"):
        await trio.sleep(0.03)
        found += 1
    assert found == 60
