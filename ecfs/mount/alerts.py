"""The on_event command of a mounted pool: whether it may be run, where its queue lies, and for how long it is heard."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from ecfs.clock import Clock
from ecfs.control.hook import Hook
from ecfs.control.hook_command import HookCommand, run_hook
from ecfs.control.status import SECOND, Status
from ecfs.control.verdict import verdict
from ecfs.errors import RefusedError
from ecfs.journal.opened import OpenedPool
from ecfs.mount.locate import state_directory
from ecfs.pool.poolfile import PoolFile

_log = logging.getLogger(__name__)

LAST_S = 5.0
"""How long the end of a mount waits for the command, so that even an event of the end is told now."""
AGAIN_S = 60.0
UNMOUNTED = {"state": "unmounted", "headline": "", "actions": []}


def command_of(file: PoolFile) -> HookCommand | None:
    """The command, if there is one. Raises RefusedError if somebody else could have written it."""
    if file.alerts is None:
        return None
    found = os.stat(file.path)
    if found.st_uid not in (0, os.geteuid()) or stat.S_IMODE(found.st_mode) & 0o022:
        raise RefusedError(
            f"on_event is not run, because others can write to {file.path}: chown it to the user who mounts, chmod 644"
        )
    return HookCommand(file.alerts.on_event, file.alerts.timeout_s)


class Alerts:
    """The hook of one mount. `status` is set while the pool can be asked."""

    def __init__(self, file: PoolFile, command: HookCommand, name: str, mountpoint: str, pool: OpenedPool) -> None:
        self.status: Callable[[], Status] | None = None
        self._command = command
        self._name = name
        self._mountpoint = mountpoint
        self._clock = pool.clock
        path = state_directory() / f"{file.pool_id[:16]}.alerts"
        self.hook = Hook(command, path, clock=pool.clock, epoch=pool.writer.epoch, facts=self._facts)

    def _facts(self) -> dict[str, Any]:
        return {
            "pool": self._name,
            "mountpoint": self._mountpoint,
            **(now(self.status(), self._name) if self.status else UNMOUNTED),
        }

    async def test(self) -> str:
        """Run the command with a test; why it failed, "" if it did not."""
        return await run_hook(self._command, {**test_event(self._clock), **self._facts()})


def now(status: Status, name: str) -> dict[str, Any]:
    """How the pool is at this moment, in the words of `ecfs status`."""
    said = verdict(status, name)
    return {"state": status["state"], "headline": said.headline, "actions": said.actions}


def test_event(clock: Clock) -> dict[str, Any]:
    return {
        "id": "test", "at": clock.wall_ns() // SECOND, "slot": None, "kind": "test",
        "text": "a test: nothing has happened", "dropped": 0,
    }  # fmt: skip


@asynccontextmanager
async def run_alerts(
    file: PoolFile, name: str, mountpoint: str, pool: OpenedPool, say: Callable[[str], None]
) -> AsyncIterator[Alerts | None]:
    """Hear of events for the time of the block and a little longer. None where there is no command to run."""
    try:
        command = command_of(file)
    except (RefusedError, OSError) as error:
        say(f"warning: {error}")
        pool.members.note(None, "alerts", str(error))
        command = None
    if command is None:
        yield None
        return
    alerts = Alerts(file, command, name, mountpoint, pool)
    alerts.hook.listen(pool.members)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run, alerts.hook)
        yield alerts
        alerts.status = None
        await alerts.hook.drained(LAST_S)
        nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await alerts.hook.close()


async def _run(hook: Hook) -> None:
    """A bug here must not end the mount, nor, as long as that lives, what is told."""
    while True:
        try:
            await hook.run()
        except Exception:
            _log.exception("on_event: unexpected error; begun again in %g s", AGAIN_S)
        await trio.sleep(AGAIN_S)
