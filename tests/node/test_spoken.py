"""Puts and reads as messages of calls that stay open, as appends are (test_conversation)."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from ecfs.drive.begun import Begun, Gathering
from ecfs.drive.local import LocalDrive
from ecfs.drive.node import NodeDrive
from ecfs.drive.node_link import CALLS, SPOKEN
from ecfs.errors import ShardExistsError, ShardMissingError, UsageError
from ecfs.node import server
from ecfs.rpc import conversation
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.conversation import Conversations
from ecfs.rpc.limits import CHUNK, MIB
from ecfs.rpc.methods import DRIVE
from tests.node.conftest import made
from tests.nodes import ThreadNode


def key(number: int) -> str:
    return f"s/00000002/{number:08x}"


def begin(drive: NodeDrive, number: int, data: bytes, gathering: Gathering) -> Begun:
    begun = drive.begin_put(key(number), [data[:3], data[3:]], gathering)
    assert begun is not None
    return begun


async def put(drive: NodeDrive, number: int, data: bytes) -> None:
    gathering = Gathering()
    begun = begin(drive, number, data, gathering)
    with trio.fail_after(20):
        await gathering.wait()
    begun.result()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The method of every conversation that is begun."""
    methods: list[str] = []

    class Counted(conversation.Conversation):
        def __init__(self, channel: Any, method: Any, *arguments: Any) -> None:
            methods.append(method.name)
            super().__init__(channel, method, *arguments)

    monkeypatch.setattr(conversation, "Conversation", Counted)
    return methods


async def test_puts_and_reads_are_messages_of_one_call_each(drive: NodeDrive, opened: list[str]) -> None:
    for number in range(20):
        await put(drive, number, b"shard %02d" % number)
    await drive.sync()
    for number in range(20):
        assert await drive.read(key(number), [(6, 2), (0, 5)]) == [b"%02d" % number, b"shard"]
    assert opened == ["Puts", "Reads"]


async def test_a_shard_of_a_mib_comes_and_goes(drive: NodeDrive) -> None:
    data = bytes(range(256)) * (MIB // 256)
    await put(drive, 1, data)
    assert await drive.read(key(1), [(0, MIB)]) == [data]


async def test_more_at_once_than_there_are_calls(drive: NodeDrive, opened: list[str]) -> None:
    gathering = Gathering()
    begun = [begin(drive, number, b"shard", gathering) for number in range(CALLS)]
    assert drive.begin_put(key(CALLS), [b"shard"], gathering) is None
    with trio.fail_after(20):
        await gathering.wait()
    for each in begun:
        each.result()
    assert opened == ["Puts"] * SPOKEN["Puts"]
    async with trio.open_nursery() as nursery:
        for number in range(CALLS):
            nursery.start_soon(drive.read, key(number), [(0, 5)])
    assert len(opened) <= SPOKEN["Puts"] + SPOKEN["Reads"]


async def test_an_error_is_the_answer_of_one_message(drive: NodeDrive, opened: list[str]) -> None:
    await put(drive, 1, b"first")
    with pytest.raises(ShardExistsError) as raised:
        await put(drive, 1, b"second")
    assert (raised.value.slot, raised.value.key) == (3, key(1))
    await put(drive, 2, b"second")
    with pytest.raises(ShardMissingError):
        await drive.read(key(3), [(0, 5)])
    assert await drive.read(key(1), [(0, 5)]) == [b"first"]
    assert opened == ["Puts", "Reads"]


async def test_a_put_is_covered_by_the_next_sync_only(drive: NodeDrive, node: ThreadNode) -> None:
    """A sync that fails voids it, although its answer came before."""
    await put(drive, 1, b"first")
    assert drive._oldest_put == 0
    await drive.sync()
    assert drive._oldest_put is None


async def test_a_read_that_is_given_up_disturbs_no_other(
    drive: NodeDrive, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(drive, 1, b"first")
    await put(drive, 2, b"other")
    go_on, reading = threading.Event(), LocalDrive.reading

    def slow(local: LocalDrive, wanted: str, *arguments: Any) -> Any:
        if wanted == key(1):
            go_on.wait(10)
        return reading(local, wanted, *arguments)

    monkeypatch.setattr(LocalDrive, "reading", slow)
    with trio.move_on_after(0.2) as scope:
        await drive.read(key(1), [(0, 5)])
    assert scope.cancelled_caught
    assert await drive.read(key(2), [(0, 5)]) == [b"other"]
    go_on.set()
    for _ in range(10):
        assert await drive.read(key(2), [(0, 5)]) == [b"other"]
    assert opened == ["Puts", "Reads", "Reads"]


async def test_a_read_whose_conversation_breaks_is_made_by_a_call_of_its_own(
    drive: NodeDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(drive, 1, b"first")
    reading, times = LocalDrive.reading, iter([0.5])

    def slow(local: LocalDrive, *arguments: Any) -> Any:
        threading.Event().wait(next(times, 0.0))
        return reading(local, *arguments)

    monkeypatch.setattr(LocalDrive, "reading", slow)

    async def break_it() -> None:
        await trio.sleep(0.2)
        drive._link._spoken["Reads"]._open[0].cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(break_it)
        with trio.fail_after(10):
            assert await drive.read(key(1), [(0, 5)]) == [b"first"]


async def test_an_answer_has_4_mib_at_most(drive: NodeDrive) -> None:
    await put(drive, 1, b"first")
    said, token = trio.Event(), trio.lowlevel.current_trio_token()
    request = pb.ReadRequest(caller=drive._caller(), key=key(1), ranges=[pb.Range(offset=0, length=CHUNK + 1)])
    request.number = 1
    conversations = Conversations(drive._link.channel, DRIVE["Reads"])
    saying = conversations.say(request.SerializeToString(), 1, lambda _: token.run_sync_soon(said.set))
    assert saying is not None
    with trio.fail_after(10):
        await said.wait()
    with pytest.raises(UsageError, match="at most"):
        saying.result()


@pytest.fixture
async def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NodeDrive]:
    """A node of a version without such calls."""
    monkeypatch.setattr(server, "DRIVE", {name: method for name, method in DRIVE.items() if name not in SPOKEN})
    node = ThreadNode(tmp_path / "old")
    drive = await made(node.drive())
    yield drive
    await drive.close()
    node.stop()


async def test_an_older_node_gets_calls_that_it_knows(old: NodeDrive, opened: list[str]) -> None:
    for number in range(3):
        await put(old, number, b"shard")
        assert await old.read(key(number), [(0, 5)]) == [b"shard"]
        gathering = Gathering()
        begun = old.begin_append("j/00000002.000000", 6 * number, b"record", gathering)
        assert begun is not None
        with trio.fail_after(20):
            await gathering.wait()
        begun.result()
    assert sorted(opened) == ["Appends", "Puts", "Reads"]
