"""What all parts of heal share: the engine, where to look for drives, and which slots are just being taken in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from ecfs.commit.engine import Engine
from ecfs.drive.base import Drive
from ecfs.drive.wrapper import DriveWrapper
from ecfs.errors import DriveTimeoutError
from ecfs.geometry import Geometry
from ecfs.journal.opened import OpenedPool
from ecfs.pool.members import Member
from ecfs.stripes.fact import StripeFact

T = TypeVar("T")
OpenDrive = Callable[[str, int], Drive]
"""(url, slot) → a handle that is not attached yet."""


class Impatient(DriveWrapper):
    """Every operation under the drive's deadline, puts, syncs and appends too.

    For a drive that is not in W: nobody waits for it, so being late is its own fault and never a shared stall (R5).
    """

    async def around(self, operation: str, key: str | None, call: Callable[[], Awaitable[T]]) -> T:
        seconds = self.capabilities.deadline_s
        with trio.move_on_after(seconds):
            return await call()
        raise DriveTimeoutError(f"no answer to {operation} within {seconds:g} s", slot=self.slot, key=key)


@dataclass
class HealContext:
    """places: URLs where drives of the pool may be. entering: slots whose way into W is being committed; their gaps
    and state belong to whoever takes them in. nudge: something changed that repair should look at."""

    engine: Engine
    open_drive: OpenDrive
    places: Callable[[], Sequence[str]]
    entering: set[int] = field(default_factory=set)
    on_nudge: Callable[[], None] = lambda: None

    @property
    def pool(self) -> OpenedPool:
        return self.engine.pool

    def nudge(self) -> None:
        self.on_nudge()

    def workable(self) -> list[tuple[Member, Drive]]:
        """Members whose shards can be repaired now."""
        return [(member, drive) for member, drive in self.pool.members.drives() if member.slot not in self.entering]

    def fact(self, stripe: int) -> StripeFact | None:
        """A stripe that somebody still needs; None if it is dead by now, which is no finding (R13).

        Pin first, in the same step.
        """
        db = self.pool.db
        row = db.ledger.fact(stripe)
        if row is None or db.files.live(stripe) <= 0:
            return None
        return StripeFact(stripe, "s", self._geometry(row.geometry), row.length, row.hash)

    def _geometry(self, number: int) -> Geometry:
        pool = self.pool
        return pool.geometry if pool.geometry.id == number else pool.db.drives.geometries()[number]

    def paths_of(self, stripe: int, limit: int = 20) -> tuple[str, ...]:
        """Files that have bytes in a stripe."""
        inodes = dict.fromkeys(extent.ino for extent in self.pool.db.files.extents_of(stripe))
        paths = [self.pool.db.names.path_of(ino) for ino in list(inodes)[:limit]]
        # As text that can be sent and stored: the report would not reach whoever asked for it.
        return tuple(path.decode(errors="backslashreplace") for path in paths if path is not None)
