"""The status of a pool as a person reads it: the verdict, a line per drive, then the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text

from ecfs.cli.progress import describe
from ecfs.cli.render import COLOURS, Page, age, labelled, proven, show_verdict, size, table_of
from ecfs.control.verdict import verdict
from ecfs.control.wording import count
from ecfs.mount.locate import shown

Status = dict[str, Any]
MEMORY = {
    "dirty": "not yet sealed",
    "sealed": "on its way to drives",
    "journal": "journal",
    "inline": "small files",
    "cache": "cache",
}
"""What is held against its bound, and how people call it."""


def show_status(out: Page, status: Status, now: int) -> None:
    """now: seconds since 1970."""
    show_verdict(out, status["state"], verdict(status, status["pool"]["path"]), status["risks"])
    out.print()
    out.print(_drives(status, now))
    out.print()
    out.print(labelled((Text(label, style="bold"), Text(text)) for label, text in _figures(status, now)))


# ---- drives -----------------------------------------------------------------------------------------------


def _drives(status: Status, now: int) -> Any:
    """Columns that would be empty for every drive are left out: eighty characters are few."""
    columns = [_column(head, [make(drive, now) for drive in status["drives"]]) for head, make in _COLUMNS]
    kept = [(head, cells) for head, cells in columns if any(str(cell) for cell in cells) or head == "since"]
    return table_of([head for head, _ in kept], zip(*(cells for _, cells in kept), strict=True))


def _column(head: str, cells: list[str | Text]) -> tuple[str, list[str | Text]]:
    return head, cells


def _state(drive: Status, now: int) -> Text:
    return Text(drive["state"], style=COLOURS.get(drive["state"], "red"))


def _since(drive: Status, now: int) -> str:
    return "" if drive["since"] is None else age(drive["since"], now)


def _behind(drive: Status, now: int) -> str:
    lacking = drive["behind"]
    return f"{count(lacking['stripes'], 'stripe')}, {size(lacking['bytes'])}" if lacking["stripes"] else ""


def _errors(drive: Status, now: int) -> str:
    """ "2 unreachable, 1 corrupt": the kinds without the word that they all have."""
    kinds = (
        (kind.removeprefix("Drive").removeprefix("Shard").lower(), number) for kind, number in drive["errors"].items()
    )
    return ", ".join(f"{number} {kind}" for kind, number in sorted(kinds))


def _slow(drive: Status, now: int) -> str:
    seconds = drive["latency"]["read"]
    return "" if seconds is None else f"{seconds * 1000:.1f} ms"


def _free(drive: Status, now: int) -> str:
    if not drive["usable"] or drive["free"] is None:
        return ""
    return "full" if drive["full"] else f"{size(drive['free'])} of {size(drive['total'])}"


_COLUMNS: tuple[tuple[str, Any], ...] = (
    (">slot", lambda drive, now: str(drive["slot"])),
    ("drive", lambda drive, now: shown(Path(drive["url"])) if drive["url"].startswith("/") else drive["url"]),
    ("state", _state),
    ("since", _since),
    ("lacks", _behind),
    ("errors", _errors),
    (">read 95 %", _slow),
    (">free", _free),
)


# ---- figures ----------------------------------------------------------------------------------------------


def _figures(status: Status, now: int) -> list[tuple[str, str]]:
    mounted = status["pool"]["mountpoint"]
    lines = [("mounted", f"on {mounted}" if mounted else "no"), ("stripes", _stripes(status))]
    capacity = status["capacity"]
    if capacity["total"] is not None:
        files = count(capacity["files"], "file")
        lines.append(("space", f"{size(capacity['used'])} used by {files}, {size(capacity['free'])} free for more"))
    if status["commits"]["last"] is not None:
        lines.append(("committed", _committed(status["commits"], now)))
    lines += [("scrubbed", _scrubbed(status, now)), ("drilled", _drilled(status, now))]
    if status["replace"]["running"]:
        lines.append(("replacing", f"drive {status['replace']['slot']}: {describe(status['replace']['progress'])}"))
    if status["repairs"]["done"]:
        lines.append(("repaired", f"{count(status['repairs']['done'], 'shard')} since it was mounted"))
    if memory := _memory(status["memory"]):
        lines.append(("memory", memory))
    lines += [("note", note) for note in status["notes"]]
    return lines


def _committed(commits: Status, now: int) -> str:
    return age(commits["last"], now) + ("; what was written since is not durable" if commits["stalled"] else "")


def _stripes(status: Status) -> str:
    stripes, n = status["stripes"], len(status["drives"])
    if stripes["total"] is None:
        return "unknown"
    if not stripes["total"]:
        return "none yet (small files are kept with the metadata)"
    parts = [f"{number:,} with {shards} of {n} shards" for shards, number in stripes["with_shards"].items()]
    doubts = (("unknown", "not verified"), ("lost", "that can't be decoded now"))
    of_these = ", ".join(f"{stripes[key]:,} {text}" for key, text in doubts if stripes[key])
    return f"{stripes['total']:,}: {', '.join(parts)}" + (f"; of these {of_these}" if of_these else "")


def _scrubbed(status: Status, now: int) -> str:
    scrub = status["scrub"]
    if status["stripes"]["total"] is None:
        return "unknown"
    last = age(scrub["last_finished"], now)
    if scrub["last_finished"] is not None:
        last += f": {count(scrub['checked'], 'shard')} checked, {scrub['repaired']} repaired"
    if scrub["running"]:
        return f"now: {scrub['progress']['phase']}, {describe(scrub['progress'])}; before that {last}"
    if scrub["paused"] or scrub["interrupted"]:
        word = "paused" if scrub["paused"] else "interrupted"
        again = f"ecfs scrub --resume {status['pool']['path']}" if status["pool"]["mountpoint"] else "ecfs scrub"
        return f"{last}; one is {word} after {size(scrub['position'])}, to go on: {again}"
    return last


def _drilled(status: Status, now: int) -> str:
    drill, name = status["drill"], status["pool"]["path"]
    if status["stripes"]["total"] is None:
        return "unknown"
    if drill["running"]:
        return f"now: {describe(drill['progress'])}"
    if drill["last_finished"] is not None:
        said = f"{proven(status)}, {age(drill['last_started'], now)}"
    else:
        said = f"never: ecfs drill {name} proves what may be lost"
    return f"{said}; one was interrupted, to go on: ecfs drill {name}" if drill["interrupted"] else said


def _memory(memory: Status) -> str:
    parts = [
        f"{size(memory[key]['used'])} of {size(memory[key]['limit'])} {text}"
        for key, text in MEMORY.items()
        if key in memory
    ]
    return ", ".join(parts)
