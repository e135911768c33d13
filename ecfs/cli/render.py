"""How results look on a terminal: sizes, ages, tables. Everything a person reads is made here and in the commands."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecfs.control.verdict import Verdict

COLOURS = {"healthy": "green", "degraded": "yellow", "failed": "red", "online": "green", "behind": "yellow"}
PLAIN_WIDTH = 160
"""Of what goes to a file or a pipe: paths must not be cut."""


def console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, emoji=False, markup=False)


def size(number: float | None) -> str:
    """1536 → "1.5 KiB"."""
    if number is None:
        return "unknown"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} PiB"


def duration(seconds: float) -> str:
    """The two largest units: "3 min 20 s"."""
    seconds = max(0, round(seconds))
    for unit, length, smaller, rest in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= length:
            more = seconds % length // rest
            return f"{seconds // length} {unit}" + (f" {more} {smaller}" if more else "")
    return f"{seconds} s"


def age(then: int | None, now: int) -> str:
    return "never" if then is None else f"{duration(now - then)} ago"


def show_verdict(out: Console, state: str, verdict: Verdict) -> None:
    """State, cause and action, each under its word."""
    _labelled(out, "state", [Text.assemble((state, f"bold {COLOURS[state]}"), f" — {verdict.headline}")])
    _labelled(out, "cause", [Text(cause) for cause in verdict.causes])
    _labelled(out, "action", [Text(action) for action in verdict.actions])


def _labelled(out: Console, label: str, lines: list[Text]) -> None:
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=8, no_wrap=True)
    table.add_column(overflow="fold")
    for position, line in enumerate(lines):
        table.add_row(Text(f"{label}:" if not position else "", style="bold"), line)
    out.print(table)


def drive_table(status: dict[str, Any], now: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.add_column("slot", justify="right")
    table.add_column("drive", overflow="fold")
    table.add_column("state")
    table.add_column("since")
    table.add_column("free", justify="right")
    for drive in status["drives"]:
        colour = COLOURS.get(drive["state"], "red")
        since = "" if drive["since"] is None else age(drive["since"], now)
        free = "" if drive["free"] is None else f"{size(drive['free'])} of {size(drive['total'])}"
        table.add_row(str(drive["slot"]), drive["url"], Text(drive["state"], style=colour), since, free)
    return table
