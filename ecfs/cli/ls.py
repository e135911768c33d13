"""`ecfs ls`: list a directory of a pool without FUSE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ecfs.mount.tree import Item, Tree


@click.command()
@click.argument("pool")
@click.argument("path", default="/")
@click.option("-l", "long", is_flag=True, help="With mode, size and time.")
def command(pool: str, path: str, long: bool) -> None:
    """List PATH in POOL, by default its root. Directories end with a slash."""
    from ecfs.cli.files import with_tree

    for item in with_tree(pool, lambda tree: _items(tree, path)):
        click.echo(_line(item) if long else _name(item))


async def _items(tree: Tree, path: str) -> list[Item]:
    from ecfs.errors import UsageError

    found = await tree.find(path)
    if found is None:
        raise UsageError(f"{path}: no such file in the pool")
    return await tree.entries(path) if found.is_directory else [found]


def _name(item: Item) -> str:
    return item.name + ("/" if item.is_directory else "")


def _line(item: Item) -> str:
    import stat

    from ecfs.clock import local_text

    return f"{stat.filemode(item.mode)} {item.size:>14} {local_text(item.mtime_ns)} {_name(item)}"
