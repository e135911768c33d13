"""`ecfs replace`: put a new drive into a slot."""

from __future__ import annotations

import click


@click.command()
@click.argument("pool")
@click.argument("slot", type=click.IntRange(0))
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="The report for programs; schema 1.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def command(pool: str, slot: int, url: str, as_json: bool, no_progress: bool) -> int:
    """Put a new drive at URL, an empty or missing directory, into SLOT of POOL, and rebuild it there.

    While the old drive lives, it stays in use until the new one has everything. Interrupted, the same command goes on.
    The old drive may not come back afterwards. `ecfs status` shows the slots.
    """
    from ecfs.cli.healing import heal, show_result
    from ecfs.control.repairing import NEW_PLACE
    from ecfs.drive.registry import canonical_url
    from ecfs.errors import UsageError

    if url == NEW_PLACE:
        raise UsageError(f"{NEW_PLACE} stands for the place of the new drive: type that, such as /mnt/disk7/ecfs")
    place = canonical_url(url)
    outcome = heal(pool, "replace", {"slot": slot, "url": place}, quiet=as_json or no_progress)
    return show_result(outcome, as_json=as_json, first=f"Drive {slot} is {place} from now on.")
