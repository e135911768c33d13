"""Deleting the shards of dead stripes: after the commit that killed them, and when the last reader has gone (R13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio

from ecfs.errors import DriveError, DriveTimeoutError
from ecfs.journal.opened import OpenedPool
from ecfs.shard import shard_key

MISSES = 3
"""Deletions that a drive may be late with in one round: then it is left out, or the end of a mount would wait for each
of thousands, at a time when nobody watches the drives any more."""


class Reaper:
    """Deletes in the background. `reaped` collects ids whose facts can leave the tables in the next outcome."""

    def __init__(self, pool: OpenedPool, reaped: list[int], on_reaped: Callable[[], None]) -> None:
        self._pool = pool
        self._reaped = reaped
        self._on_reaped = on_reaped
        self._waiting: dict[int, bool] = {}
        """Stripe → whether it has a fact. One stays until it is deleted, so that the next round finds what a cancelled
        one, of a program that was killed while room was made for it, has left."""
        self._wake = trio.Event()
        self._lock = trio.Lock()
        self._late: Counter[int] = Counter()
        """Slot → deletions of this round that were late."""

    def bury(self, stripes: list[int], *, had_fact: bool) -> None:
        """had_fact: the stripe was committed once, so its fact must be removed by a later outcome."""
        if stripes:
            self._waiting |= dict.fromkeys(stripes, had_fact)
            self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await self.drain()

    async def drain(self) -> None:
        """Delete everything that waits now; returns when also what another call is deleting is gone."""
        async with self._lock:
            self._late.clear()
            limit = trio.CapacityLimiter(4)
            async with trio.open_nursery() as nursery:
                for stripe in tuple(self._waiting):
                    await limit.acquire_on_behalf_of(stripe)
                    nursery.start_soon(self._delete, stripe, limit)

    async def _delete(self, stripe: int, limit: trio.CapacityLimiter) -> None:
        try:
            await self._pool.pins.wait_unpinned(stripe)
            self._pool.reader.forget(stripe)
            for member in self._pool.members.up():
                await self._delete_on(member.slot, stripe)
            if self._waiting.pop(stripe):
                self._reaped.append(stripe)
                self._on_reaped()
        finally:
            limit.release_on_behalf_of(stripe)

    async def _delete_on(self, slot: int, stripe: int) -> None:
        """A drive that can't delete now keeps an orphan, which scrub finds (R12)."""
        drive = self._pool.members.readable(slot)
        if drive is None or self._late[slot] >= MISSES:
            return
        try:
            with trio.move_on_after(drive.capabilities.deadline_s):
                await drive.delete(shard_key("s", stripe))
                return
            self._late[slot] += 1
        except DriveError as error:
            self._late[slot] += isinstance(error, DriveTimeoutError)
            self._pool.members.chore_failed(slot, error)
