"""Who asks for something."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple


def _no_more_groups(_pid: int) -> Collection[int]:
    return ()


class Caller(NamedTuple):
    """Who asks. Only who will own what is made; what they may do was checked by the kernel.

    groups_of: the supplementary groups of the process `pid`; asked only where they matter, because that takes long.
    """

    uid: int
    gid: int
    pid: int = 0
    groups_of: Callable[[int], Collection[int]] = _no_more_groups

    @property
    def privileged(self) -> bool:
        return self.uid == 0

    def keeps_setgid(self, gid: int) -> bool:
        """Whether what the caller does leaves the setgid bit of a file of group `gid` alone: root, and its members."""
        return self.privileged or gid == self.gid or gid in self.groups_of(self.pid)


STRANGER = Caller(uid=2**32 - 2, gid=2**32 - 2)
"""Somebody without any right."""
