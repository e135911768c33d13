"""Inodes without a name that are still held: they live until the last handle and lookup are given back.

The orphan table makes that survive a crash: whoever opens the pool next removes them, since nobody holds them any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from ecfs.errors import EcfsError
from ecfs.fs.core import Core

_BATCH = 256
"""Inodes removed in one stretch at mount, so that the loop is not held up for long."""


class Orphans:
    """Removes inodes at the right moment."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._waiting: set[int] = set()
        self._idle: set[int] = set()

    def lost_last_name(self, ino: int) -> None:
        """Inside a change: the inode's nlink is now 0. Removed at once if nobody holds it."""
        if self._core.handles.in_use(ino):
            self._core.names.add_orphan(ino)
            self._waiting.add(ino)
        else:
            self._remove(ino)

    async def released(self, inos: Iterable[int]) -> None:
        """Handles or lookups of these inodes were given back. Raises nothing that is an EcfsError.

        If changes are refused just now, the inodes stay in the orphan table and go with the next release, or at the
        next mount.
        """
        self._idle.update(ino for ino in inos if ino in self._waiting)
        if not self._idle:
            return
        try:
            await self._core.data.admit(0, deleting=True)
        except EcfsError:
            return
        with self._core.change():
            while self._idle:
                self._remove_if_unused(self._idle.pop())

    async def clean(self) -> int:
        """At mount, before anything is served: remove what an earlier mount left. How many inodes went.

        Where changes are refused, with too few drives for writing, they wait as in `released`: files can be read.
        """
        left = list(self._core.names.orphans())
        for start in range(0, len(left), _BATCH):
            try:
                await self._core.data.admit(0, deleting=True)
            except EcfsError:
                self._waiting.update(left[start:])
                self._idle.update(left[start:])
                return start
            with self._core.change():
                for ino in left[start : start + _BATCH]:
                    self._remove(ino)
        return len(left)

    def _remove_if_unused(self, ino: int) -> None:
        """The state may have changed during the await: held again, or gone."""
        if ino not in self._waiting or self._core.handles.in_use(ino):
            return
        self._waiting.discard(ino)
        inode = self._core.names.inode(ino)
        if inode is not None and inode.nlink == 0:
            self._remove(ino)

    def _remove(self, ino: int) -> None:
        self._core.data.remove(ino)
        self._core.names.remove_inode(ino)
