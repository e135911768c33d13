"""Opening a pool: from places on drives to one agreed state. The order of steps: docs/INVARIANTS.md, "Opening".

Nothing is served, answered or deleted before the open record is committed. A read-only opening does the
same without fencing, locking or appending, and therefore promises nothing about tomorrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecfs.clock import Clock
from ecfs.drive.base import Drive
from ecfs.journal.gather import fence_and_read, look_around
from ecfs.journal.opened import OpenedPool
from ecfs.journal.recovery import load_newest
from ecfs.journal.state import Opening
from ecfs.journal.table import judged_table
from ecfs.journal.takeover import adopt_table, append_open_record, catch_up_journals, settle_in
from ecfs.pool.settings import Settings


async def open_pool(
    candidates: Sequence[Drive],
    *,
    pool_id: str,
    clock: Clock,
    scratch: Path,
    settings: Settings | None = None,
    read_only: bool = False,
    accept_loss: bool = False,
) -> OpenedPool:
    """Open the pool that lies on these places.

    pool_id: hex, from the pool file; "" to take the one that most drives name.
    accept_loss: where history has a gap, go back to the newest state that is whole; nothing is deleted for it (R9).
    Raises RefusedError and its kin, NotEnoughDrivesError; on any error every drive is let go again.
    """
    opening = Opening(clock, settings or Settings(), scratch, read_only, accept_loss=accept_loss)
    try:
        pool = await _open(opening, candidates, pool_id)
        used = [member.drive for member in pool.members if member.up]
        for drive in candidates:
            if drive not in used:
                await drive.close()  # its lock would keep heal from looking at the place again
        return pool
    except BaseException:
        for drive in candidates:
            await drive.close()
        raise


async def _open(opening: Opening, candidates: Sequence[Drive], pool_id: str) -> OpenedPool:
    await look_around(opening, candidates, pool_id)
    await fence_and_read(opening)
    pool = await load_newest(opening)
    if opening.read_only:
        adopt_table(opening, pool)
        return pool
    sources = dict(opening.drives)
    judged_table(opening, pool)  # who is turned away gets nothing, and a refusal leaves nothing behind
    await catch_up_journals(opening, pool, sources)
    await append_open_record(opening, pool)
    await settle_in(opening, pool)
    return pool
