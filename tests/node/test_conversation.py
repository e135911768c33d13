"""Appends as messages of one call that stays open: the promises of `append`, and what becomes of the call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import trio

from ecfs.drive.begun import Gathering
from ecfs.drive.node import NodeDrive
from ecfs.drive.node_link import CALLS, Sending
from ecfs.errors import DriveError, DriveFencedError, DriveFullError, DriveUnreachableError, UsageError
from ecfs.rpc import conversation, frames
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.client import Channel, OnItsWay
from ecfs.rpc.conversation import Conversations
from ecfs.rpc.methods import DRIVE
from ecfs.rpc.status import NodeBusyError
from tests.node.begun import SEGMENT, append, begin_append
from tests.node.conftest import NEWER, made
from tests.nodes import ProcessNode, ThreadNode


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One more entry for every conversation that is begun, here or in the node's thread."""
    calls: list[int] = []

    class Counted(conversation.Conversation):
        def __init__(self, *arguments: Any) -> None:
            calls.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(conversation, "Conversation", Counted)
    return calls


async def test_appends_are_messages_of_one_call(drive: NodeDrive, opened: list[int]) -> None:
    for number in range(50):
        await append(drive, 2 * number, b"ab")
    assert await drive.get(SEGMENT) == b"ab" * 50
    assert len(opened) == 1


