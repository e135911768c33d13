"""Mount option dirsync: a name that could not be made durable is refused, and the kernel never hears of its inode."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest

from ecfs.errors import StalledError
from ecfs.fuse import NAMES, EcfsOperations
from ecfs.meta import ROOT_INO
from tests.unit.fs.conftest import World

WHO: Any = SimpleNamespace(uid=0, gid=0, pid=1)


async def refused(operations: EcfsOperations, kind: str, old: int) -> None:
    calls: dict[str, Any] = {
        "create": lambda: operations.create(ROOT_INO, b"n", stat.S_IFREG | 0o644, os.O_RDWR, WHO),
        "mknod": lambda: operations.mknod(ROOT_INO, b"n", stat.S_IFREG | 0o644, 0, WHO),
        "mkdir": lambda: operations.mkdir(ROOT_INO, b"n", 0o755, WHO),
        "symlink": lambda: operations.symlink(ROOT_INO, b"n", b"target", WHO),
        "link": lambda: operations.link(old, ROOT_INO, b"n", WHO),
    }
    with pytest.raises(pyfuse3.FUSEError):
        await calls[kind]()


@pytest.mark.parametrize("kind", ["create", "mknod", "mkdir", "symlink", "link"])
async def test_what_the_kernel_was_not_told_of_is_held_by_nobody(world: World, kind: str) -> None:
    """It would never give it back: removed later, it kept its room up to the next mount."""
    operations = EcfsOperations(world.fs, stored_at_once=NAMES)
    old = await world.file(b"old")
    world.data.sync_error = StalledError("too few drives")
    await refused(operations, kind, old)
    world.data.sync_error = None
    made = world.find(b"n").ino
    assert not world.fs.handles.in_use(made)
    assert not world.fs.handles.open_count
