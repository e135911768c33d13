"""`ecfs get`: copy out of a pool without FUSE."""

from __future__ import annotations

import click


@click.command()
@click.argument("pool")
@click.argument("remote")
@click.argument("local", default=".")
@click.option("-r", "--recursive", is_flag=True, help="Directories, with everything in them.")
def command(pool: str, remote: str, local: str, recursive: bool) -> None:
    """Copy REMOTE out of POOL to LOCAL ("-": standard output), by default into the current directory."""
    from ecfs.cli.files import with_tree
    from ecfs.mount.transfer import get

    with_tree(pool, lambda tree: get(tree, remote, local, recursive=recursive))
