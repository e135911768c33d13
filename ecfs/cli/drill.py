"""`ecfs drill`: show that any two drives may be lost."""

from __future__ import annotations

import click

from ecfs.cli.scrub import parse_rate


@click.command()
@click.argument("pool", required=False)
@click.option("--full", is_flag=True, help="Compute every stripe without each pair of drives, not only a sample.")
@click.option("--restart", is_flag=True, help="From the beginning, even if an earlier drill was interrupted.")
@click.option("--rate", callback=parse_rate, metavar="RATE", help="At most so much per second, for example 50M.")
@click.option("--json", "as_json", is_flag=True, help="The report for programs; schema 1.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def command(pool: str | None, full: bool, restart: bool, rate: float | None, as_json: bool, no_progress: bool) -> int:
    """Prove that any two drives of POOL may be lost.

    Reads every shard and encodes every stripe again: if that gives what is stored, any four of the six give back all.
    For a sample each pair of drives is left out for real. Ctrl-C stops it; the next drill goes on from there.
    `ecfs status` shows the result and its age.

    POOL is a pool or a mount point; by default the mounted pool, or ./drives.
    """
    from ecfs.cli.healing import heal, show_result

    params = {"full": full, "restart": restart, "rate": rate}
    outcome = heal(pool, "drill", params, quiet=as_json or no_progress)
    return show_result(outcome, as_json=as_json)
