"""Every state a pool can be in, as the data that `ecfs status --json` gives. What a tired person reads of each lies
beside this file: NAME.json and NAME.txt."""

from __future__ import annotations

import copy
from typing import Any

from ecfs.control.status import failed_status, seen_drive, state_of

GIB = 1 << 30
NOW = 1_764_080_000
"""The moment at which all of these were looked at, seconds since 1970."""
N = 6

Status = dict[str, Any]


def _healthy() -> Status:
    return {
        "schema": 1,
        "state": "healthy",
        "pool": {"id": "ab" * 16, "data": 4, "parity": 2, "mountpoint": "/mnt/pool", "path": "/srv/pool"},
        "drives": [_online(slot) for slot in range(N)],
        "stripes": {"total": 900, "full": 900, "missing": 0, "unknown": 0, "lost": 0, "with_shards": {"6": 900}},
        "may_lose": 2,
        "capacity": {"total": 400 * GIB, "used": 3 * GIB, "free": 397 * GIB, "files": 1200},
        "scrub": {
            "running": False, "paused": False, "interrupted": False, "progress": None, "position": None,
            "rate_limit": None, "last_finished": NOW - 3 * 86400, "checked": 5400, "repaired": 0, "lost": 0,
        },
        "replace": {
            "running": False, "interrupted": False, "slot": None, "url": None, "progress": None,
        },
        "drill": {
            "running": False, "progress": None, "interrupted": False, "last_started": NOW - 9 * 86400,
            "last_finished": NOW - 9 * 86400 + 600, "proven": 0.987, "decoded": 30, "full": False,
        },
        "repairs": {"done": 0, "waiting": 0, "undecodable": 0},
        "commits": {"last": NOW - 4, "stalled": "", "stalled_since": None, "fenced": ""},
        "memory": {
            "dirty": {"used": 0, "limit": 32 << 20}, "sealed": {"used": 0, "limit": 32 << 20},
            "journal": {"used": 3 << 20, "limit": 64 << 20}, "inline": {"used": 20_000, "limit": 64 << 20},
            "cache": {"used": 9 << 20, "limit": 32 << 20}, "short": {"used": 0, "limit": 32 << 20},
            "stripes_waiting": {"used": 0, "limit": None}, "repairs_waiting": {"used": 0, "limit": 1000},
        },
        "risks": [],
        "notes": [],
    }  # fmt: skip


def _online(slot: int) -> Status:
    return {
        "slot": slot, "url": f"/mnt/disk{slot}/ecfs", "state": "online", "usable": True, "reason": "",
        "since": NOW - 86400, "total": 100 * GIB, "free": 99 * GIB, "full": False, "errors": {},
        "latency": {"read": 0.0042, "put": 0.021, "append": 0.011}, "behind": {"stripes": 0, "bytes": 0},
    }  # fmt: skip


def changed(*changes: tuple[str, Any]) -> Status:
    """The healthy status with members set, by paths such as "stripes.missing"; the state follows."""
    status = _healthy()
    for path, value in changes:
        *way, last = path.split(".")
        place: Any = status
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        place[int(last) if isinstance(place, list) else last] = copy.deepcopy(value)
    status["state"] = state_of(status)
    return status


def away(slot: int, reason: str, state: str = "absent") -> list[tuple[str, Any]]:
    """A drive that can't be used; all 900 stripes lack their shards there."""
    values = {
        "state": state, "reason": reason, "usable": False, "since": NOW - 720, "free": None, "total": None,
        "errors": {"DriveUnreachable": 1}, "latency": {"read": None, "put": None, "append": None},
    }  # fmt: skip
    return [(f"drives.{slot}.{key}", value) for key, value in values.items()]


def full(slot: int) -> list[tuple[str, Any]]:
    return [(f"drives.{slot}.free", 60 << 20), (f"drives.{slot}.full", True)]


def stalled(reason: str) -> list[tuple[str, Any]]:
    return [("commits.stalled", reason), ("commits.stalled_since", NOW - 90), ("commits.last", NOW - 95)]


def stripes(with_shards: dict[int, int], **counts: int) -> list[tuple[str, Any]]:
    """How many stripes have how many shards; `unknown` and `lost` as given, the others follow."""
    unknown, lost = counts.get("unknown", 0), counts.get("lost", 0)
    full = with_shards.get(N, 0)
    sums = {"full": full, "unknown": unknown, "lost": lost, "missing": 900 - full - unknown - lost}
    found = [(f"stripes.{key}", value) for key, value in sums.items()]
    return [*found, ("stripes.with_shards", {str(number): count for number, count in with_shards.items()})]


def running(phase: str) -> Status:
    return {
        "phase": phase, "bytes_done": 2 * GIB, "bytes_total": 5 * GIB, "checked": 2160, "found": 3, "repaired": 3,
        "rate": 120.0 * (1 << 20), "eta_s": 25.6,
    }  # fmt: skip


