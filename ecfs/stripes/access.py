"""The drives as the stripe store sees them; `pool/` implements it and judges what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ecfs.drive.base import Drive
from ecfs.errors import DriveError


class DriveAccess(Protocol):
    """Slot → drive. No method waits."""

    def readable(self, slot: int) -> Drive | None:
        """The drive to read from, or None if it should not be asked now (absent, wrong, behind, taken out)."""

    def drive_failed(self, slot: int, error: DriveError) -> None:
        """An operation failed, and the reason is the drive's, not one shard's: unreachable, late, wrong, fenced."""

    def drive_answered(self, slot: int) -> None:
        """A read was answered: time-outs are counted in a row."""

    def latency_p95(self, slot: int) -> float:
        """Seconds within which 95 % of the drive's recent reads were answered; 0 if not known."""


OnBad = Callable[[int, int, DriveError], None]
"""Called with (stripe id, slot, ShardMissingError or ShardCorruptError) for a shard that heal should look at.

Called from inside a read, so it must neither wait nor raise. The verdict is to be rechecked against the current row:
the stripe may be dead by now (R13).
"""


def ignore_bad(stripe_id: int, slot: int, error: DriveError) -> None:
    """An `OnBad` for callers that don't heal, such as an offline `get`."""
