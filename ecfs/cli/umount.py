"""`ecfs umount`: commit everything and unmount."""

from __future__ import annotations

import click


@click.command()
@click.argument("mountpoint")
@click.option("--force", is_flag=True, help="Also if programs still use the folder; they get errors from then on.")
def command(mountpoint: str, force: bool) -> int:
    """Store everything, unmount MOUNTPOINT, and return when its daemon is gone."""
    from ecfs.cli.daemon import find_daemon, wait_until_gone
    from ecfs.control.client import call
    from ecfs.mount.locate import plain_path
    from ecfs.mount.unmount import clear_stale

    if clear_stale(plain_path(mountpoint)):
        click.echo(f"ecfs: the daemon of {mountpoint} was gone already; took away its dead mount")
        return 0
    daemon = find_daemon(mountpoint)
    result = call(daemon, "umount", {"force": force})
    wait_until_gone(daemon)
    if not result["clean"]:
        click.echo(
            "ecfs: unmounted, but the last changes could not be made durable; the drives hold the state before them; "
            f"the log says why: {daemon.log}",
            err=True,
        )
        return 1
    return 0