def _failed() -> Status:
    drives = [seen_drive(slot, f"/mnt/disk{slot}/ecfs", "online", "") for slot in range(N)]
    for slot in (1, 3, 4):
        drives[slot] = seen_drive(
            slot, f"/mnt/disk{slot}/ecfs", "absent", f"there is no directory /mnt/disk{slot}/ecfs"
        )
    why = "3 drives can be used, 4 are needed"
    status = failed_status(4, 2, "ab" * 16, drives, [why])
    status["pool"] |= {"path": "/srv/pool", "mountpoint": None}
    return status


def _gone(slot: int) -> list[tuple[str, Any]]:
    return away(slot, f"there is no directory /mnt/disk{slot}/ecfs")


STATES: dict[str, Status] = {
    "healthy": changed(),
    "healthy-shared-disk": changed(
        ("risks", ["drives 0, 1, 2, 3, 4, 5 share one disk (sda): the pool survives the loss of any 2 drives, but not "
                   "of that disk"]), ("drill.last_finished", None), ("scrub.last_finished", None),
    ),
    "degraded-by-one": changed(*_gone(3), *stripes({5: 900}), ("may_lose", 1)),
    "degraded-by-two": changed(*_gone(0), *_gone(3), *stripes({4: 900}), ("may_lose", 0)),
    "failed": _failed(),
    "failed-mounted": changed(*_gone(0), *_gone(1), *_gone(3), *stripes({3: 900}, lost=900), ("may_lose", 0),
        *stalled("only 3 drives can be written, 4 are needed")),
    "wrong-drive": changed(
        *away(1, "belongs to another pool (0f3c9a11)", "wrong"), *stripes({5: 900}), ("may_lose", 1)
    ),
    "stale-copy": changed(
        *away(1, "two drives have this identity: one is a copy; take it away", "wrong"), *stripes({5: 900}),
        ("may_lose", 1),
    ),
    "unmounted-disk": changed(
        *away(1, "empty: is its disk mounted?"), *stripes({5: 900}), ("may_lose", 1)
    ),
    "full": changed(("capacity.free", 0), *full(2)),
    "behind": changed(
        ("drives.2.state", "behind"), ("drives.2.behind", {"stripes": 120, "bytes": 120 << 20}),
        *stripes({6: 780, 5: 120}), ("may_lose", 1), ("repairs.done", 40),
    ),
    "not-verified": changed(
        ("drives.2.state", "behind"), ("drives.2.behind", {"stripes": 300, "bytes": 300 << 20}),
        *stripes({6: 600, 5: 300}, unknown=300), ("may_lose", 1),
    ),
    "scrubbing": changed(
        ("scrub.running", True), ("scrub.progress", running("stripes")), ("scrub.position", 2 * GIB),
        ("scrub.rate_limit", 120.0 * (1 << 20)),
    ),
    "scrub-paused": changed(("scrub.paused", True), ("scrub.position", 2 * GIB)),
    "scrub-needed": changed(*stripes({6: 880, 5: 20}), ("may_lose", 1)),
    "replacing": changed(
        *_gone(3), *stripes({5: 900}), ("may_lose", 1), ("replace.running", True),
        ("replace.slot", 3), ("replace.url", "/mnt/new/ecfs"),
        ("replace.progress", running("filling")),
    ),
    "replacement-interrupted": changed(
        ("replace.interrupted", True), ("replace.slot", 3), ("replace.url", "/mnt/new/ecfs"),
    ),
    "replacement-interrupted-and-drive-dead": changed(
        *_gone(3), *stripes({5: 900}), ("may_lose", 1),
        ("replace.interrupted", True), ("replace.slot", 3), ("replace.url", "/mnt/new/ecfs"),
    ),
    "found-bad-by-reading": changed(("repairs.waiting", 1), ("memory.repairs_waiting.used", 1)),
    "stalled": changed(
        *stalled("stripe 0000000700000012 found room on too few drives"),
        ("capacity.free", 0), *[each for slot in (0, 2, 5) for each in full(slot)],
        ("memory.dirty.used", 12 << 20), ("memory.sealed.used", 8 << 20), ("memory.stripes_waiting.used", 2),
    ),
    "stalled-by-silence": changed(
        *stalled("drives 0, 1 and 4 did not answer in time"),
        ("memory.dirty.used", 12 << 20), ("memory.sealed.used", 8 << 20), ("memory.stripes_waiting.used", 2),
    ),
    "fenced": changed(
        ("commits.fenced", "epoch 7 belongs to another writer"),
        *stalled("epoch 7 belongs to another writer"),
    ),
    "damaged-beyond-repair": changed(
        *stripes({6: 898, 3: 2}, lost=2), ("repairs.undecodable", 2), ("may_lose", 0), ("scrub.lost", 2),
    ),
    "interrupted-join": changed(
        *away(4, "was being added when the pool stopped", "joining"), *stripes({5: 900}), ("may_lose", 1),
    ),
}  # fmt: skip
"""What is the matter → the status."""
