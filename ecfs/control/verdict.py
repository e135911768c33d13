"""The status in words: what state, why, what it means, and what to type. Pure; for people who are tired and worried."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ecfs.control.status import DEGRADED, FAILED, HEALTHY, Status


@dataclass
class Verdict:
    """headline: one sentence. causes, actions: one sentence each, the most urgent first."""

    headline: str
    causes: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)


def verdict(status: Status, name: str) -> Verdict:
    """name: the pool as one would type it."""
    if status["state"] == HEALTHY:
        parity = status["pool"]["parity"]
        return Verdict(f"every byte is safe: any {parity} drives may be lost", [], ["nothing to do"])
    return _failed(status, name) if status["state"] == FAILED else _degraded(status, name)


def _away(status: Status) -> list[Status]:
    return [drive for drive in status["drives"] if not drive["usable"]]


def _drive_cause(drive: Status) -> str:
    why = f": {drive['reason']}" if drive["reason"] else ""
    return f"drive {drive['slot']} is {drive['state']}{why}"


def _stripe_causes(status: Status) -> list[str]:
    stripes = status["stripes"]
    said = (
        ("lost", "can't be decoded right now"),
        ("missing", "lack at least one shard"),
        ("unknown", "have shards that must be verified first"),
    )
    return [f"{stripes[key]} of {stripes['total']} stripes {text}" for key, text in said if stripes[key]]


def _causes(status: Status) -> list[str]:
    commits = status["commits"]
    causes = [_drive_cause(drive) for drive in status["drives"] if drive["state"] != "online"]
    if commits["fenced"]:
        causes.append(f"another process has taken the pool over: {commits['fenced']}")
    elif commits["stalled"]:
        causes.append(f"what is written now can't be made durable: {commits['stalled']}")
    causes += _stripe_causes(status)
    repairs = status["repairs"]
    if repairs["undecodable"] and not status["stripes"]["lost"]:
        causes.append(f"{_count(repairs['undecodable'], 'stripe')} could not be decoded when last tried")
    if repairs["waiting"]:
        causes.append(f"{_count(repairs['waiting'], 'shard')} found bad by reading, about to be repaired")
    return causes


# ---- degraded ---------------------------------------------------------------------------------------------


def _degraded(status: Status, name: str) -> Verdict:
    return Verdict(_what_is_left(status), _causes(status), _repairs(status, name))


def _what_is_left(status: Status) -> str:
    works = "every file is readable and writable, but redundancy is missing"
    if status["may_lose"]:
        return f"{works}: {_count(status['may_lose'], 'more drive')} may be lost"
    return f"{works}: losing one more drive would lose data"


def _repairs(status: Status, name: str) -> list[str]:
    away, actions = _away(status), []
    gone = [drive for drive in away if drive["state"] in ("absent", "failed", "slow")]
    wrong = [drive for drive in away if drive["state"] == "wrong"]
    if gone:
        actions.append(f"bring {_them(gone)} back: plug in, mount or switch on what belongs there; the rest follows")
        actions.append(f"or, if it was deleted, rebuild it in its place: ecfs scrub {name}")
        actions.append(
            f"or, if it is dead, rebuild it on a new disk: ecfs replace {name} {gone[0]['slot']} NEW_DIRECTORY"
        )
    if wrong:
        actions.append(f"put the right {_them(wrong)} there, or: ecfs replace {name} {wrong[0]['slot']} NEW_DIRECTORY")
    if not away:
        actions.append(_wait_or_scrub(status, name))
    return actions


def _wait_or_scrub(status: Status, name: str) -> str:
    mounted = status["pool"].get("mountpoint")
    if status["scrub"]["running"] or (mounted and any(drive["state"] == "behind" for drive in status["drives"])):
        return f"nothing: it is being rebuilt now; to watch or hurry it: ecfs scrub {name}"
    return f"rebuild what is missing: ecfs scrub {name}"


# ---- failed -----------------------------------------------------------------------------------------------


def _failed(status: Status, name: str) -> Verdict:
    there, needed = len(status["drives"]) - len(_away(status)), status["pool"]["data"]
    causes = _causes(status)
    if there < needed:
        more = needed - there
        return Verdict(
            f"{there} of {len(status['drives'])} drives are there, {needed} are needed: most files can't be read now",
            causes,
            [f"bring back at least {_count(more, 'of these drives', plural='of these drives')}; nothing has been lost"
             " that is still on them, so delete nothing and create nothing"],
        )  # fmt: skip
    if status["commits"]["fenced"]:
        return Verdict("this mount is read-only for good", causes, [f"ecfs umount --force {_mounted(status)}"])
    if status["commits"]["stalled"]:
        action = "bring the drives back, or free space on them; what waits in memory is stored as soon as that works"
        return Verdict("files can be read, but changes are refused", causes, [action])
    return Verdict(
        "some data can't be decoded right now",
        causes,
        [*_repairs(status, name), f"to see which files: ecfs scrub --dry-run {name}"],
    )


def _mounted(status: Status) -> str:
    return str(status["pool"].get("mountpoint") or "MOUNTPOINT")


def _them(drives: list[Status]) -> str:
    slots = [str(drive["slot"]) for drive in drives]
    return f"drive {slots[0]}" if len(slots) == 1 else f"drives {', '.join(slots[:-1])} and {slots[-1]}"


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def exit_status(status: dict[str, Any]) -> int:
    """0, 1 or 3 for a pool in this state."""
    return {HEALTHY: 0, DEGRADED: 1, FAILED: 3}[str(status["state"])]
