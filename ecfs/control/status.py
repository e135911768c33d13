"""What a pool says of itself, as data: the one source of `ecfs status`, its JSON and everything built on it.

Schema 1. Times are whole seconds since 1970, sizes are bytes, null means "not known". Members are only ever added.
"Healthy" is said only of what is known: every drive online, no shard missing, none known bad, none unverified
(promise 6). When it was last verified is a figure of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ecfs.commit.engine import Engine
from ecfs.commit.space import Usable, inline_limit
from ecfs.drive.health import health_of
from ecfs.fs.health import FileHealth, in_words
from ecfs.geometry import Geometry
from ecfs.heal.repair import QUICK_LIMIT
from ecfs.heal.replace import stored_replacement
from ecfs.heal.report import ScrubProgress
from ecfs.heal.scrubbing import PAUSED, ScrubPosition, stored_position
from ecfs.journal.opened import OpenedPool
from ecfs.pool.members import Event, Member

SCHEMA = 1
HEALTHY, DEGRADED, FAILED = "healthy", "degraded", "failed"
EXIT_STATUS = {HEALTHY: 0, DEGRADED: 1, FAILED: 3}
WORST = 256
"""Stripes that are looked at for `may_lose`, the most endangered first."""
SECOND = 1_000_000_000

Status = dict[str, Any]


@dataclass(frozen=True)
class Healing:
    """What is being repaired. done: shards since the pool was opened; waiting: shards that reads found bad;
    undecodable: stripes that could not be decoded when last tried; running: what `kind` names, "scrub", "replace" or
    "drill"; position: of a scrub that has not come to its end; slot: that is being replaced."""

    running: ScrubProgress | None = None
    kind: str = ""
    done: int = 0
    waiting: int = 0
    undecodable: int = 0
    position: ScrubPosition | None = None
    slot: int | None = None


NO_HEALING = Healing()
NO_SCRUB: Status = dict.fromkeys(("running", "paused", "interrupted"), False) | dict.fromkeys(
    ("progress", "position", "rate_limit", "last_finished", "checked", "repaired", "lost")
)
NO_REPLACE: Status = {"running": False, "interrupted": False, "slot": None, "url": None, "progress": None}
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
        "drives": [_drive(pool, member) for member in pool.members],
        "stripes": _stripes(pool),
        "may_lose": max(0, pool.geometry.m - _most_lacking(pool)),
        "capacity": _capacity(pool, usable),
        "scrub": _scrub(pool, healing),
        "replace": _replace(pool, healing),
        "drill": _drill(pool, healing),
        "repairs": {"done": healing.done, "waiting": healing.waiting, "undecodable": healing.undecodable},
        "commits": _commits(engine),
        "memory": _memory(pool, engine, healing),
        "risks": [],
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


def _stripes(pool: OpenedPool) -> Status:
    """with_shards: how many stripes can count on so many shards, by that number as text."""
    ledger, out = pool.db.ledger, pool.members.out_slots()
    with_shards = {str(shards): number for shards, number in ledger.with_shards(out).items()}
    return ledger.counts(out)._asdict() | {"with_shards": with_shards}


def _drive(pool: OpenedPool, member: Member) -> Status:
    """behind: stripes whose shard it lacks or may lack, and roughly how many bytes that is. latency: seconds that 95 of
    100 recent operations took at most."""
    ledger, health = pool.db.ledger, health_of(member.drive)
    lacking = ledger.lacking(member.slot)
    shard = ledger.total_length() // max(ledger.count(), 1) // pool.geometry.k
    latency = {name: health.latency(name).p95 if health else None for name in ("read", "put", "append")}
    return {
        "slot": member.slot,
        "url": member.url,
        "state": member.state,
        "usable": member.up,
        "reason": member.reason,
        "since": member.since_ns // SECOND or None,
        "total": member.space.total if member.space else None,
        "free": member.space.free if member.space else None,
        "full": member.full,
        "errors": dict(member.errors),
        "latency": latency,
        "behind": {"stripes": lacking, "bytes": lacking * shard},
    }


def _capacity(pool: OpenedPool, usable: Usable | None) -> Status:
    """total and free are what the drives have room for; used is what files and their old versions hold of it now."""
    return {
        "total": usable.total if usable else None,
        "used": pool.db.ledger.total_length() + pool.db.files.inline_total,
        "free": usable.free if usable else None,
        "files": pool.db.names.counts()[0] - 1,  # the root is none that anybody made
    }


def _scrub(pool: OpenedPool, healing: Healing) -> Status:
    """last_finished and what follows: what the last complete scrub left in the metadata. paused, interrupted: one has
    not come to its end and waits for somebody, or for the next mount; `position`: shard bytes that it had verified."""
    finished, position = pool.db.drives.setting("scrub"), _position(pool, healing)
    running = healing.running if healing.kind == "scrub" else None
    waits = position is not None and running is None
    return {
        "running": running is not None,
        "paused": waits and position is not None and position.state == PAUSED,
        "interrupted": waits and position is not None and position.state != PAUSED,
        "progress": progress_json(running) if running else None,
        "position": position.bytes if position else None,
        "rate_limit": position.rate if position else None,
        "last_finished": finished["last_finished"] // SECOND if finished else None,
        "checked": finished["checked"] if finished else None,
        "repaired": finished["repaired"] if finished else None,
        "lost": finished["lost"] if finished else None,
    }


def _position(pool: OpenedPool, healing: Healing) -> ScrubPosition | None:
    return stored_position(pool.db.drives) if healing is NO_HEALING else healing.position


def _replace(pool: OpenedPool, healing: Healing) -> Status:
    """interrupted: one has not come to its end; the same command goes on with it: the slot, the new place."""
    running = healing.running if healing.kind == "replace" else None
    progress = progress_json(running) if running else None
    left = stored_replacement(pool.db.drives)
    return {
        "running": running is not None,
        "interrupted": left is not None and running is None,
        "slot": healing.slot if running else left.slot if left else None,
        "url": left.url if left else None,
        "progress": progress,
    }


def _drill(pool: OpenedPool, healing: Healing) -> Status:
    """proven: share of all stripe bytes that the last complete drill has shown to survive the loss of any m drives.

    What was written since counts as not proven. started: of the oldest part, so it is the age of the result.
    """
    result = pool.db.drives.setting("drill")
    running = healing.running if healing.kind == "drill" else None
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


def _memory(pool: OpenedPool, engine: Engine | None, healing: Healing) -> Status:
    """What is held against its bound; nothing of an unmounted pool."""
    if engine is None:
        return {}
    settings = pool.settings
    return {
        "dirty": {"used": engine.dirty.total, "limit": settings.dirty_limit},
        "sealed": {"used": engine.sealed.bytes, "limit": settings.sealed_limit},
        "journal": {"used": pool.journal_bytes, "limit": settings.journal_limit},
        "inline": {"used": pool.db.files.inline_total, "limit": inline_limit(pool)},
        "cache": {"used": pool.reader.cache.used, "limit": pool.reader.cache.limit},
        "short": {"used": engine.sealed.kept, "limit": settings.sealed_limit},
        "stripes_waiting": {"used": len(engine.sealed), "limit": None},
        "repairs_waiting": {"used": healing.waiting, "limit": QUICK_LIMIT},
    }


def failed_status(k: int, m: int, pool_id: str, drives: list[Status], notes: list[str]) -> Status:
    """Of a pool that can't be opened: what was seen of its drives, and that nothing else is known."""
    unknown = dict.fromkeys(("total", "full", "missing", "unknown", "lost", "with_shards"))
    return {
        "schema": SCHEMA,
        "state": FAILED,
        "pool": {"id": pool_id, "data": k, "parity": m},
        "drives": drives,
        "stripes": unknown,
        "may_lose": 0,
        "capacity": dict.fromkeys(("total", "used", "free", "files")),
        "scrub": NO_SCRUB,
        "replace": NO_REPLACE,
        "drill": NO_DRILL,
        "repairs": {"done": 0, "waiting": 0, "undecodable": 0},
        "commits": _commits(None),
        "memory": {},
        "risks": [],
        "notes": notes,
    }


