"""`ecfs status`: how a pool is, and what to do."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command()
@click.argument("pool", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs; schema 1.")
def command(pool: str | None, as_json: bool) -> int:
    """Say how POOL is, why, and what to do. Changes nothing.

    POOL is a pool or a mount point; by default the mounted pool, or ./drives.
    """
    from ecfs.control.status import EXIT_STATUS
    from ecfs.mount.locate import find_target

    target = find_target(pool)
    status = look(target)
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        click.echo(json.dumps(status, indent=1))
    return EXIT_STATUS[str(status["state"])]


def look(target: Any) -> dict[str, Any]:
    from ecfs.control.client import call

    return dict(call(target.mounted, "status", {}, timeout_s=5))
