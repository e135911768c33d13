"""`ecfs probe`: try out one storage node."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("url")
@click.option("--tls", type=click.Path(path_type=Path), metavar="FOLDER", help="Certificates: a client folder.")
@click.option("--size", default=1024, show_default=True, type=click.IntRange(1, 4096), help="Of the chunk, in KiB.")
def command(url: str, tls: Path | None, size: int) -> None:
    """Store a test chunk on the node URL, verify it there, fetch it, delete it, and say how long each took.

    The chunk lies beside the node's drive, if there is one, and harms none. POOL need not be mounted or exist.
    """
    from ecfs.cli.extras import needs_extra
    from ecfs.drive.registry import canonical_url, is_bucket, is_directory
    from ecfs.errors import UsageError

    address = canonical_url(url)
    if is_directory(address) or is_bucket(address):
        raise UsageError(f"{url} is no storage node: give HOST:PORT")
    with needs_extra("node"):
        import trio

        from ecfs.clock import SystemClock
        from ecfs.drive.probing import probe_node
        from ecfs.rpc.tls import client_files

    files = None if tls is None else client_files(tls)
    steps = trio.run(probe_node, address, files, SystemClock(), size * 1024)
    for step in steps:
        moved = size / 1024 / step.seconds if step.name in ("stored", "fetched") else None
        rate = f"  {moved:6.0f} MiB/s" if moved is not None else ""
        click.echo(f"{step.name:9} in {step.seconds * 1000:7.1f} ms{rate}")
    click.echo(f"{address} works: {size} KiB went there and came back unchanged.")
