"""Appends as messages of one call that stays open: the promises of `append`, and what becomes of the call."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from ecfs.drive.begun import Begun, Gathering
from ecfs.drive.node import NodeDrive
from ecfs.errors import DriveError, DriveFencedError, DriveUnreachableError, UsageError
from ecfs.rpc import conversation, frames
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.conversation import Conversations
from ecfs.rpc.methods import DRIVE
from tests.node.conftest import NEWER, made
from tests.nodes import ProcessNode, ThreadNode

SEGMENT = "j/00000002.000000"


def begin(drive: NodeDrive, offset: int, record: bytes, gathering: Gathering, segment: str = SEGMENT) -> Begun:
    begun = drive.begin_append(segment, offset, record, gathering)
    assert begun is not None
    return begun


async def append(drive: NodeDrive, offset: int, record: bytes, segment: str = SEGMENT) -> None:
    gathering = Gathering()
    begun = begin(drive, offset, record, gathering, segment)
    with trio.fail_after(20):
        await gathering.wait()
    begun.result()


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


async def test_an_error_is_the_answer_of_one_message(drive: NodeDrive, opened: list[int]) -> None:
    await append(drive, 0, b"first")
    with pytest.raises(DriveUnreachableError, match="does not end at 3"):
        await append(drive, 3, b"second")
    await append(drive, 0, b"other", "j/00000002.000001")
    assert len(opened) == 1


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
    first = begin(drive, 0, b"first", gathering)
    second = begin(drive, 0, b"second", gathering, "j/00000002.000001")
    with trio.fail_after(20):
        await gathering.wait()
    first.result()
    second.result()
    assert await drive.get("j/00000002.000001") == b"second"


async def test_given_up_and_then_on_with_the_next_segment(drive: NodeDrive) -> None:
    await append(drive, 0, b"first")
    begin(drive, 5, b"second", Gathering()).give_up()
    await append(drive, 0, b"third", "j/00000002.000001")
    assert await drive.get("j/00000002.000001") == b"third"


async def test_a_killed_node_fails_the_message_at_once(process: ProcessNode) -> None:
    drive = await made(process.drive())
    await append(drive, 0, b"first")
    process.pause()
    gathering = Gathering()
    begun = begin(drive, 5, b"second", gathering)
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
    saying = Conversations(drive._link.channel, DRIVE["Appends"]).say(nonsense, lambda _: token.run_sync_soon(said.set))
    assert saying is not None
    with trio.fail_after(10):
        await said.wait()
    with pytest.raises((DriveUnreachableError, UsageError)):
        saying.result()
    await append(drive, 0, b"record")
