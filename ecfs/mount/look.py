"""Looking at a pool that is not mounted here: reads only, locks nothing, waits for no dead drive."""

from __future__ import annotations

from pathlib import Path

import trio

from ecfs.clock import Clock
from ecfs.codec import self_test
from ecfs.commit.space import SpaceKeeper
from ecfs.control.status import Status, build_status, failed_status, seen_drive
from ecfs.drive.base import Drive
from ecfs.drive.deadline import DeadlineDrive
from ecfs.errors import CorruptError, DriveError, HistoryGapError, NotAPoolError, NotEnoughDrivesError
from ecfs.journal.eventlog import stored_events
from ecfs.journal.opened import OpenedPool
from ecfs.journal.opening import open_pool
from ecfs.mount.locate import open_drives
from ecfs.mount.places import urls_of
from ecfs.mount.risk import risks_of
from ecfs.mount.scratch import scratch_directory
from ecfs.mount.volume import release, settings_of
from ecfs.pool.judge import Sight, judge, look
from ecfs.pool.members import Event
from ecfs.pool.poolfile import PoolFile

DEADLINE_S = 5.0
"""Per question to a drive. A sleeping disk that needs longer shows as absent, and says so."""


async def events_of(file: PoolFile, clock: Clock) -> list[Event]:
    """What the drives say has happened, oldest first. Raises as `open_pool`."""
    self_test()
    with scratch_directory() as scratch:
        pool = await _open(file, clock, scratch)
        try:
            return stored_events(pool.db.drives)
        finally:
            with trio.CancelScope(shield=True):
                await release(pool)


async def look_at(file: PoolFile, clock: Clock) -> Status:
    """The status of a pool, as far as it can be seen. Raises RefusedError where it must not be opened at all."""
    self_test()
    with scratch_directory() as scratch:
        try:
            return await _open_and_look(file, clock, scratch)
        except (NotEnoughDrivesError, HistoryGapError, CorruptError, NotAPoolError) as error:
            return await _what_is_there(file, clock, str(error))


def _quick_drives(file: PoolFile, clock: Clock) -> list[Drive]:
    return [DeadlineDrive(drive, DEADLINE_S) for drive in open_drives(file, clock)]


async def _open(file: PoolFile, clock: Clock, scratch: Path) -> OpenedPool:
    return await open_pool(
        _quick_drives(file, clock),
        pool_id=file.pool_id,
        clock=clock,
        scratch=scratch,
        settings=settings_of(file),
        read_only=True,
    )


async def _open_and_look(file: PoolFile, clock: Clock, scratch: Path) -> Status:
    pool = await _open(file, clock, scratch)
    try:
        space = SpaceKeeper(pool)
        await space.sample()
        status = build_status(pool, usable=space.usable())
        with trio.move_on_after(DEADLINE_S):
            status["risks"] = await trio.to_thread.run_sync(risks_of, urls_of(file), file.m, abandon_on_cancel=True)
        return status
    finally:
        with trio.CancelScope(shield=True):
            await release(pool)


async def _what_is_there(file: PoolFile, clock: Clock, why: str) -> Status:
    sights = [await _look(drive) for drive in _quick_drives(file, clock)]
    judged = judge(sights, file.pool_id, file.k + file.m)
    drives = [_seen(slot, sight) for slot, sight in enumerate(judged)]
    return failed_status(file.k, file.m, file.pool_id, drives, [why])


async def _look(drive: Drive) -> Sight:
    try:
        return await look(drive, exclusive=False)
    except DriveError as error:
        return Sight(drive, "absent", str(error.args[0]))
    finally:
        await drive.close()


def _seen(position: int, sight: Sight) -> Status:
    slot = sight.identity.slot if sight.identity is not None and sight.is_member else position
    return seen_drive(slot, sight.drive.url, "online" if sight.is_member else sight.state, sight.reason)
