"""`ecfs put`: copy into a pool without FUSE."""

from __future__ import annotations

import click


@click.command()
@click.argument("pool")
@click.argument("local")
@click.argument("remote", default="/")
@click.option("-r", "--recursive", is_flag=True, help="Directories, with everything in them.")
def command(pool: str, local: str, remote: str, recursive: bool) -> None:
    """Copy LOCAL ("-": standard input) into POOL as REMOTE, by default into its root.

    Needs no FUSE. Returns when it is durable; a file that is replaced is replaced whole.
    """
    from ecfs.cli.files import with_tree
    from ecfs.mount.transfer import put

    with_tree(pool, lambda tree: put(tree, local, remote, recursive=recursive))
