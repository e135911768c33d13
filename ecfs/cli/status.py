"""`ecfs status`: how a pool is, and what to do."""

from __future__ import annotations

import json
import select
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ecfs.cli.render import Page
    from ecfs.mount.locate import Target

WATCH_S = 1.0
ANSWER_S = 5.0
"""How long the daemon may take to answer; it answers from memory."""


@click.command()
@click.argument("pool", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs; schema 1.")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
def command(pool: str | None, as_json: bool, watch: bool) -> int:
    """Say how POOL is, why, and what to do. Changes nothing.

    POOL is a pool or a mount point; by default the mounted pool, or ./drives.
    """
    from ecfs.control.verdict import exit_status
    from ecfs.mount.locate import find_target

    status = look(find_target(pool))
    while watch and not as_json:
        click.clear()
        _show(status)
        select.select([], [], [], WATCH_S)
        status = look(find_target(pool))
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        _show(status)
    return exit_status(status)


def _show(status: dict[str, Any]) -> None:
    from ecfs.cli.render import Page, show_verdict
    from ecfs.control.verdict import verdict

    out = Page()
    show_verdict(out, status["state"], verdict(status, status["pool"]["path"]))
    _details(out, status)


def look(target: Target) -> dict[str, Any]:
    """The status by the daemon, or by looking at the drives if there is none."""
    from ecfs.control.client import call

    if target.mounted is not None:
        status = dict(call(target.mounted, "status", {}, timeout_s=ANSWER_S))
    else:
        import trio

        from ecfs.clock import SystemClock
        from ecfs.mount.look import look_at

        status = trio.run(look_at, target.pool_file, SystemClock())
        status["pool"]["mountpoint"] = None
        status["notes"] += _dead_mounts(target)
    status["pool"]["path"] = target.name
    return status


def _dead_mounts(target: Target) -> list[str]:
    from ecfs.control.runtime import leftovers
    from ecfs.mount.mountpoint import is_stale

    dead = [entry.mountpoint for entry in leftovers() if entry.pool_id == target.pool_file.pool_id]
    again = f"ecfs mount {target.name}"
    return [f"the daemon of {point} has died; to go on: {again} {point}" for point in dead if is_stale(point)]


def _details(out: Page, status: dict[str, Any]) -> None:
    from ecfs.cli.render import drive_table, size
    from ecfs.clock import SystemClock

    now = SystemClock().wall_ns() // 1_000_000_000
    out.print()
    out.print(drive_table(status, now))
    out.print()
    mounted = status["pool"]["mountpoint"]
    out.print(f"mounted   {'on ' + mounted if mounted else 'no'}")
    out.print(f"stripes   {_stripes(status['stripes'])}")
    capacity = status["capacity"]
    if capacity["total"] is not None:
        out.print(f"space     {size(capacity['used'])} used, {size(capacity['free'])} free for files")
    _verified(out, status, now)
    if status["repairs"]["done"]:
        out.print(f"repaired  {status['repairs']['done']} shards since it was mounted")
    for note in status["notes"]:
        out.print(f"note      {note}")


def _verified(out: Page, status: dict[str, Any], now: int) -> None:
    """When everything was last looked at: never part of the word "healthy"."""
    from ecfs.cli.render import age, proven

    scrub, drill = status["scrub"], status["drill"]
    out.print(f"scrubbed  {'now' if scrub['running'] else age(scrub['last_finished'], now)}{_scrub(scrub)}")
    if drill["last_finished"] is not None:
        out.print(f"drilled   {proven(status)}, {age(drill['last_started'], now)}")
    elif not drill["running"] and not drill["interrupted"]:
        out.print(f"drilled   never: ecfs drill {status['pool']['path']} proves what may be lost")
    if drill["running"] or drill["interrupted"]:
        out.print(f"drill     {'runs now' if drill['running'] else 'interrupted: start it again, and it goes on'}")


def _stripes(stripes: dict[str, Any]) -> str:
    if stripes["total"] is None:
        return "unknown"
    if not stripes["total"]:
        return "none yet (small files are kept with the metadata)"
    parts = [f"{stripes['full']} of {stripes['total']} with all their shards"]
    parts += [f"{stripes[key]} {key}" for key in ("missing", "unknown", "lost") if stripes[key]]
    return ", ".join(parts)


def _scrub(scrub: dict[str, Any]) -> str:
    if scrub["checked"] is None:
        return ""
    return f": {scrub['checked']} shards checked, {scrub['repaired']} repaired"
