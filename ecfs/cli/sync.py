"""`ecfs sync`: make everything durable."""

from __future__ import annotations

import click


@click.command()
@click.argument("mountpoint")
def command(mountpoint: str) -> None:
    """Return when everything that programs wrote to MOUNTPOINT so far is durable.

    sync(1) can't do that: the kernel does not pass it on to a FUSE file system.
    """
    from ecfs.cli.daemon import find_daemon
    from ecfs.control.client import call

    call(find_daemon(mountpoint), "sync", {})
