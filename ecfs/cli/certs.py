"""`ecfs certs`: certificates for a pool of nodes."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option("--days", default=3650, show_default=True, type=click.IntRange(1, 36500), help="How long they are valid.")
def command(directory: Path, hosts: tuple[str, ...], days: int) -> None:
    """Make a CA and certificates for a pool of nodes in DIR.

    HOST is a node's name or address, as it stands in the drive's URL. DIR/HOST goes to that node, DIR/client to the
    machine that mounts. What is there already stays; hosts can be added later.
    """
    from ecfs.cli.extras import needs_extra

    with needs_extra("node"):
        from ecfs.clock import SystemClock
        from ecfs.node.certs import make_certs

    made = make_certs(directory, hosts, SystemClock(), days)
    for folder in made:
        click.echo(f"made {folder}")
    if not made:
        click.echo("nothing to do: all of them are there")
    first = hosts[0]
    click.echo(f"On each node:       ecfs node DIR --listen HOST:PORT --tls {directory / first}")
    click.echo("In pool.toml:       [tls] with ca, cert and key naming the files of the client folder")
    click.echo(f"Keep {directory / 'ca.key'} to yourself: whoever has it can make nodes and clients.")
