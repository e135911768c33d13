"""Puts and reads as messages of calls that stay open, as appends are (test_conversation)."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from ecfs.drive.begun import Begun, Gathering
from ecfs.drive.local import LocalDrive
from ecfs.drive.node import NodeDrive
from ecfs.drive.node_link import CALLS, SPOKEN
from ecfs.errors import DriveError, DriveUnreachableError, ShardExistsError, ShardMissingError, UsageError
from ecfs.node import server
from ecfs.node.guard import STANDING_PER_CLIENT
from ecfs.rpc import conversation, frames
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.conversation import Conversations
from ecfs.rpc.limits import CHUNK, MIB
from ecfs.rpc.methods import DRIVE
from tests.node.begun import append, finish
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
    await finish(gathering, begin(drive, number, data, gathering))


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


async def test_a_put_is_covered_by_the_next_sync_only(drive: NodeDrive) -> None:
    """The sync asks about the node's count of failed ones that came with the put's answer."""
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
    ranges = [pb.Range(offset=0, length=CHUNK + 1)]
    request = pb.ReadRequest(caller=drive._caller(), key=key(1), ranges=ranges, number=1)
    with pytest.raises(UsageError, match="at most"):
        await said(drive, "Reads", request.SerializeToString(), 1)


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
        await append(old, 6 * number, b"record")
    assert sorted(opened) == ["Appends", "Puts", "Reads"]


async def said(drive: NodeDrive, method: str, frame: bytes, number: int) -> Any:
    """What a client that says this hears. Raises what `Saying.result` does."""
    heard, token = trio.Event(), trio.lowlevel.current_trio_token()
    saying = Conversations(drive._link.channel, DRIVE[method]).say(
        frame, number, lambda _: token.run_sync_soon(heard.set)
    )
    assert saying is not None
    with trio.fail_after(10):
        await heard.wait()
    return saying.result()


@pytest.mark.parametrize("method", ["Puts", "Reads"])
async def test_nonsense_ends_the_call_and_not_the_node(drive: NodeDrive, method: str) -> None:
    with pytest.raises(DriveUnreachableError):
        await said(drive, method, b"\xff\xff", 1)
    await put(drive, 1, b"first")
    assert await drive.read(key(1), [(0, 5)]) == [b"first"]


@pytest.mark.parametrize("length", [4, 6, 1 << 63])
async def test_not_as_much_data_as_was_announced(drive: NodeDrive, length: int) -> None:
    request = pb.PutRequest(caller=drive._caller(), key=key(1), length=length, number=7)
    with pytest.raises(DriveUnreachableError):
        await said(drive, "Puts", frames.join(request, [b"shard"]), 7)
    with pytest.raises(ShardMissingError):
        await drive.read(key(1), [(0, 5)])


@pytest.mark.parametrize("key", ["../identity", "s/../../x", "/etc/passwd", "identity", "s/00000002/0\0"])
async def test_nothing_outside_is_reached(drive: NodeDrive, tmp_path: Path, key: str) -> None:
    before = sorted(path.name for path in tmp_path.rglob("*"))
    request = pb.PutRequest(caller=drive._caller(), key=key, length=5, number=7)
    with pytest.raises((UsageError, DriveError)):
        await said(drive, "Puts", frames.join(request, [b"shard"]), 7)
    asked = pb.ReadRequest(caller=drive._caller(), key=key, ranges=[pb.Range(offset=0, length=1)], number=8)
    with pytest.raises((UsageError, DriveError)):
        await said(drive, "Reads", asked.SerializeToString(), 8)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


async def test_a_put_of_a_stranger_or_of_who_was_fenced_off_is_refused(drive: NodeDrive) -> None:
    for caller in (pb.Caller(), pb.Caller(attachment=b"guessed"), pb.Caller(attachment=drive._attachment)):
        request = pb.PutRequest(caller=caller, key=key(1), length=5, number=7)
        with pytest.raises(DriveError):
            await said(drive, "Puts", frames.join(request, [b"shard"]), 7)
    with pytest.raises(ShardMissingError):
        await drive.read(key(1), [(0, 5)])


async def test_a_put_that_is_answered_leaves_nothing_in_memory(drive: NodeDrive) -> None:
    """Not even until Python looks for cycles, which it does seldom: a shard for each node and stripe would add up."""
    data = bytes(MIB)
    await put(drive, 0, data)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for number in range(1, 21):
            await put(drive, number, data)
        begin(drive, 21, data, Gathering()).give_up()
        await put(drive, 22, data)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 8 * MIB


async def test_where_no_more_calls_may_stay_open_there_is_one_for_each(
    drive: NodeDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecfs.node.guard.STANDING_PER_CLIENT", 0)
    await put(drive, 1, b"first")
    assert await drive.read(key(1), [(0, 5)]) == [b"first"]
    await append(drive, 0, b"record")


async def test_calls_that_stay_open_keep_no_others_out(
    drive: NodeDrive, node: ThreadNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecfs.node.guard.CALLS_PER_CLIENT", 5)
    readers = [node.drive() for _ in range(STANDING_PER_CLIENT)]
    await put(drive, 1, b"first")
    for reader in readers:
        await reader.attach(exclusive=False)
        assert await reader.read(key(1), [(0, 5)]) == [b"first"]
    with trio.fail_after(5):
        await drive.alive()
        await put(drive, 2, b"other")
    for reader in readers:
        await reader.close()


async def test_giving_up_what_is_answered_does_not_hit_the_next_one(
    drive: NodeDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Gathering()
    answered = begin(drive, 1, b"first", first)
    with trio.fail_after(20):
        await first.wait()
    putting = LocalDrive.putting

    def slow(local: LocalDrive, *arguments: Any, **options: Any) -> Any:
        threading.Event().wait(0.3)
        return putting(local, *arguments, **options)

    monkeypatch.setattr(LocalDrive, "putting", slow)
    second = Gathering()
    begun = begin(drive, 2, b"other", second)
    answered.give_up()
    await finish(second, begun)


async def test_closing_ends_a_read_and_opens_nothing(drive: NodeDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(drive, 1, b"first")
    go_on, reading = threading.Event(), LocalDrive.reading

    def slow(local: LocalDrive, *arguments: Any) -> Any:
        go_on.wait(10)
        return reading(local, *arguments)

    monkeypatch.setattr(LocalDrive, "reading", slow)

    async def read() -> None:
        with pytest.raises(DriveUnreachableError):
            await drive.read(key(1), [(0, 5)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(0.2)
        await drive.close()
    go_on.set()
    assert drive._link._channel is None


@pytest.mark.parametrize("method", ["Appends", "Puts", "Reads"])
async def test_nonsense_leaves_no_stream_behind(drive: NodeDrive, method: str) -> None:
    """A connection has 64. What refers to a call keeps its stream, until Python looks for cycles."""
    gc.collect()
    gc.disable()
    try:
        for number in range(70):
            with pytest.raises(DriveUnreachableError):
                await said(drive, method, b"\xff\xff", number)
        with trio.fail_after(10):
            await drive.alive()
    finally:
        gc.enable()
