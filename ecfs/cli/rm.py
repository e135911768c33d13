"""`ecfs rm`: remove from a pool without FUSE."""

from __future__ import annotations

import click


@click.command()
@click.argument("pool")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--recursive", is_flag=True, help="Directories, with everything in them.")
def command(pool: str, paths: tuple[str, ...], recursive: bool) -> None:
    """Remove each PATH from POOL."""
    from ecfs.cli.files import with_tree
    from ecfs.mount.transfer import remove
    from ecfs.mount.tree import Tree

    async def work(tree: Tree) -> None:
        for path in paths:
            await remove(tree, path, recursive=recursive)

    with_tree(pool, work)
