"""What to do about a pool that lacks something, by what is the matter with its drives: the exact commands."""

from __future__ import annotations

import shlex

from ecfs.control.status import Status
from ecfs.control.wording import away, drives_named
from ecfs.drive.registry import is_bucket

BACK = ("absent", "failed", "slow")
UNMOUNTED = "is its disk mounted?"
NEW_PLACE = "NEW_PLACE"
"""Where a person types the place of a new drive; typed as it stands it is refused."""


def repairs(status: Status, name: str) -> list[str]:
    """One sentence each, what should be tried first first. name: the pool, quoted for a shell."""
    if status["replace"]["running"]:
        return [f"nothing: drive {status['replace']['slot']} is being replaced; how far: ecfs status --watch {name}"]
    if status["replace"]["interrupted"]:
        return [go_on_replacing(status, name), *_lacking(status, name)]
    return _lacking(status, name) or [_wait_or_scrub(status, name)]


def go_on_replacing(status: Status, name: str) -> str:
    slot, url = status["replace"]["slot"], status["replace"]["url"]
    again = replace_command(name, slot, shlex.quote(url))
    return f"the replacement of drive {slot} was interrupted, to go on with it: {again}"


def replace_command(name: str, slot: int, place: str = NEW_PLACE) -> str:
    return f"ecfs replace {name} {slot} {place}"


def _lacking(status: Status, name: str) -> list[str]:
    gone = [drive for drive in away(status) if drive["state"] in BACK]
    wrong = [drive for drive in away(status) if drive["state"] == "wrong"]
    joining = [drive for drive in away(status) if drive["state"] == "joining"]
    actions = [*_gone(gone, name), *(action for drive in wrong for action in _wrong(drive, name))]
    if joining:
        actions.append(f"finish what was begun on {drives_named(joining)}: ecfs scrub {name}")
    return actions


def _gone(gone: list[Status], name: str) -> list[str]:
    if not gone:
        return []
    actions, them = [], drives_named(gone)
    unmounted = [drive for drive in gone if UNMOUNTED in drive["reason"]]
    if unmounted:
        actions.append(f"mount the disk of {drives_named(unmounted)}; the rest follows by itself")
    if len(unmounted) < len(gone):
        rest = drives_named([drive for drive in gone if drive not in unmounted])
        actions.append(f"if {rest} can come back: plug in, mount or switch on what belongs there; the rest follows")
    if any(is_bucket(drive["url"]) for drive in gone):
        deleted = "its contents were" if len(gone) == 1 else "their contents were"
    else:
        deleted = "its directory was" if len(gone) == 1 else "their directories were"
    actions.append(f"if {deleted} deleted, rebuild {them} in place: ecfs scrub {name}")
    for drive in gone:
        actions.append(f"if drive {drive['slot']} is dead: {replace_command(name, drive['slot'])}")
    return actions


def _wrong(drive: Status, name: str) -> list[str]:
    slot, reason = drive["slot"], drive["reason"]
    new = replace_command(name, slot)
    if "copy" in reason:
        return [f"take the copy of drive {slot} away: both are refused while both are here; the rest follows"]
    if "partly deleted" in reason:
        return [f"rebuild drive {slot} in place: ecfs scrub {name}", f"or elsewhere: {new}"]
    if "identity damaged" in reason:
        return [f"let it be judged and repaired: ecfs scrub {name}", f"if that refuses: {new}"]
    return [f"put the right drive {slot} there; if that is gone for good: {new}"]


def _wait_or_scrub(status: Status, name: str) -> str:
    if status["scrub"]["running"]:
        return f"nothing: it is being repaired now; to see how far: ecfs scrub {name}"
    if status["pool"].get("mountpoint") and any(drive["state"] == "behind" for drive in status["drives"]):
        return f"nothing: it is being rebuilt now; to watch or hurry it: ecfs scrub {name}"
    if status["stripes"]["full"] == status["stripes"]["total"]:
        return f"nothing: that is repaired within seconds; should it stay: ecfs scrub {name}"
    return f"verify and rebuild what is missing: ecfs scrub {name}"
