"""R14: umount(8) returns before the daemon has stored everything, so the next mount waits for it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from ecfs.control.runtime import LEAVING, MOUNTED, Mounted
from ecfs.errors import PoolLockedError
from ecfs.mount import patience
from ecfs.mount.patience import LEAVING_S, patiently

POOL = "11" * 16


def daemons(monkeypatch: pytest.MonkeyPatch, *states: str) -> None:
    """What runs on this machine; a folder that is still mounted belongs to those that say MOUNTED."""
    found = [Mounted(POOL, "/d/pool.toml", "/m", pid, state) for pid, state in enumerate(states, 100)]
    monkeypatch.setattr(patience, "running", lambda: found)
    monkeypatch.setattr(patience, "mount_on", lambda mountpoint: "/m")


async def mount(locked_s: float) -> tuple[float, list[str]]:
    """How long it took to get the drives, which somebody holds for a while, and what was said."""
    said: list[str] = []
    began = trio.current_time()

    async def attempt() -> float:
        if trio.current_time() - began < locked_s:
            raise PoolLockedError("drive 0 is locked")
        return trio.current_time() - began

    return await patiently(POOL, said.append, attempt), said


async def test_r14_a_mount_waits_for_a_daemon_that_is_leaving_and_says_so_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemons(monkeypatch, LEAVING)
    took, said = await mount(20)
    assert 20 <= took < 21
    assert said == ["waiting for process 100, which is storing what the last mount left"]
    with pytest.raises(PoolLockedError):
        await mount(LEAVING_S + 5)


async def test_r14_a_pool_that_somebody_has_mounted_is_not_waited_for(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemons(monkeypatch, MOUNTED)
    with pytest.raises(PoolLockedError):
        await mount(0.5)


async def test_r14_the_locks_of_a_killed_process_are_waited_for_shortly(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemons(monkeypatch)
    took, said = await mount(0.5)
    assert (0.5 <= took < 1, said) == (True, [])
