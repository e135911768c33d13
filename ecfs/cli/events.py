"""`ecfs events`: what happened to a pool and its drives."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from typing import Any

import click

FOLLOW_S = 1.0
ANSWER_S = 10.0


@click.command()
@click.argument("pool", required=False)
@click.option("-n", "--limit", default=50, type=click.IntRange(1, 1000), show_default=True, help="The newest so many.")
@click.option("--follow", is_flag=True, help="Go on as more happens, until Ctrl-C. Needs a mounted pool.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one event per line; schema 1.")
def command(pool: str | None, limit: int, follow: bool, as_json: bool) -> None:
    """Say what happened to POOL, when, and to which drive, oldest first. Mounted or not.

    The newest 1,000 events are kept on the drives. POOL is a pool or a mount point; by default the mounted pool, or
    ./drives.
    """
    for event in _events(pool, limit, follow=follow):
        click.echo(json.dumps({"schema": 1, **event}) if as_json else _line(event))


def _events(pool: str | None, limit: int, *, follow: bool) -> Iterator[dict[str, Any]]:
    from ecfs.errors import RefusedError
    from ecfs.mount.locate import find_target

    target = find_target(pool)
    if follow and target.mounted is None:
        raise RefusedError(f"{target.name} is not mounted: nothing happens to it; leave out --follow")
    found = _look(pool, limit)
    yield from found
    while follow:
        select.select([], [], [], FOLLOW_S)
        last = found[-1]["number"] if found else 0
        found = [event for event in _look(pool, 1000) if event["number"] > last] or found[-1:]
        yield from (event for event in found if event["number"] > last)


def _look(pool: str | None, limit: int) -> list[dict[str, Any]]:
    from ecfs.control.client import call
    from ecfs.control.status import event_json
    from ecfs.mount.locate import find_target

    target = find_target(pool)
    if target.mounted is not None:
        return list(call(target.mounted, "events", {"limit": limit}, timeout_s=ANSWER_S))
    import trio

    from ecfs.clock import SystemClock
    from ecfs.mount.look import events_of

    return [event_json(event) for event in trio.run(events_of, target.pool_file, SystemClock())[-limit:]]


def _line(event: dict[str, Any]) -> str:
    from ecfs.clock import local_text

    who = "pool" if event["slot"] is None else f"drive {event['slot']}"
    return f"{local_text(event['at'] * 1_000_000_000, seconds=True)}  {who:<8}  {event['kind']:<10}  {event['text']}"
