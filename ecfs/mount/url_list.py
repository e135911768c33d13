"""A pool named by its drives, as in ``ecfs mount nas1:9001,nas2:9001,… ./mnt``.

Such a pool has a pool file like any other. It lies among this user's state, under a name that follows from the drives,
whatever their order: what one finds there once is found again, and everything that takes a pool file takes the list.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ecfs.clock import Clock
from ecfs.drive.registry import check_distinct
from ecfs.errors import NotAPoolError, RefusedError, UsageError
from ecfs.mount.locate import open_drives
from ecfs.mount.making import save_text
from ecfs.pool.judge import Sight, look
from ecfs.pool.poolfile import DEFAULT_DRIVES, PoolFile, render_pool_file
from ecfs.rpc.tls import TlsFiles


def planned_by_list(path: Path, urls: tuple[str, ...], tls: TlsFiles | None, *, create: bool) -> PoolFile:
    """The pool file of a list that was never used before. Whose pool it is, or whether one must be made, the drives
    say. Raises UsageError."""
    check_distinct(urls)
    if not create:
        raise NotAPoolError("no pool was mounted from this list before: do so once without --no-create")
    if len(urls) < 3:
        raise UsageError(f"a pool has at least 3 drives, the list names {len(urls)}")
    m = 2 if len(urls) >= 5 else 1
    return PoolFile(path, "", len(urls) - m, m, urls, tls=tls)


async def find_pool(file: PoolFile, clock: Clock) -> PoolFile | None:
    """The pool that drives of the list belong to, its file written; None if all of them are vacant.

    Raises RefusedError if that would have to be guessed at, or nothing could be seen.
    """
    sights = [await _seen(file, slot, clock) for slot in range(len(file.urls))]
    found = [sight.identity for sight in sights if sight.is_member and sight.identity is not None]
    named = {(identity.pool_id, identity.k, identity.m) for identity in found}
    if not named:
        await _check_none_there(file, sights)
        return None
    if len(named) > 1:
        raise RefusedError("the drives of the list belong to different pools: name those of one")
    ((pool_id, k, m),) = named
    if len(found) < k or k + m != len(file.urls):
        raise RefusedError(f"of the {len(file.urls)} drives listed {len(found)} belong to one pool, of {k + m} drives")
    file = replace(file, pool_id=pool_id, k=k, m=m)
    save_text(file.path, render_pool_file(file))
    return file


async def _seen(file: PoolFile, slot: int, clock: Clock) -> Sight:
    drive = open_drives(file, clock)[slot]
    try:
        return await look(drive, exclusive=False)
    finally:
        await drive.close()


async def _check_none_there(file: PoolFile, sights: list[Sight]) -> None:
    """Nothing of a pool was seen. That is a new pool only if every place could be looked at."""
    n = len(file.urls)
    for sight in sights:
        if sight.state != "absent" or not await _is_vacant(sight):
            reason = sight.reason or sight.state
            raise RefusedError(f"{sight.drive.url}: {reason}; no pool was found, and none was made")
    if n != DEFAULT_DRIVES:
        raise RefusedError(f"a new pool of {n} drives? say how: ecfs create POOL --data K --parity M URL…")


async def _is_vacant(sight: Sight) -> bool:
    try:
        return await sight.drive.is_vacant()
    finally:
        await sight.drive.close()
