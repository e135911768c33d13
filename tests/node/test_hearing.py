"""Work that the thread which hears of everything does itself, and what becomes of the node when it takes for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

from ecfs.drive.begun import Begun, Gathering
from ecfs.drive.local import LocalDrive
from ecfs.drive.node import NodeDrive
from ecfs.rpc import served_exchange
from tests.node.begun import SEGMENT, begin_append, finish


class Disk:
    """Appends of a node, which may hang. threads: in which they were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[str] = []
        self.hangs = threading.Event()
        self.hangs.set()
        appending = LocalDrive.appending

        def slow(local: LocalDrive, *arguments: Any) -> Any:
            self.threads.append(threading.current_thread().name.split("_")[0])
            self.hangs.wait(20)
            return appending(local, *arguments)

        monkeypatch.setattr(LocalDrive, "appending", slow)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def begin(drive: NodeDrive, number: int, gathering: Gathering) -> Begun:
    return begin_append(drive, 6 * number, b"record", gathering)


async def append(drive: NodeDrive, number: int) -> None:
    gathering = Gathering()
    await finish(gathering, begin(drive, number, gathering))


async def test_short_work_is_done_where_it_is_heard(
    drive: NodeDrive, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_exchange, "SHORT_S", 10.0)
    monkeypatch.setattr(served_exchange, "PATIENCE_S", 10.0)
    for number in range(5):
        await append(drive, number)
    assert "call" not in disk.threads


async def test_a_slow_disk_is_left_to_threads_for_a_while(
    drive: NodeDrive, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_exchange, "AVOIDED", 3)
    monkeypatch.setattr(served_exchange, "PATIENCE_S", 10.0)
    monkeypatch.setattr(served_exchange, "SHORT_S", 10.0)
    await append(drive, 0)
    await trio.sleep(0.2)  # it hears of the answer before the node looks at how long it took
    monkeypatch.setattr(served_exchange, "SHORT_S", 0.0)
    for number in range(1, 6):
        await append(drive, number)
    assert [name == "call" for name in disk.threads] == [False, False, True, True, True, False]


async def test_a_node_whose_disk_hangs_still_hears(
    drive: NodeDrive, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_exchange, "SHORT_S", 10.0)
    await append(drive, 0)
    disk.hangs.clear()
    gathering = Gathering()
    begun = begin(drive, 1, gathering)
    for _ in range(3):
        with trio.fail_after(5):
            await drive.space()
            await drive.alive()
    assert begun.seconds is None
    disk.hangs.set()
    await finish(gathering, begun)
    for number in range(2, 5):
        await append(drive, number)
    assert await drive.get(SEGMENT) == b"record" * 5


async def test_it_is_watched_again_after_it_was_idle(
    drive: NodeDrive, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_exchange, "SHORT_S", 10.0)
    monkeypatch.setattr(served_exchange, "IDLE_S", 0.05)
    for number in range(3):
        await append(drive, number)
        await trio.sleep(0.2)
    disk.hangs.clear()
    gathering = Gathering()
    begun = begin(drive, 3, gathering)
    with trio.fail_after(5):
        await drive.space()
    disk.hangs.set()
    await finish(gathering, begun)


async def test_an_error_where_it_is_heard_ends_the_call_and_not_the_node(
    drive: NodeDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(local: LocalDrive, *arguments: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(LocalDrive, "appending", broken)
        with pytest.raises(Exception, match="node"):
            await append(drive, 0)
    gathering = Gathering()
    await finish(gathering, begin_append(drive, 0, b"record", gathering, "j/00000002.000001"))


async def test_an_error_while_the_deputy_hears_does_not_make_the_node_deaf(
    drive: NodeDrive, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when no thread is to be had for a call."""
    monkeypatch.setattr(served_exchange, "SHORT_S", 10.0)
    await append(drive, 0)
    submit, failed = ThreadPoolExecutor.submit, threading.Event()

    def fails_once(*arguments: Any) -> Any:
        if threading.current_thread().name == "deputy" and not failed.is_set():
            failed.set()
            raise RuntimeError("can't start new thread")
        return submit(*arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", fails_once)
    disk.hangs.clear()
    gathering = Gathering()
    begun = begin(drive, 1, gathering)
    with trio.move_on_after(0.5):
        await drive.space()  # its call is the one that is lost
    assert failed.is_set()
    with trio.fail_after(5):
        await drive.space()
    disk.hangs.set()
    await finish(gathering, begun)
    await append(drive, 2)
