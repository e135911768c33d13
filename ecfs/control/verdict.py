"""The status in words: what state, why, what it means, how we know, and what to type. Pure; for people who are tired
and worried. Every state of a pool has its text in tests/golden/: change one, read it there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from ecfs.control.repairing import go_on_replacing, repairs, replace_command
from ecfs.control.status import DEGRADED, EXIT_STATUS, FAILED, HEALTHY, Status
from ecfs.control.wording import away, count, drives_named


@dataclass
class Verdict:
    """headline, means: one sentence each. causes, evidence, actions: one sentence each, the most urgent first."""

    headline: str
    means: str
    causes: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)


def verdict(status: Status, name: str) -> Verdict:
    """name: the pool as one would type it."""
    name = shlex.quote(name)
    said = {HEALTHY: _healthy, DEGRADED: _degraded, FAILED: _failed}[status["state"]](status, name)
    said.causes, said.evidence = _causes(status), _evidence(status)
    return said


def exit_status(status: dict[str, Any]) -> int:
    """0, 1 or 3 for a pool or a file in this state."""
    return EXIT_STATUS[str(status["state"])]


# ---- why, and how we know ---------------------------------------------------------------------------------


def _causes(status: Status) -> list[str]:
    commits, repairs_ = status["commits"], status["repairs"]
    causes = [_drive_cause(drive) for drive in status["drives"] if drive["state"] != "online"]
    causes += [f"drive {drive['slot']} is full" for drive in status["drives"] if drive["full"]]
    if commits["fenced"]:
        causes.append(f"another process has taken the pool over: {commits['fenced']}")
    elif commits["stalled"]:
        causes.append(f"what is written now can't be made durable: {commits['stalled']}")
    if _is_full(status):
        causes.append("there is no room for new files")
    if repairs_["undecodable"] and not status["stripes"]["lost"]:
        causes.append(f"{count(repairs_['undecodable'], 'stripe')} could not be decoded when last tried")
    if repairs_["waiting"]:
        causes.append(f"{count(repairs_['waiting'], 'shard')} found bad by reading, about to be repaired")
    if not causes and status["stripes"]["lost"]:
        causes.append(f"of some stripes more than {status['pool']['parity']} shards are missing or damaged")
    if not causes and status["state"] != HEALTHY:
        causes.append("all drives are here, but some shards on them are missing, damaged or not verified")
    return causes


def _drive_cause(drive: Status) -> str:
    why = f": {drive['reason']}" if drive["reason"] else ""
    return f"drive {drive['slot']} is {drive['state']}{why}"


def _is_full(status: Status) -> bool:
    return bool(status["capacity"]["free"] == 0)


def _evidence(status: Status) -> list[str]:
    stripes, found = status["stripes"], []
    if stripes["total"] is None:
        return ["the metadata can't be read now, so nothing is known of the files"]
    said = (
        ("lost", "can't be decoded right now"),
        ("missing", "lack at least one shard"),
        ("unknown", "have shards that must be verified first"),
    )
    found += [f"{stripes[key]} of {stripes['total']} stripes {text}" for key, text in said if stripes[key]]
    for drive in status["drives"]:
        behind = drive["behind"]["stripes"]
        if behind and drive["state"] == "behind":
            found.append(f"drive {drive['slot']} still lacks its shards of {count(behind, 'stripe')}")
    return found


# ---- healthy ----------------------------------------------------------------------------------------------


def _healthy(status: Status, name: str) -> Verdict:
    parity = status["pool"]["parity"]
    said = Verdict(f"every byte is safe: any {parity} drives may be lost", "")
    if _is_full(status):
        said.headline += "; but the pool is full"
        said.means = "files can be read, changed a little and deleted; new data is refused"
        said.actions = ["delete what is not needed: that works on a full pool, too", *_larger(status, name)]
        return said
    if status["replace"]["running"]:
        said.actions = ["nothing: a drive is being replaced, and the old one is used until the new one is complete"]
    elif status["replace"]["interrupted"]:
        said.actions = [f"nothing is urgent; {go_on_replacing(status, name)}"]
    elif status["scrub"]["paused"]:
        said.actions = [f"nothing is urgent; a scrub is paused, to go on with it: ecfs scrub --resume {name}"]
    else:
        said.actions = ["nothing to do"]
    return said


def _larger(status: Status, name: str) -> list[str]:
    """What gives a full pool more room for good."""
    first = next((drive["slot"] for drive in status["drives"] if drive["full"]), 0)
    return [f"or put larger drives in, one after the other, drive {first} first: {replace_command(name, first)}"]


# ---- degraded ---------------------------------------------------------------------------------------------


def _degraded(status: Status, name: str) -> Verdict:
    works = "every file is readable and writable, but redundancy is missing"
    if _is_full(status):
        works = "every file is readable, the pool is full, and redundancy is missing"
    return Verdict(works, _what_is_left(status), actions=repairs(status, name))


def _what_is_left(status: Status) -> str:
    if status["may_lose"]:
        return f"{count(status['may_lose'], 'more drive')} may fail without losing anything"
    return "if one more drive fails before this is repaired, data is lost"


# ---- failed -----------------------------------------------------------------------------------------------


def _failed(status: Status, name: str) -> Verdict:
    there, needed = len(status["drives"]) - len(away(status)), status["pool"]["data"]
    if there < needed:
        return _too_few(status, there, needed)
    if status["commits"]["fenced"]:
        return _fenced(status)
    if status["commits"]["stalled"]:
        return _stalled(status, name)
    if status["stripes"]["total"] is None:
        return _unreadable(status, name)
    means = "files that lie there answer with an error; all others can be read and written"
    actions = [
        f"see which files: ecfs scrub --dry-run {name}",
        f"put right what can be, which may be all: ecfs scrub {name}",
        "what is lost even then: delete those files, and copy them from a backup",
    ]
    return Verdict("some data can't be decoded right now", means, actions=actions)


def _too_few(status: Status, there: int, needed: int) -> Verdict:
    more = needed - there
    gone, means = drives_named(away(status)), "nothing is lost that is still on the drives that are away"
    if status["commits"]["stalled"]:
        means += "; what was written last is in memory only, so do not unmount before"
    return Verdict(
        f"{there} of {len(status['drives'])} drives are there, {needed} are needed: most files can't be read now",
        means,
        actions=[
            f"bring back at least {more} of {gone}: plug in, mount or switch on what belongs there",
            "until then delete nothing and create nothing",
        ],
    )


def _fenced(status: Status) -> Verdict:
    point = shlex.quote(str(status["pool"].get("mountpoint") or "MOUNTPOINT"))
    return Verdict(
        "this mount can't write any more",
        "what is stored is safe and belongs to the other process; what was written here last may not be stored",
        actions=[
            f"copy what was written here last to another place, then end this mount: ecfs umount --force {point}",
            "go on where the pool is mounted now, and see there whether that arrived",
        ],
    )


def _stalled(status: Status, name: str) -> Verdict:
    gone, full = away(status), [drive for drive in status["drives"] if drive["full"]]
    actions = []
    if gone:
        actions.append(f"bring back {drives_named(gone)}: plug in, mount or switch on what belongs there")
    if full:
        actions.append(f"make room on the disks of {drives_named(full)}: delete or move what is not ecfs's there")
    if not actions:
        actions.append(f"see what the drives answer: ecfs events {name}")
    actions.append("do not unmount before: what waits in memory is stored by itself as soon as that works")
    return Verdict(
        "files can be read, but changes are refused",
        "what was written last is in memory only: a crash of this machine would lose it",
        actions=actions,
    )


def _unreadable(status: Status, name: str) -> Verdict:
    return Verdict(
        "enough drives are there, but the pool can't be opened",
        "nothing was changed; the files are as they were",
        actions=[f"do what the note below says, then: ecfs status {name}"],
    )
