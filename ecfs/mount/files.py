"""Access to a pool's files for commands: through its folder if it is mounted, by opening the pool if not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ecfs.clock import Clock
from ecfs.errors import StalledError
from ecfs.mount.locate import Target
from ecfs.mount.patience import Tell
from ecfs.mount.tree import Tree, VolumeTree
from ecfs.mount.tree_mounted import MountedTree
from ecfs.mount.volume import open_volume


@asynccontextmanager
async def open_tree(target: Target, *, clock: Clock, tell: Tell) -> AsyncIterator[Tree]:
    """Raises StalledError at the end if something could not be made durable."""
    if target.mounted is not None:
        yield MountedTree(Path(target.mounted.mountpoint))
        return
    async with open_volume(target.pool_file, clock=clock, tell=tell) as volume:
        yield VolumeTree(volume.fs)
    if not volume.clean:
        raise StalledError("not everything could be made durable; the drives hold the state before")
