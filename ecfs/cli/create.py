"""`ecfs create`: make a pool."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("pool", type=click.Path(path_type=Path))
@click.argument("urls", nargs=-1, metavar="[URL]...")
@click.option("--data", "k", default=None, type=click.IntRange(1), help="Data shards per stripe.  [default: 4]")
@click.option("--parity", "m", default=None, type=click.IntRange(1), help="Parity shards per stripe.  [default: 2]")
def command(pool: Path, urls: tuple[str, ...], k: int | None, m: int | None) -> None:
    """Make a pool.

    POOL is a directory, which gets the drives d0, d1, … and pool.toml; or the drives are the URLs, each an empty or
    missing directory on a disk of its own; or POOL is a TOML file that lists them.

    As many drives as there are parity shards may be lost without losing a byte. Existing data is never overwritten.
    """
    import trio

    from ecfs.clock import SystemClock
    from ecfs.errors import UsageError
    from ecfs.mount.locate import shown
    from ecfs.mount.making import make_pool, plan_pool
    from ecfs.mount.places import risks

    file = plan_pool(pool, 4 if k is None else k, 2 if m is None else m, urls)
    if (k, m) != (None, None) and (file.k, file.m) != (k or 4, m or 2):
        raise UsageError(f"{pool} says {file.k} data + {file.m} parity: leave out --data and --parity, or change it")
    made = trio.run(make_pool, file, SystemClock())
    for line in risks(file):
        click.echo(f"ecfs: {line}", err=True)
    click.echo(f"Made a pool of {made.k + made.m} drives in {shown(pool)}: {made.k} data + {made.m} parity.")
    click.echo(f"Any {made.m} drives may be lost without losing a byte.")
    click.echo(f"Mount it with: ecfs mount {shown(pool)} MOUNTPOINT")
