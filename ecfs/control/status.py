"""What a pool says of itself, as data: the one source of `ecfs status`, its JSON and everything built on it.

Schema 1. Times are whole seconds since 1970, sizes are bytes, null means "not known". Members are only ever added.
"Healthy" is said only of what is known: every drive online, no shard missing, none known bad, none unverified
(promise 6). When it was last verified is a figure of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ecfs.commit.engine import Engine
from ecfs.commit.space import Usable
from ecfs.heal.report import ScrubProgress
from ecfs.journal.opened import OpenedPool
from ecfs.pool.members import Member

SCHEMA = 1
HEALTHY, DEGRADED, FAILED = "healthy", "degraded", "failed"
WORST = 256
"""Stripes that are looked at for `may_lose`, the most endangered first."""
SECOND = 1_000_000_000

Status = dict[str, Any]


@dataclass(frozen=True)
class Healing:
    """What is being repaired. done: shards since the pool was opened; waiting: shards that reads found bad;
    undecodable: stripes that could not be decoded when last tried; running: a scrub, replacement or drill;
    drilling: it is a drill."""

    running: ScrubProgress | None = None
    done: int = 0
    waiting: int = 0
    undecodable: int = 0
    drilling: bool = False


NO_HEALING = Healing()
NO_DRILL: Status = {"running": False, "progress": None, "interrupted": False} | dict.fromkeys(
    ("last_started", "last_finished", "proven", "decoded", "full")
)


def build_status(
    pool: OpenedPool,
    *,
    usable: Usable | None,
    engine: Engine | None = None,
    healing: Healing = NO_HEALING,
) -> Status:
    """engine: of a pool that this process works on; healing: what is being repaired there."""
    status: Status = {
        "schema": SCHEMA,
        "state": "",
        "pool": {"id": pool.pool_id.hex(), "data": pool.geometry.k, "parity": pool.geometry.m},
        "drives": [_drive(member) for member in pool.members],
        "stripes": pool.db.ledger.counts(pool.members.out_slots())._asdict(),
        "may_lose": max(0, pool.geometry.m - _most_lacking(pool)),
        "capacity": _capacity(pool, usable),
        "scrub": _scrub(None if healing.drilling else healing.running, pool.db.drives.setting("scrub")),
        "drill": _drill(pool, healing),
        "repairs": {"done": healing.done, "waiting": healing.waiting, "undecodable": healing.undecodable},
        "commits": _commits(engine),
        "memory": _memory(pool, engine),
        "notes": list(pool.notes),
    }
    status["state"] = state_of(status)
    return status


def state_of(status: Status) -> str:
    """The one word. Failed: something can't be read or written as promised right now."""
    online = [drive for drive in status["drives"] if drive["usable"]]
    stripes, commits, repairs = status["stripes"], status["commits"], status["repairs"]
    if len(online) < status["pool"]["data"] or stripes["total"] is None:
        return FAILED
    if stripes["lost"] or repairs["undecodable"] or commits["stalled"] or commits["fenced"]:
        return FAILED
    whole = all(drive["state"] == "online" for drive in status["drives"])
    return HEALTHY if whole and stripes["full"] == stripes["total"] and not repairs["waiting"] else DEGRADED


def _most_lacking(pool: OpenedPool) -> int:
    """Shards that the most endangered stripe can't count on, unverified ones too. `may_lose` is what is left of m."""
    out = pool.members.out_slots()
    return max((len(lacking | out) for _, lacking in pool.db.ledger.todo(WORST)), default=len(out))


def _drive(member: Member) -> Status:
    return {
        "slot": member.slot,
        "url": member.url,
        "state": member.state,
        "usable": member.up,
        "reason": member.reason,
        "since": member.since_ns // SECOND or None,
        "total": member.space.total if member.space else None,
        "free": member.space.free if member.space else None,
        "errors": dict(member.errors),
    }


