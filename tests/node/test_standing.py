"""A node that is asked to end, and calls that stay open."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from ecfs.drive.begun import Gathering
from ecfs.drive.local import LocalDrive
from ecfs.drive.node import NodeDrive
from ecfs.rpc import served_exchange
from tests.node.begun import begin_append
from tests.nodes import ThreadNode


@pytest.mark.parametrize("short", [True, False], ids=["where it is heard", "in the call's thread"])
async def test_an_answer_on_its_way_is_not_broken_off(
    node: ThreadNode, drive: NodeDrive, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The append is made, and its client would take it for failed."""
    at_work, go_on, appending = threading.Event(), threading.Event(), LocalDrive.appending

    def slow(local: LocalDrive, *arguments: Any) -> Any:
        at_work.set()
        go_on.wait(10)
        return appending(local, *arguments)

    if not short:
        monkeypatch.setattr(served_exchange.Hearing, "do", lambda *_: False)
    monkeypatch.setattr(LocalDrive, "appending", slow)
    gathering = Gathering()
    begun = begin_append(drive, 0, b"record", gathering)
    assert await trio.to_thread.run_sync(at_work.wait, 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, node.stop)
        await trio.sleep(0.3)
        go_on.set()
        with trio.fail_after(20):
            await gathering.wait()
    begun.result()
