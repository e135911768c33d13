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
@click.option("--json", "as_json", is_flag=True, help="The report for programs; schema 1.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def command(pool: str | None, dry_run: bool, rate: float | None, as_json: bool, no_progress: bool) -> int:
    """Verify every shard, journal and checkpoint, and rebuild what is damaged or missing.

    POOL is a pool or a mount point; by default the mounted pool, or ./drives. Ctrl-C stops it; what was repaired stays
    repaired.
    """
    from ecfs.cli.healing import heal, show_result

    outcome = heal(pool, "scrub", {"dry_run": dry_run, "rate": rate}, quiet=as_json or no_progress)
    return show_result(outcome, as_json=as_json)
