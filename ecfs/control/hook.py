"""The command that is run for every event, as mdadm has one: once per event, and none is lost while it fails.

What waits lies in a file on this host, not in the pool: the events that matter most are those of a pool that can't
store anything. The file is written before the command is run and again when it has succeeded, so only a daemon that
dies between the two tells one event twice, with the same id.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from ecfs.clock import Clock
from ecfs.control.hook_command import HookCommand, run_hook
from ecfs.control.hook_filter import Told
from ecfs.control.status import SECOND
from ecfs.pool.members import Event, Members

_log = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Events that wait while the command fails; of more, the newest, and how many were left out."""
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0


class Spool(msgspec.Struct):
    """What the file holds. waiting: oldest first; dropped: events left out since the last one that was told."""

    told: Told = msgspec.field(default_factory=Told)
    waiting: list[dict[str, Any]] = []
    dropped: int = 0


class Hook:
    """Hears of events, runs the command for each. Start `run` in a nursery; no failure of it ends the mount.

    facts: what else is said with each event, as of the moment the command is run. epoch: of this opening, which makes
    an event's number unique.
    """

    def __init__(
        self, command: HookCommand, path: Path, *, clock: Clock, epoch: int, facts: Callable[[], dict[str, Any]]
    ) -> None:
        self._command = command
        self._path = path
        self._clock = clock
        self._epoch = epoch
        self._facts = facts
        self._spool = Spool()
        self._changed = trio.Event()
        self._idle = trio.Event()
        self.failures = 0
        """Runs of the command that failed, or could not be begun."""
        self.last_failure = ""

    @property
    def waiting(self) -> int:
        return len(self._spool.waiting)

    # ---- hearing ------------------------------------------------------------------------------------------

    def listen(self, members: Members) -> None:
        """Hear of what happens from now on, and of what is not as it was when the last mount ended."""
        self._spool = _read(self._path)
        for member in members:
            if self._spool.told.state_of(member.slot) != member.state:
                why = f": {member.reason}" if member.reason else ""
                text = f"{member.state} when the pool was mounted{why}"
                self.heard(Event(self._clock.wall_ns(), member.slot, member.state, text))
        members.listeners.append(self.heard)

    def heard(self, event: Event) -> None:
        """Put it into the queue, unless it says the same as the last one of its kind."""
        if not self._spool.told.is_news(event):
            return
        waiting = self._spool.waiting
        waiting.append({
            "id": f"{self._epoch}-{event.number}" if event.number else f"{self._epoch}-0-{event.slot}",
            "at": event.at_ns // SECOND, "slot": event.slot, "kind": event.kind, "text": event.text,
        })  # fmt: skip
        while len(waiting) > MAX_WAITING:
            waiting.pop(0)
            self._spool.dropped += 1
        self._changed.set()

    # ---- telling ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        delay = FIRST_RETRY_S
        while True:
            await self._save()
            if not self.waiting:
                self._idle.set()
                await self._changed.wait()
                self._idle = trio.Event()
                self._changed = trio.Event()
                continue
            if await self._tell(self._spool.waiting[0]):
                delay = FIRST_RETRY_S
                continue
            with trio.move_on_after(delay):
                await self._save_what_comes()
            delay = min(2 * delay, LAST_RETRY_S)

    async def _save_what_comes(self) -> None:
        """What happens while the command fails must outlive us, too."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            await self._save()

    async def _tell(self, fact: dict[str, Any]) -> bool:
        dropped = self._spool.dropped
        failure = await run_hook(self._command, {**fact, "dropped": dropped, **self._facts()})
        if failure:
            self.failures += 1
            self.last_failure = failure
            _log.warning("on_event: %s; %d events wait", failure, self.waiting)
            return False
        if self.waiting and self._spool.waiting[0] is fact:  # else the queue overflowed meanwhile and dropped it
            self._spool.waiting.pop(0)
        self._spool.dropped -= dropped
        return True

    async def drained(self, seconds: float) -> None:
        """Return when all was told, at the latest after `seconds`; what is left is told by the next mount."""
        with trio.move_on_after(seconds):
            await self._idle.wait()

    async def close(self) -> None:
        """After `run` has ended: what is left waits for the next mount."""
        await self._save()

    async def _save(self) -> None:
        """A full or broken disk here must not keep the command from being run."""
        data = msgspec.json.encode(self._spool)
        try:
            await trio.to_thread.run_sync(_write, self._path, data)
        except OSError as error:
            _log.warning("on_event: %s can't be written: %s", self._path, error)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        temporary.chmod(0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _read(path: Path) -> Spool:
    """What the last mount left. A file that is damaged counts as none: drives that are out are told again."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Spool)
    except FileNotFoundError:
        return Spool()
    except (OSError, msgspec.MsgspecError) as error:
        _log.warning("on_event: %s can't be read (%s); beginning anew", path, error)
        return Spool()
