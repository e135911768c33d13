"""`ecfs scrub`: verify everything, rebuild what is damaged or missing."""

from __future__ import annotations

import re

import click


def parse_rate(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """ "50M" → bytes per second."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)(i?b)?(/s)?", value.strip().lower())
    if match is None or not float(match[1]):
        raise click.BadParameter(f"{value!r} is not a rate: write for example 50M (bytes per second)")
    return float(match[1]) * 1024.0 ** " kmgt".index(match[2] or " ")


@click.command()
@click.argument("pool", required=False)
@click.option("--dry-run", is_flag=True, help="Look only; change nothing.")
@click.option("--rate", callback=parse_rate, metavar="RATE", help="At most so much per second, for example 50M.")
@click.option("--pause", "order", flag_value="pause", help="Hold the scrub that runs; it keeps its place.")
@click.option("--resume", "order", flag_value="resume", help="Go on, in the background, with one that was interrupted.")
@click.option("--cancel", "order", flag_value="cancel", help="End it; the next one begins anew.")
@click.option("--json", "as_json", is_flag=True, help="The report for programs; schema 1.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def command(
    pool: str | None, dry_run: bool, rate: float | None, order: str | None, as_json: bool, no_progress: bool
) -> int:
    """Verify every shard, journal and checkpoint, and rebuild what is damaged or missing.

    POOL is a pool or a mount point; by default the mounted pool, or ./drives. Ctrl-C stops it; what was repaired stays
    repaired, and the next scrub goes on from there. If one is running, this shows it, Ctrl-C then only stops looking,
    and --rate changes its speed. On a mounted pool a scrub that an unmount or a crash interrupted goes on by itself.
    """
    from ecfs.cli.healing import heal, order_scrub, show_result

    if order is not None:
        if dry_run or rate is not None:
            raise click.UsageError(f"--{order} goes with neither --dry-run nor --rate")
        return order_scrub(pool, order)
    outcome = heal(pool, "scrub", {"dry_run": dry_run, "rate": rate}, quiet=as_json or no_progress)
    return show_result(outcome, as_json=as_json)
