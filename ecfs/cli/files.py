"""What put, get, ls and rm share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from ecfs.clock import SystemClock
from ecfs.mount.files import open_tree
from ecfs.mount.locate import find_target
from ecfs.mount.tree import Tree
from ecfs.mount.volume import run_whole

T = TypeVar("T")


def with_tree(pool: str, work: Callable[[Tree], Awaitable[T]]) -> T:
    """Run work() on the files of POOL."""
    target = find_target(pool)

    async def run() -> T:
        async with open_tree(target, clock=SystemClock(), tell=_tell) as tree:
            return await work(tree)

    return run_whole(run)


def _tell(text: str) -> None:
    click.echo(f"ecfs: {text}", err=True)
