"""How results look on a terminal: sizes, ages, tables. Everything a person reads is made here and in the commands."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ecfs.control.verdict import Verdict

COLOURS = {"healthy": "green", "degraded": "yellow", "failed": "red", "online": "green", "behind": "yellow"}
FOLDED = ("drive", "errors", "lacks")
"""Columns that may need several lines; figures never do."""
PLAIN_WIDTH = 1000
"""Of what goes to a file or a pipe: nothing must be cut or folded there."""


class Page:
    """Standard output: folded and coloured on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        width = None if self._terminal else PLAIN_WIDTH
        self._console = Console(width=width, highlight=False, emoji=False, markup=False)

    @property
    def width(self) -> int:
        return self._console.width

    def print(self, thing: RenderableType = "") -> None:
        if self._terminal:
            self._console.print(thing)
            return
        with self._console.capture() as captured:
            self._console.print(thing)
        for line in captured.get().splitlines():
            click.echo(line.rstrip())


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


def proven(status: dict[str, Any]) -> str:
    """ "any two drives: proven for 100 % of bytes". Rounded down: 100 means all."""
    share, parity = status["drill"]["proven"] or 0.0, status["pool"]["parity"]
    which = {1: "any drive", 2: "any two drives"}.get(parity, f"any {parity} drives")
    percent = f"{math.floor(share * 1000) / 10:g}"
    return f"{which}: proven for {percent} % of bytes"


def show_verdict(out: Page, state: str, verdict: Verdict, risks: Sequence[str] = ()) -> None:
    """State, cause, meaning, evidence, risk and action, each under its word."""
    rows: list[tuple[Text, Text]] = []
    for label, lines in (
        ("state", [Text.assemble((state, f"bold {COLOURS[state]}"), f" — {verdict.headline}")]),
        ("cause", map(Text, verdict.causes)),
        ("means", map(Text, filter(None, [verdict.means]))),
        ("seen", map(Text, verdict.evidence)),
        ("risk", map(Text, risks)),
        ("action", [Text(with_command_whole(action, out.width - 10), style="bold") for action in verdict.actions]),
    ):
        for line in lines:
            first = not rows or all(f"{label}:" != str(shown) for shown, _ in rows)
            rows.append((Text(f"{label}:" if first else "", style="bold"), line))
    out.print(labelled(rows))


def with_command_whole(action: str, width: int) -> str:
    """The command that ends an action gets a line of its own where it would be broken, which can't be copied."""
    before, colon, command = action.rpartition(": ecfs ")
    return f"{before}:\necfs {command}" if colon and len(action) > width else action


def labelled(rows: Iterable[tuple[Text, Text]]) -> Table:
    """Words on the left, what they say on the right."""
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=9, no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def table_of(heads: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A plain table; a head that starts with ">" is aligned to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for head in heads:
        justify: Literal["left", "right"] = "right" if head.startswith(">") else "left"
        table.add_column(head.lstrip(">"), justify=justify, overflow="fold", no_wrap=head not in FOLDED)
    for row in rows:
        table.add_row(*row)
    return table