def _capacity(pool: OpenedPool, usable: Usable | None) -> Status:
    """total and free are what the drives have room for; used is what files and their old versions hold of it now."""
    return {
        "total": usable.total if usable else None,
        "used": pool.db.ledger.total_length() + pool.db.files.inline_total,
        "free": usable.free if usable else None,
        "files": pool.db.names.counts()[0],
    }


def _scrub(running: ScrubProgress | None, finished: Status | None) -> Status:
    """finished: what the last complete scrub left in the metadata."""
    return {
        "running": running is not None,
        "progress": progress_json(running) if running else None,
        "last_finished": finished["last_finished"] // SECOND if finished else None,
        "checked": finished["checked"] if finished else None,
        "repaired": finished["repaired"] if finished else None,
        "lost": finished["lost"] if finished else None,
    }


def _drill(pool: OpenedPool, healing: Healing) -> Status:
    """proven: share of all stripe bytes that the last complete drill has shown to survive the loss of any m drives.

    What was written since counts as not proven. started: of the oldest part, so it is the age of the result.
    """
    result = pool.db.drives.setting("drill")
    running = healing.running if healing.drilling else None
    return {
        "running": running is not None,
        "progress": progress_json(running) if running else None,
        "interrupted": pool.db.drives.setting("drill_progress") is not None and running is None,
        "last_started": result["started"] // SECOND if result else None,
        "last_finished": result["finished"] // SECOND if result else None,
        "proven": _proven(pool, result) if result else None,
        "decoded": result["decoded"] if result else None,
        "full": result["full"] if result else None,
    }


def _proven(pool: OpenedPool, result: Status) -> float:
    ledger = pool.db.ledger
    total = ledger.total_length()
    proven = ledger.length_to(result["after"]) - (result["bytes"] - result["proven_bytes"])
    return max(0, proven) / total if total else 1.0


def progress_json(progress: ScrubProgress) -> Status:
    return {name: getattr(progress, name) for name in ScrubProgress.__dataclass_fields__}


def _commits(engine: Engine | None) -> Status:
    """stalled: why nothing becomes durable now; since when it has not."""
    return {
        "last": engine.last_commit_ns // SECOND or None if engine else None,
        "stalled": engine.stalled if engine else "",
        "stalled_since": engine.stalled_since_ns // SECOND if engine and engine.stalled else None,
        "fenced": engine.fenced if engine else "",
    }


def _memory(pool: OpenedPool, engine: Engine | None) -> Status:
    """What is held against its bound; nothing of an unmounted pool."""
    if engine is None:
        return {}
    settings = pool.settings
    return {
        "dirty": {"used": engine.dirty.total, "limit": settings.dirty_limit},
        "sealed": {"used": engine.sealed.bytes, "limit": settings.sealed_limit},
        "journal": {"used": pool.journal_bytes, "limit": settings.journal_limit},
        "inline": {"used": pool.db.files.inline_total, "limit": settings.inline_limit},
        "stripes_waiting": {"used": len(engine.sealed), "limit": None},
    }


def failed_status(k: int, m: int, pool_id: str, drives: list[Status], notes: list[str]) -> Status:
    """Of a pool that can't be opened: what was seen of its drives, and that nothing else is known."""
    unknown = dict.fromkeys(("total", "full", "missing", "unknown", "lost"))
    return {
        "schema": SCHEMA,
        "state": FAILED,
        "pool": {"id": pool_id, "data": k, "parity": m},
        "drives": drives,
        "stripes": unknown,
        "may_lose": 0,
        "capacity": dict.fromkeys(("total", "used", "free", "files")),
        "scrub": _scrub(None, None),
        "drill": NO_DRILL,
        "repairs": {"done": 0, "waiting": 0, "undecodable": 0},
        "commits": _commits(None),
        "memory": {},
        "notes": notes,
    }


def seen_drive(slot: int, url: str, state: str, reason: str) -> Status:
    """A drive of a pool that can't be opened."""
    return {
        "slot": slot, "url": url, "state": state, "usable": state == "online", "reason": reason, "since": None,
        "total": None, "free": None, "errors": {},
    }  # fmt: skip
