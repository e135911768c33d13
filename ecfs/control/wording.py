"""Small words that several texts share."""

from __future__ import annotations

from collections.abc import Sequence

from ecfs.control.status import Status


def away(status: Status) -> list[Status]:
    """Drives that can't be used now."""
    return [drive for drive in status["drives"] if not drive["usable"]]


def drives_named(drives: Sequence[Status]) -> str:
    """ "drive 3", "drives 0, 3 and 4"."""
    slots = [str(drive["slot"]) for drive in drives]
    return f"drive {slots[0]}" if len(slots) == 1 else f"drives {', '.join(slots[:-1])} and {slots[-1]}"


def count(number: int, noun: str) -> str:
    """1 → "1 shard"; 1234 → "1,234 shards"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
