"""What happened to the pool and its drives, kept with the metadata on every drive: the newest `KEPT` events.

Each is a setting of its own, "event/NUMBER", so that a commit carries only what is new and names what it drops. Events
never ask for a commit: they go with the next one, and a drive that comes or goes causes one anyway. What a crash can
take are events that changed nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import msgspec

from ecfs.meta.drives import Drives
from ecfs.pool.members import Event, Members

PREFIX = "event/"
KEPT = 1000
AT_ONCE = 200
"""Events that one commit takes; of more, the newest. A flapping drive must not fill a record."""
TEXT = 400
"""Characters of an event's text that are kept."""

Stored = tuple[int, int | None, str, str]
"""at_ns, slot, kind, text."""


class EventLog:
    """Numbers go on over openings; a number that is missing was dropped."""

    def __init__(self, members: Members, drives: Drives) -> None:
        self._drives = drives
        self._members = members
        self._kept: deque[int] = deque(_numbers(drives))
        self._base = self._kept[-1] if self._kept else 0
        self._new: deque[Event] = deque(maxlen=AT_ONCE)
        for event in members.events:
            self._note(event)
        members.listeners.append(self._note)

    def _note(self, event: Event) -> None:
        self._new.append(replace(event, number=self._base + event.number))

    def take(self) -> dict[str, Any]:
        """Settings for the next outcome: what is new, and None for what is too old. Stored for sure once that is
        committed; a commit that fails is tried again as it is, so nothing is lost with it."""
        settings: dict[str, Any] = {}
        while self._new:
            event = self._new.popleft()
            settings[_name(event.number)] = (event.at_ns, event.slot, event.kind, event.text[:TEXT])
            self._kept.append(event.number)
        while len(self._kept) > KEPT:
            settings[_name(self._kept.popleft())] = None
        return settings

    def newest(self, limit: int) -> list[Event]:
        """Oldest first; those that no commit has taken yet, too."""
        before = [event for event in stored_events(self._drives) if event.number <= self._base]
        now = [replace(event, number=self._base + event.number) for event in self._members.events]
        return [*before, *now][-limit:]


def stored_events(drives: Drives) -> list[Event]:
    """All that the metadata have, oldest first."""
    found = []
    for name, value in drives.settings_like(PREFIX):
        at_ns, slot, kind, text = msgspec.convert(value, Stored)
        found.append(Event(at_ns, slot, kind, text, int(name.removeprefix(PREFIX))))
    return found


def _numbers(drives: Drives) -> list[int]:
    return [int(name.removeprefix(PREFIX)) for name, _ in drives.settings_like(PREFIX)]


def _name(number: int) -> str:
    return f"{PREFIX}{number:012d}"
