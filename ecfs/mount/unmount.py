"""Taking a mount away: politely, so that a folder in use says so, or at once, leaving those who use it behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import trio

from ecfs.drive.held import sync_filesystem
from ecfs.errors import RefusedError, UsageError
from ecfs.mount.locate import shown
from ecfs.mount.mountpoint import is_stale, mount_on, users

PATIENCE_S = 20.0
"""The kernel writes back what programs changed through mmap before it lets go; then we stop waiting."""


def _command(point: str, *, lazy: bool) -> list[str]:
    if shutil.which("fusermount3"):
        return ["fusermount3", "-u", *(["-z"] if lazy else []), "--", point]
    return ["umount", *(["-l"] if lazy else []), "--", point]


async def unmount(point: str, *, force: bool) -> None:
    """Called in the daemon, which has to go on serving meanwhile. Raises RefusedError naming who uses the folder."""
    problem = await _try(point, lazy=False)
    if problem and mount_on(point) is not None:
        if not force:
            raise RefusedError(await trio.to_thread.run_sync(_why, point, problem))
        with trio.move_on_after(PATIENCE_S):
            await trio.to_thread.run_sync(_write_back, point, abandon_on_cancel=True)
        await _try(point, lazy=True)


def _write_back(point: str) -> None:
    """What programs changed through mmap, or wrote with `-o writeback`, and the kernel still has: once the daemon has
    ended, it has nowhere to go."""
    with suppress(OSError):
        folder = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync_filesystem(folder)
        finally:
            os.close(folder)


async def _try(point: str, *, lazy: bool) -> str:
    """ "" if it went, else what the program said."""
    with trio.move_on_after(PATIENCE_S):
        done = await trio.run_process(
            _command(point, lazy=lazy), check=False, capture_stdout=True, capture_stderr=True, stdin=b""
        )
        return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip() or "failed"
    return f"no answer within {PATIENCE_S:g} s"


def _why(point: str, problem: str) -> str:
    by = users(point)
    name = shown(Path(point))
    if by:
        return f"{name} is in use by {', '.join(by)}: close that, or use ecfs umount --force {name}"
    return f"{name} can't be unmounted ({problem}); ecfs umount --force {name} takes it away at once"


def clear_stale(point: str) -> bool:
    """Take away a mount whose daemon is dead. Whether there was one. Raises UsageError if it can't be."""
    if not is_stale(point):
        return False
    subprocess.run(_command(point, lazy=True), capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if is_stale(point):
        raise UsageError(f"{shown(Path(point))} is left over from a daemon that is gone: as root, umount -l {point}")
    return True
