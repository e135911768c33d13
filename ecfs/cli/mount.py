"""`ecfs mount`: mount a pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ecfs.mount.background import Voice
    from ecfs.mount.serving import Plan


@click.command()
@click.argument("pool", type=click.Path(path_type=Path))
@click.argument("mountpoint")
@click.option("-f", "--foreground", is_flag=True, help="Stay in front, log to standard error; Ctrl-C ends it cleanly.")
@click.option("-o", "options", multiple=True, metavar="OPT[,OPT…]", help="ro, writeback, allow_other, nosuid, nodev, …")
@click.option("--no-create", is_flag=True, help="Never make a pool, not even in a directory without one.")
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Where a commit is missing on every drive that is here: go back to the newest state that is whole. "
    "Nothing is deleted.",
)
@click.option("--tls", type=click.Path(path_type=Path), metavar="FOLDER", help="For a list of nodes: from ecfs certs.")
@click.option("--web", metavar="HOST:PORT", help="Serve the status page there, such as 127.0.0.1:8630.")
@click.option("--web-token-file", metavar="FILE", help="Ask viewers for the token in FILE; needed off loopback.")
def command(
    pool: Path,
    mountpoint: str,
    foreground: bool,
    options: tuple[str, ...],
    no_create: bool,
    accept_loss: bool,
    tls: Path | None,
    web: str | None,
    web_token_file: str | None,
) -> int:
    """Mount POOL on the folder MOUNTPOINT; returns when it works.

    POOL is a directory, a pool file, or a comma-separated list of drives such as nas1:9001,nas2:9001,… In a directory
    that has no pool.toml and whose d0 … d5 are absent or empty, or on six vacant drives, a pool is made first.
    """
    from ecfs.mount.planning import plan_mount
    from ecfs.rpc.tls import client_files

    files = None if tls is None else client_files(tls)
    given = {"web": web, "web_token_file": web_token_file}
    named = [f"{name}={value}" for name, value in given.items() if value is not None]
    plan = plan_mount(pool, mountpoint, (*options, *named), create=not no_create, tell=_say, tls=files)
    plan.options = replace(plan.options, accept_loss=accept_loss)
    if foreground:
        return _in_front(plan)
    from ecfs.mount.background import in_background

    in_background(lambda voice: _serve(plan, voice), _say, Path(plan.log))
    click.echo(f"Mounted on {mountpoint}.")
    return 0


def _say(text: str) -> None:
    click.echo(f"ecfs: {text}")


def _in_front(plan: Plan) -> int:
    import trio

    from ecfs.cli.notify import keep_watchdog, notify
    from ecfs.mount.background import log_to
    from ecfs.mount.serving import serve

    log_to(None)

    def ready() -> None:
        _say(f"mounted on {plan.point}; Ctrl-C ends it")
        notify(f"READY=1\nSTATUS=mounted on {plan.point}")

    async def watched() -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_watchdog)
            clean = await serve(plan)
            nursery.cancel_scope.cancel()
        return clean

    plan.say, plan.ready, plan.log = _say, ready, "standard error"
    return 0 if trio.run(watched) else 1


def _serve(plan: Plan, voice: Voice) -> int:
    """In the daemon."""
    import logging
    import os

    import trio

    from ecfs.control.failure import expected, leaves
    from ecfs.errors import EcfsError
    from ecfs.mount.serving import serve

    def ready() -> None:
        os.chdir("/")  # a daemon must not keep a disk busy by standing on it
        voice.ready()

    plan.say, plan.ready = voice.say, ready
    try:
        return 0 if trio.run(serve, plan) else 1
    except Exception as error:
        known = expected(error)
        if known is None:
            first = next(leaves(error))
            voice.fail(EcfsError(f"unexpected error, please report it ({first!r}) with this log: {plan.log}"))
            raise
        logging.getLogger(__name__).error("%s", known)
        voice.fail(known)
        return known.exit_status
