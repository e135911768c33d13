"""`ecfs status`: how a pool is, and what to do."""

from __future__ import annotations

import json
import select
from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ecfs.control.runtime import Mounted
    from ecfs.mount.locate import Target

WATCH_S = 1.0
SHOWN = 10
"""Stripes of a file that are named."""
ANSWER_S = 5.0
"""How long the daemon may take to answer; it answers from memory."""


@click.command()
@click.argument("place", metavar="[POOL|FILE]", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs; schema 1, described in docs/STATUS.md.")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
def command(place: str | None, as_json: bool, watch: bool) -> int:
    """Say how POOL is, why, and what to do. Changes nothing.

    POOL is a pool or a mount point; by default the mounted pool, or ./drives. FILE is a file on a mounted pool: then
    it says how that one is kept.
    """
    from ecfs.control.verdict import exit_status
    from ecfs.mount.locate import file_on_pool

    if as_json and watch:
        raise click.UsageError("--watch goes without --json: ask again as often as you like")
    inside = None if place is None else file_on_pool(place)
    look, show = (partial(_file, *inside), _show_file) if inside else (partial(_pool, place), _show)
    status = look()
    while watch:
        click.clear()
        show(status)
        select.select([], [], [], WATCH_S)
        status = look()
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        show(status)
    return exit_status(status)


def _pool(place: str | None) -> dict[str, Any]:
    from ecfs.mount.locate import find_target

    return look(find_target(place))


def _file(daemon: Mounted, path: str) -> dict[str, Any]:
    from ecfs.control.client import call

    return dict(call(daemon, "file", {"path": path}, timeout_s=ANSWER_S))


def _show_file(status: dict[str, Any]) -> None:
    from ecfs.cli.render import Page, size

    out = Page()
    out.print(f"file:    /{status['path']}, {size(status['size'])}")
    out.print(f"state:   {status['words']}")
    for stripe in status["lacking"][:SHOWN]:
        slots = ", ".join(map(str, stripe["slots"]))
        out.print(f"         stripe {stripe['stripe']} has no good shard on drive {slots}")
    if len(status["lacking"]) > SHOWN:
        out.print(f"         and {len(status['lacking']) - SHOWN} more; all of them: --json")
    if status["state"] != "healthy":
        out.print("action:  ecfs status says what to do")


def _show(status: dict[str, Any]) -> None:
    from ecfs.cli.render import Page
    from ecfs.cli.status_page import show_status
    from ecfs.clock import SystemClock

    show_status(Page(), status, SystemClock().wall_ns() // 1_000_000_000)


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