def seen_drive(slot: int, url: str, state: str, reason: str) -> Status:
    """A drive of a pool that can't be opened."""
    return {
        "slot": slot, "url": url, "state": state, "usable": state == "online", "reason": reason, "since": None,
        "total": None, "free": None, "full": False, "errors": {},
        "latency": dict.fromkeys(("read", "put", "append")), "behind": {"stripes": None, "bytes": None},
    }  # fmt: skip


def event_json(event: Event) -> Status:
    """number: counts on over mounts; one that is missing was dropped."""
    return {
        "at": event.at_ns // SECOND, "slot": event.slot, "kind": event.kind, "text": event.text,
        "number": event.number,
    }  # fmt: skip


def file_json(path: str, health: FileHealth, geometry: Geometry) -> Status:
    """How one file is kept. lacking: the most endangered stripes, and the slots that lack their shards."""
    return {
        "schema": SCHEMA,
        "path": path,
        "state": health.state,
        "size": health.size,
        "stripes": {
            "total": health.stripes,
            "with_shards": {str(shards): number for shards, number in health.with_shards.items()},
            "storing": health.storing,
            "complete": health.complete,
        },
        "inline_bytes": health.inline,
        "may_lose": health.may_lose,
        "lacking": [{"stripe": f"{stripe:016x}", "slots": slots} for stripe, slots in health.lacking],
        "words": in_words(health, geometry.n),
    }
