"""How far a scrub is: a live bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from ecfs.cli.render import duration, size
from ecfs.clock import SystemClock
from ecfs.control.client import Show

LINE_EVERY_NS = 10_000_000_000


@contextmanager
def progress_shown(*, quiet: bool) -> Iterator[Show]:
    """Gives what to call with each progress."""
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield Bar(progress).show
    else:
        yield Lines().show


def describe(progress: dict[str, Any]) -> str:
    """ "1.2 GiB of 3 GiB · 120 MiB/s · 2 min left · 3 found, 3 repaired"."""
    parts = [f"{size(progress['bytes_done'])} of {size(progress['bytes_total'])}"]
    if progress["rate"]:
        parts.append(f"{size(progress['rate'])}/s")
        left = "unknown time" if progress["eta_s"] is None else duration(progress["eta_s"])
        parts.append(f"{left} left")
    if progress["found"]:
        parts.append(f"{progress['found']} found, {progress['repaired']} repaired")
    return " · ".join(parts)


class Bar:
    """A live bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task("starting", total=None, text="")

    def show(self, progress: dict[str, Any]) -> None:
        self._progress.update(
            self._task,
            description=f"{progress['phase']:<12}",
            total=progress["bytes_total"] or None,
            completed=progress["bytes_done"],
            text=describe(progress),
        )


class Lines:
    """A line every ten seconds, for logs."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._last = self._clock.wall_ns()

    def show(self, progress: dict[str, Any]) -> None:
        now = self._clock.wall_ns()
        if now - self._last >= LINE_EVERY_NS:
            self._last = now
            click.echo(f"{progress['phase']}: {describe(progress)}", err=True)
