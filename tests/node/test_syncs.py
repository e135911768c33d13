"""Syncs of a node that nobody waits for any more."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from ecfs.drive.node import NodeDrive
from ecfs.errors import DriveUnreachableError

KEY = "s/00000002/00000000"


def held_fsync(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, fails: bool
) -> tuple[threading.Event, threading.Event]:
    """The fsync of KEY on the node: (it has begun, let it go on)."""
    real, go_on, begun = os.fsync, threading.Event(), threading.Event()

    def fsync(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path / "drive" / KEY):
            begun.set()
            go_on.wait(30)
            if fails:
                raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return begun, go_on


@pytest.mark.parametrize("fails", [True, False])
async def test_what_becomes_of_a_sync_that_was_given_up_is_told_to_the_next(
    drive: NodeDrive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """It goes on over there. When it failed, the next one found nothing to do and said that all was durable."""
    await drive.put(KEY, [b"data"])
    begun, go_on = held_fsync(monkeypatch, tmp_path, fails=fails)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drive.sync)
            await trio.to_thread.run_sync(begun.wait)
            scope.cancel()
    go_on.set()
    if fails:
        with pytest.raises(DriveUnreachableError, match="don't count"):
            await drive.sync()
    await drive.sync()  # whoever asked has heard of it


async def test_a_sync_beside_one_that_fails_is_told(
    drive: NodeDrive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds nothing to do over there, and its answer may be here first."""
    await drive.put(KEY, [b"data"])
    begun, go_on = held_fsync(monkeypatch, tmp_path, fails=True)
    outcomes: list[str] = []

    async def sync() -> None:
        with pytest.raises(DriveUnreachableError) as error:
            await drive.sync()
        outcomes.append(str(error.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync)
        await trio.to_thread.run_sync(begun.wait)
        nursery.start_soon(sync)
        await trio.testing.wait_all_tasks_blocked(0.1)
        go_on.set()
    assert ["errno EIO" in each for each in outcomes] != ["don't count" in each for each in outcomes]
    await drive.sync()  # whoever asked has heard of it
