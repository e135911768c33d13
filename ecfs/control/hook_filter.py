"""Which events are news: nobody wants a message per second from a drive that reports the same thing again."""

from __future__ import annotations

import msgspec

from ecfs.pool.members import DRIVE_STATES, Event

COMMITS = frozenset({"stalled", "recovered", "fenced"})
"""One state of the pool, told by its changes, as the state of a drive is."""
REPEAT_NS = 3600 * 1_000_000_000
"""Between two of the same words about something that has no state."""
MAX_KEPT = 200
ONLINE = "online"


class Told(msgspec.Struct):
    """What was told last. drives: state by slot, as text; commits: "", or one of COMMITS; words: (when, text) by kind
    and slot."""

    drives: dict[str, str] = msgspec.field(default_factory=dict)
    commits: str = ""
    words: dict[str, tuple[int, str]] = msgspec.field(default_factory=dict)

    def state_of(self, slot: int) -> str:
        """Of a drive that was never spoken of: online, as all are when a pool is made."""
        return self.drives.get(str(slot), ONLINE)

    def is_news(self, event: Event) -> bool:
        """Whether this says something new; from then on it is old."""
        if event.slot is not None and event.kind in DRIVE_STATES:
            return self._changed(event.slot, event.kind)
        if event.kind in COMMITS:
            before, self.commits = self.commits, event.kind
            return before != event.kind
        return self._said(event)

    def _changed(self, slot: int, state: str) -> bool:
        before, self.drives[str(slot)] = self.state_of(slot), state
        return before != state

    def _said(self, event: Event) -> bool:
        key = f"{event.kind} {event.slot}"
        when, text = self.words.pop(key, (0, ""))
        self.words[key] = (event.at_ns, event.text)
        while len(self.words) > MAX_KEPT:
            del self.words[next(iter(self.words))]
        return text != event.text or not 0 <= event.at_ns - when < REPEAT_NS
