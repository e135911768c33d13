"""What scrub, replace and drill share: who does it, the daemon or this process; how far it is; what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import click
import msgspec
from rich.table import Table

from ecfs.cli.progress import progress_shown
from ecfs.cli.render import Page, duration, proven, show_verdict, size, table_of
from ecfs.clock import SystemClock
from ecfs.control.client import Show, call
from ecfs.control.protocol import Request
from ecfs.control.service import Service
from ecfs.control.verdict import verdict
from ecfs.control.wording import count
from ecfs.errors import RefusedError, StalledError
from ecfs.heal.drill import DrillReport
from ecfs.heal.report import LOST, NOTED, Finding, ScrubReport
from ecfs.mount.locate import Target, find_target
from ecfs.mount.volume import open_volume, run_whole

ORDER_S = 10.0
SHOWN = 20
"""Findings that are listed; the rest is counted."""


@dataclass
class Outcome:
    """What came of it. status: of the pool afterwards; name: the pool as one would type it."""

    report: ScrubReport
    status: dict[str, Any]
    name: str
    answer: dict[str, Any]


def heal(pool: str | None, method: str, params: dict[str, Any], *, quiet: bool) -> Outcome:
    """Run "scrub", "replace" or "drill" on POOL."""
    target = find_target(pool)
    with progress_shown(quiet=quiet) as show:
        if target.mounted is not None:
            answer = call(target.mounted, method, params, show=show)
        else:
            answer = run_whole(_heal_here, target, Request(1, method, params), show)
    shape = DrillReport if method == "drill" else ScrubReport
    report = msgspec.convert(answer["report"], shape, strict=False)
    return Outcome(report, answer["status"], target.name, answer)


SAID = {
    "pause": "The scrub is paused. To go on from there: ecfs scrub --resume {name}",
    "resume": "The scrub goes on in the background. To watch it: ecfs scrub {name}",
    "cancel": "The scrub is cancelled; what it repaired stays repaired. The next one begins anew.",
}


def order_scrub(pool: str | None, order: str) -> int:
    """Pause, resume or cancel the scrub of a mounted pool."""
    target = find_target(pool)
    if target.mounted is None:
        raise RefusedError(
            f"{target.name} is not mounted: there Ctrl-C stops a scrub, and ecfs scrub {target.name} goes on from there"
        )
    call(target.mounted, f"scrub_{order}", {}, timeout_s=ORDER_S)
    click.echo(SAID[order].format(name=target.name))
    return 0


async def _heal_here(target: Target, request: Request, show: Show) -> Any:
    async with open_volume(target.pool_file, clock=SystemClock(), tell=_tell) as volume:
        answer = await Service(volume.served()).call(request, show)  # type: ignore[arg-type]
    if not volume.clean:
        raise StalledError("not everything could be made durable; the drives hold the state before")
    return answer


def _tell(text: str) -> None:
    click.echo(f"ecfs: {text}", err=True)


def show_result(outcome: Outcome, *, as_json: bool, first: str = "") -> int:
    """Print it; the exit status. first: a sentence to begin with."""
    if as_json:
        click.echo(json.dumps({"schema": 1, "state": outcome.status["state"], **outcome.answer["report"]}, indent=2))
    else:
        if first:
            click.echo(first)
        _show_report(outcome)
    return outcome.report.exit_status


def _show_report(outcome: Outcome) -> None:
    report, out = outcome.report, Page()
    took = duration((report.finished_ns - report.started_ns) / 1e9)
    looked = sum(tally.bytes for tally in report.drives.values())
    if isinstance(report, DrillReport):
        _show_drill(report, outcome, out)
    elif report.checked:
        out.print(f"Checked {count(report.checked, 'shard')} ({size(looked)}) in {took}: {_found(report)}.")
    if report.drives:
        out.print(_drives(outcome))
    _show_findings(report)
    show_verdict(out, outcome.status["state"], verdict(outcome.status, outcome.name), outcome.status["risks"])


def _show_drill(report: DrillReport, outcome: Outcome, out: Page) -> None:
    since = "since it was begun" if report.resumed else f"in {duration((report.finished_ns - report.started_ns) / 1e9)}"
    out.print(f"Read and encoded again: {count(report.stripes, 'stripe')} ({size(report.bytes)}) {since}.")
    out.print(f"Computed without each of {count(report.sets, 'set')} of drives: {count(report.decoded, 'stripe')}.")
    out.print(f"{proven(outcome.status)}.")


def _found(report: ScrubReport) -> str:
    if not report.found:
        return "nothing was wrong"
    parts = [f"{count(report.found, 'thing')} found wrong", f"{report.repaired} repaired"]
    if report.pending:
        parts.append(f"{report.pending} still to be repaired")
    if report.lost:
        parts.append(f"{report.lost} lost right now")
    return ", ".join(parts)


def _drives(outcome: Outcome) -> Table:
    urls = {drive["slot"]: drive["url"] for drive in outcome.status["drives"]}
    rows = [
        (str(slot), urls.get(slot, ""), str(tally.checked), size(tally.bytes), str(tally.found), str(tally.repaired))
        for slot, tally in sorted(outcome.report.drives.items())
    ]
    return table_of((">slot", "drive", ">checked", ">bytes", ">found", ">repaired"), rows)


def _show_findings(report: ScrubReport) -> None:
    """The worst first. Files that can't be read now are all named."""
    open_ = [finding for finding in report.findings if finding.state not in (NOTED, "repaired")]
    for finding in sorted(open_, key=lambda each: each.state != LOST)[:SHOWN]:
        click.echo(_finding(finding))
    left = len(open_) - SHOWN + report.dropped
    if left > 0:
        click.echo(f"… and {left} more (--json lists up to 1000)")
    files = sorted({path for finding in report.findings if finding.state == LOST for path in finding.paths})
    for path in files:
        click.echo(f"can't be read now: {path}")


def _finding(finding: Finding) -> str:
    where = "" if finding.slot is None else f"drive {finding.slot}: "
    return f"{finding.state}: {where}{finding.text}"
