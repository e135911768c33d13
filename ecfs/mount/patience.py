"""Waiting for the daemon of the last mount to end (R14): umount(8) returns before it has stored everything."""

from __future__ import annotations

import os
import select
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ecfs.control.runtime import LEAVING, MOUNTED, Mounted, running
from ecfs.errors import PoolLockedError
from ecfs.mount.mountpoint import mount_on

T = TypeVar("T")
Tell = Callable[[str], None]
"""Says one line to the person who waits."""

LEAVING_S = 30.0
"""How long to wait for a daemon that is about to end."""
UNKNOWN_S = 1.0
"""How long for anybody else who has a drive: a killed process keeps its locks for a moment."""
LOOK_AGAIN_S = 0.1


def is_leaving(daemon: Mounted) -> bool:
    """Whether it says so, or its folder is unmounted and it has not noticed yet."""
    return daemon.state == LEAVING or (daemon.state == MOUNTED and mount_on(daemon.mountpoint) is None)


async def patiently(pool_id: str, tell: Tell, attempt: Callable[[], Awaitable[T]]) -> T:
    """attempt() again and again while somebody who is about to leave has the pool. Raises PoolLockedError."""
    began, told = trio.current_time(), False
    while True:
        try:
            return await attempt()
        except PoolLockedError:
            daemons = [each for each in running() if each.pool_id == pool_id]
            leaving = [each for each in daemons if is_leaving(each)]
            patience = LEAVING_S if leaving else 0.0 if daemons else UNKNOWN_S
            if trio.current_time() - began > patience:
                raise
            if leaving and not told:
                tell(f"waiting for process {leaving[0].pid}, which is storing what the last mount left")
                told = True
        await trio.sleep(LOOK_AGAIN_S)


def wait_for_end(pid: int, seconds: float) -> bool:
    """Until a process has ended, which need not be a child of ours; False if it takes longer."""
    try:
        descriptor = os.pidfd_open(pid)
    except (ProcessLookupError, PermissionError):
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