async def test_a_call_that_gets_old_is_replaced(
    drive: NodeDrive, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(drive, 0, b"first,")
    monkeypatch.setattr(conversation, "RENEW_S", 0.0)
    await append(drive, 6, b"second")
    assert await drive.get(SEGMENT) == b"first,second"
    assert len(opened) == 2


async def test_a_call_whose_time_is_over_is_replaced(
    drive: NodeDrive, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "MAX_CALL_S", 0.3)
    await append(drive, 0, b"first,")
    await trio.sleep(0.6)
    await append(drive, 6, b"second")
    assert await drive.get(SEGMENT) == b"first,second"
    assert len(opened) == 2


async def test_a_call_that_could_not_be_replaced_is_not_finished_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is to be had for the next one, and the node takes its time to end the old one."""
    leave = threading.Event()

    def slow(incoming: Iterator[bytes], context: Any) -> Iterator[bytes]:
        next(incoming)
        yield answer(6)
        leave.wait(10)

    def none_left(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    talker = Talker(slow)
    try:
        await talker.say(6)
        monkeypatch.setattr(conversation, "RENEW_S", 0.0)
        with monkeypatch.context() as patch:
            patch.setattr(conversation, "threading", SimpleNamespace(Thread=none_left, Lock=threading.Lock))
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start"):
                    await talker.say(12)
        await talker.say(6)
    finally:
        leave.set()
        talker.close()


async def test_an_error_is_the_answer_of_one_message(drive: NodeDrive, opened: list[int]) -> None:
    await append(drive, 0, b"first")
    with pytest.raises(DriveUnreachableError, match="does not end at 6"):
        await append(drive, 6, b"second")
    with pytest.raises(DriveUnreachableError, match="no such file"):
        await append(drive, 12, b"other", "j/00000002.000001")
    assert len(opened) == 1


async def test_each_segment_has_a_call_of_its_own(drive: NodeDrive, opened: list[int]) -> None:
    await append(drive, 0, b"first")
    await append(drive, 0, b"other", "j/00000002.000001")
    await append(drive, 5, b"third", "j/00000002.000001")
    assert len(opened) == 2


async def test_one_that_was_fenced_off_hears_so_on_an_open_call(node: ThreadNode, drive: NodeDrive) -> None:
    await append(drive, 0, b"first")
    successor = NodeDrive(drive.url, drive._link._clock, slot=3)
    successor._client = drive._client  # as if it were ours: only the fence is left to keep us apart
    await successor.attach(exclusive=True)
    await successor.fence(NEWER)
    await drive.attach(exclusive=True)
    with pytest.raises(DriveFencedError):
        await append(drive, 5, b"second")
    await successor.close()


async def test_a_message_that_waits_does_not_hold_up_another_one(drive: NodeDrive, node: ThreadNode) -> None:
    """A second append goes by a call of its own; both count."""
    gathering = Gathering()
    first = begin_append(drive, 0, b"first", gathering)
    second = begin_append(drive, 0, b"second", gathering, "j/00000002.000001")
    with trio.fail_after(20):
        await gathering.wait()
    first.result()
    second.result()
    assert await drive.get("j/00000002.000001") == b"second"


async def test_given_up_and_then_on_with_the_next_segment(drive: NodeDrive) -> None:
    await append(drive, 0, b"first")
    begin_append(drive, 5, b"second", Gathering()).give_up()
    await append(drive, 0, b"third", "j/00000002.000001")
    assert await drive.get("j/00000002.000001") == b"third"


async def test_a_killed_node_fails_the_message_at_once(process: ProcessNode) -> None:
    drive = await made(process.drive())
    await append(drive, 0, b"first")
    process.pause()
    gathering = Gathering()
    begun = begin_append(drive, 5, b"second", gathering)
    process.kill()
    with trio.fail_after(10):
        await gathering.wait()
    with pytest.raises(DriveError):
        begun.result()
    await drive.close()


async def test_a_node_ends_although_a_conversation_is_open(process: ProcessNode) -> None:
    drive = await made(process.drive())
    await append(drive, 0, b"first")
    with trio.fail_after(8):
        await trio.to_thread.run_sync(process.end)
    assert process.process.returncode == 0
    await drive.close()


async def test_no_thread_is_left_behind(drive: NodeDrive) -> None:
    await append(drive, 0, b"first")
    assert "answers" in [thread.name for thread in threading.enumerate()]
    await drive.close()
    with trio.fail_after(10):
        while "answers" in [thread.name for thread in threading.enumerate()]:
            await trio.sleep(0.05)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff\xff",
        frames.join(pb.AppendRequest(segment=SEGMENT, length=5), [b"four"]),
        frames.join(pb.AppendRequest(segment=SEGMENT, length=3), [b"four"]),
    ],
    ids=["no message", "too short", "too long"],
)
async def test_nonsense_ends_the_conversation_and_not_the_node(drive: NodeDrive, nonsense: bytes) -> None:
    said = trio.Event()
    token = trio.lowlevel.current_trio_token()
    conversations = Conversations(drive._link.channel, DRIVE["Appends"])
    saying = conversations.say(nonsense, 5, lambda _: token.run_sync_soon(said.set))
    assert saying is not None
    with trio.fail_after(10):
        await said.wait()
    with pytest.raises((DriveUnreachableError, UsageError)):
        saying.result()
    await append(drive, 0, b"record")


async def test_a_record_that_must_not_be_is_refused_in_one_line(
    drive: NodeDrive, caplog: pytest.LogCaptureFixture
) -> None:
    for number, record in enumerate((b"ends with zero\0", b"")):
        with pytest.raises(UsageError, match="end with a zero"):
            await append(drive, 0, record, f"j/00000002.{number:06}")
    await append(drive, 0, b"record", "j/00000002.000002")
    assert [entry for entry in caplog.records if entry.exc_info] == []


Behaviour = Callable[[Iterator[bytes], Any], Iterator[bytes]]


class Talker:
    """A server whose `Appends` are what a test says; `say` is a client's."""

    def __init__(self, behaviour: Behaviour) -> None:
        handler: Any = grpc.stream_stream_rpc_method_handler(behaviour)
        self._server = grpc.server(ThreadPoolExecutor(4))
        service = DRIVE["Appends"].service
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Appends": handler})])
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._channel = Channel(f"127.0.0.1:{port}", None)
        self._conversations = Conversations(self._channel, DRIVE["Appends"])

    async def say(self, end: int, meanwhile: Callable[[], object] = bool) -> None:
        answered = trio.Event()
        token = trio.lowlevel.current_trio_token()
        saying = self._conversations.say(b"record", end, lambda _: token.run_sync_soon(answered.set))
        assert saying is not None
        meanwhile()
        with trio.fail_after(10):
            await answered.wait()
        saying.result()

    def close(self) -> None:
        self._channel.close()
        self._server.stop(0)


def answer(end: int) -> bytes:
    return bytes(pb.AppendsReply(number=end).SerializeToString())


@pytest.mark.parametrize("surplus", [answer(5), b"", b"\xff"], ids=["of the one before", "of nothing", "no message"])
@pytest.mark.parametrize("when", ["before the next one", "after the next one"])
async def test_an_answer_too_many_is_not_taken_for_the_next_one(surplus: bytes, when: str) -> None:
    said = threading.Event()

    def twice(incoming: Iterator[bytes], context: Any) -> Iterator[bytes]:
        next(incoming)
        yield answer(5)
        if when == "after the next one":
            said.wait(10)
        yield surplus
        for _ in incoming:
            said.wait(10)

    talker = Talker(twice)
    await talker.say(5)
    if when == "before the next one":
        await trio.sleep(0.2)
    with pytest.raises(DriveUnreachableError, match="not the one"):
        await talker.say(11, said.set)
    talker.close()


async def test_an_answer_too_many_is_not_taken_for_the_same_place_in_the_next_segment() -> None:
    """A record that failed is written again, as the first one of the next segment."""
    answers = [bytes(pb.AppendsReply(number=6, error="DriveFullError", text="full").SerializeToString()), answer(6)]

    def twice(incoming: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for _ in incoming:
            if not answers:
                return  # without having made anything durable
            while answers:
                yield answers.pop(0)

    talker = Talker(twice)
    try:
        with pytest.raises(DriveFullError):
            await talker.say(6)
        with pytest.raises(DriveUnreachableError):
            await talker.say(6)
    finally:
        talker.close()


async def test_after_one_was_given_up_the_next_one_need_not_wait(drive: NodeDrive, opened: list[int]) -> None:
    conversations = Conversations(drive._link.channel, DRIVE["Appends"])
    first = conversations.say(b"nonsense", 5, bool)
    assert first is not None
    first.cancel()
    assert conversations.say(b"nonsense", 5, bool) is not None
    assert len(opened) == 2


class Ended:
    """A call that has ended, with or without an error (`OnItsWay`)."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def was_busy(self) -> bool:
        return isinstance(self._error, NodeBusyError)

    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        pass


async def test_an_answer_that_comes_before_the_call_is_noted_counts() -> None:
    """Refused at first; the second try is answered while the thread that sent it has not gone on yet."""
    tries: list[Ended] = []
    done, go_on = threading.Event(), threading.Event()

    def send(ended: Callable[[OnItsWay], object], again: bool) -> OnItsWay:
        tries.append(Ended(None if tries else NodeBusyError("busy")))
        ended(tries[-1])
        if len(tries) == 2:
            go_on.wait(10)
        return tries[-1]

    sending = Sending(send, 10, done.set)
    sending.begin(bool)
    await trio.to_thread.run_sync(done.wait, 10)
    try:
        sending.result()
    finally:
        go_on.set()
    assert len(tries) == 2


@pytest.mark.parametrize("for_what", ["the pause", "sending it again"])
async def test_a_busy_node_and_no_thread_fail_it_and_leave_nobody_waiting(
    for_what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    tries: list[Ended] = []

    def send(ended: Callable[[OnItsWay], object], again: bool) -> OnItsWay:
        if tries:
            no_thread()
        tries.append(Ended(NodeBusyError("busy")))
        ended(tries[-1])
        return tries[-1]

    if for_what == "the pause":
        monkeypatch.setattr(threading.Timer, "start", no_thread)
    done = threading.Event()
    sending = Sending(send, 10, done.set)
    with suppress(RuntimeError):  # in a thread of gRPC's, where it comes to nobody's notice
        sending.begin(bool)
    assert await trio.to_thread.run_sync(done.wait, 5)
    with pytest.raises(NodeBusyError):
        sending.result()


async def test_a_call_that_can_not_be_sent_keeps_no_room(drive: NodeDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> None:
        raise ValueError("Cannot invoke RPC on closed channel!")

    monkeypatch.setattr(Conversations, "say", closed)
    for _ in range(2 * CALLS):
        with pytest.raises(ValueError, match="closed"):
            drive.begin_append(SEGMENT, 0, b"record", Gathering())
    with trio.fail_after(10):
        await drive.space()
