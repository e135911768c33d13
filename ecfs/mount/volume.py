"""A pool that is open, with everything that works on it and without FUSE: for the daemon and for commands alike."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import trio

from ecfs.clock import Clock
from ecfs.codec import self_test
from ecfs.commit.engine import Engine
from ecfs.control.failure import leaves
from ecfs.control.service import End, Served
from ecfs.drive.base import Drive
from ecfs.drive.registry import open_drive
from ecfs.errors import EcfsError, UsageError
from ecfs.fs.filesystem import FileSystem
from ecfs.heal.healer import Healer
from ecfs.journal.opened import OpenedPool
from ecfs.journal.opening import open_pool
from ecfs.mount.locate import access_of, open_drives
from ecfs.mount.patience import Tell, patiently
from ecfs.mount.places import Places, move_place
from ecfs.mount.risk import risks_of
from ecfs.mount.scratch import scratch_directory
from ecfs.pool.poolfile import PoolFile
from ecfs.pool.settings import Settings

_log = logging.getLogger(__name__)

T = TypeVar("T")

RISKS_S = 60.0
AGAIN_S, LAST_AGAIN_S = 5.0, 600.0
"""After a bug has ended healing: doubled each time, since every time is told."""
MIB = 1 << 20
LIMITS: dict[str, tuple[str, int]] = {
    "cache_mib": ("cache_bytes", MIB),
    "dirty_mib": ("dirty_limit", MIB),
    "sealed_mib": ("sealed_limit", MIB),
    "journal_mib": ("journal_limit", MIB),
    "max_commit_s": ("max_commit_s", 1),
}
"""Key in the pool file → setting, and what one of it is."""


async def _not_mounted(*, force: bool) -> None:
    raise UsageError("the pool is not mounted")


@dataclass
class Volume:
    """clean: set at the end; False if something could not be made durable."""

    file: PoolFile
    pool: OpenedPool
    engine: Engine
    fs: FileSystem
    healer: Healer
    clean: bool = False
    risks: list[str] = field(default_factory=list)
    """Drives that would fail together, a sentence each."""

    def served(
        self, mountpoint: str = "", end: End = _not_mounted, alert_test: Callable[[], Awaitable[str]] | None = None
    ) -> Served:
        """What the control service needs. Without a mount point there is nothing to end."""
        return Served(self.engine, self.healer, mountpoint, end, self._moved, lambda: self.risks, alert_test)

    async def look_for_risks(self) -> None:
        """Which drives fail together. In a thread: to look at where a dead disk was mounted can take for ever."""
        urls = [member.url for member in self.pool.members]
        try:
            self.risks = await trio.to_thread.run_sync(risks_of, urls, self.pool.geometry.m, abandon_on_cancel=True)
        except Exception:  # a disk that fails while it is looked at, no thread to be had: no reason to end the mount
            _log.exception("which drives fail together can't be told")

    def _moved(self, slot: int, old: str, new: str) -> None:
        """A drive was replaced: the pool file must lead to the new place."""
        try:
            move_place(self.file.path, slot, old, new)
        except (EcfsError, OSError) as error:
            self.pool.members.note(slot, "pool-file", f"{self.file.path} could not be changed: {error}")


def settings_of(file: PoolFile, *, read_only: bool = False) -> Settings:
    settings = Settings(stripe_size=file.stripe_kib * 1024, min_write_drives=file.min_write_drives, read_only=read_only)
    changes: dict[str, Any] = {LIMITS[key][0]: value * LIMITS[key][1] for key, value in file.limits}
    return replace(settings, **changes)


def run_whole(work: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """trio.run for commands that open a pool. Ctrl-C ends the work, not whatever task runs just then: in the engine's
    it would end that, and the last commit wait for ever."""
    try:
        return trio.run(work, *arguments, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(group)):
            raise KeyboardInterrupt from group  # which whoever pressed it expects, and not a page of tracebacks
        raise


@asynccontextmanager
async def open_volume(file: PoolFile, *, clock: Clock, tell: Tell, read_only: bool = False) -> AsyncIterator[Volume]:
    """Open the pool for writing, run it, close it. Raises what `open_pool` raises."""
    with scratch_directory() as scratch:
        pool = await open_patiently(file, scratch, clock=clock, tell=tell, read_only=read_only)
        async with run_volume(file, pool) as volume:
            yield volume


async def open_patiently(
    file: PoolFile, scratch: Path, *, clock: Clock, tell: Tell, read_only: bool = False, accept_loss: bool = False
) -> OpenedPool:
    """`open_pool`, but a daemon that is about to end gets the time to do so."""
    self_test()
    settings = settings_of(file, read_only=read_only)

    async def attempt() -> OpenedPool:
        drives = open_drives(file, clock)
        return await open_pool(
            drives, pool_id=file.pool_id, clock=clock, scratch=scratch, settings=settings, accept_loss=accept_loss
        )

    return await patiently(file.pool_id, tell, attempt)


@asynccontextmanager
async def run_volume(file: PoolFile, pool: OpenedPool, *, go_on: bool = False) -> AsyncIterator[Volume]:
    """Run an opened pool; at the end commit, write a checkpoint, let go of the drives.

    go_on: also with a scrub that the last mount left unfinished.
    """
    engine = Engine(pool)
    healer = Healer(engine, _opener(file, pool.clock), Places(file))
    volume = Volume(file, pool, engine, FileSystem(pool.db, engine, pool.clock, pool.members.out_slots), healer)
    try:
        async with trio.open_nursery() as nursery:
            committing, healing = trio.CancelScope(), trio.CancelScope()
            await nursery.start(_run_engine, engine, committing)
            try:
                # Whatever cancels or ends all this: the last commit, below, would wait for ever for an engine that was
                # cancelled, too, and what was not committed be lost.
                committing.shield = True
                nursery.start_soon(_run_healer, volume, healing, go_on)
                nursery.start_soon(_watch_risks, volume)
                pool.members.note(
                    None, "opened", f"by process {os.getpid()}" + (", to read only" if pool.read_only else "")
                )
                yield volume
            finally:
                try:
                    with trio.CancelScope(shield=True):
                        # First: heal goes on recording what it repaired, and the last commit would never be the last.
                        healer.stop()
                        healing.cancel()
                        pool.members.note(None, "closed", f"by process {os.getpid()}")
                        volume.clean = await engine.close()
                finally:
                    committing.cancel()
                    nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await release(pool)


async def _run_engine(engine: Engine, scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
    """A bug in the engine must not end the mount: what was written is still in memory and can be read."""
    try:
        with scope:
            await engine.run(task_status=task_status)
    except Exception as error:
        _log.exception("the commit engine stopped")
        engine.give_up(f"internal error in the commit engine: {error!r}")


async def _watch_risks(volume: Volume) -> None:
    """Only when a drive has moved."""
    known: list[str] = []
    while True:
        urls = [member.url for member in volume.pool.members]
        if urls != known:
            known = urls
            await volume.look_for_risks()
        await volume.pool.members.wait_change(RISKS_S)


def _opener(file: PoolFile, clock: Clock) -> Callable[[str, int], Drive]:
    access = access_of(file)

    def open_one(url: str, slot: int) -> Drive:
        return open_drive(url, slot=slot, clock=clock, access=access)

    return open_one


async def _run_healer(volume: Volume, scope: trio.CancelScope, go_on: bool) -> None:
    """A bug in healing must not end the mount either. It is begun again: without it, no drive that returns is taken in,
    and nothing is repaired, up to the next mount."""
    again_s = AGAIN_S
    try:
        with scope:
            while True:
                try:
                    await volume.healer.run(go_on=go_on)
                except Exception as error:
                    _log.exception("healing stopped")
                    text = f"an unexpected error, the log says more; begun again in {again_s:g} s: {error!r}"
                    volume.pool.members.note(None, "healing", text)
                go_on = False  # a scrub that brings such an error about again would keep all the rest from its work
                await trio.sleep(again_s)
                again_s = min(2 * again_s, LAST_AGAIN_S)
    except Exception:
        _log.exception("healing stopped at the end")


async def release(pool: OpenedPool) -> None:
    """Close the drives and the metadata database."""
    drives: list[Drive] = [member.drive for member in pool.members if member.drive is not None]
    for drive in drives:
        await drive.close()
    pool.db.close()
