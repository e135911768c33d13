"""After an opening: deleting shards that no commit ever named (R12). The most dangerous line is here; it is narrow.

Only ids of epochs that are over and not older than the newest checkpoint's, since what a crash leaves can't be older;
only after the open record is committed; never a stripe with a fact.
"""

from __future__ import annotations

from contextlib import aclosing

from ecfs.drive.base import Drive
from ecfs.errors import CorruptError, DriveError
from ecfs.geometry import epoch_of
from ecfs.heal.context import HealContext
from ecfs.shard import parse_key


def is_named(ctx: HealContext, space: str, number: int) -> bool:
    """Does a committed row or a retained checkpoint name this stripe? No await between this and acting on it."""
    pool = ctx.pool
    if space == "s":
        return pool.db.ledger.fact(number) is not None or ctx.engine.sealed.payload(number) is not None
    return any(row[0] == number for checkpoint in pool.checkpoints for row in checkpoint.stripes)


class Cleanup:
    """Runs once per drive and opening."""

    def __init__(self, ctx: HealContext) -> None:
        self._ctx = ctx
        self.first = ctx.pool.checkpoints[0].epoch if ctx.pool.checkpoints else ctx.pool.writer.epoch
        self.last = ctx.pool.writer.epoch - 1
        self._done: dict[int, int] = {}

    async def run(self) -> None:
        """Every drive that is up, now and when it comes back."""
        while True:
            for member, drive in self._ctx.pool.members.drives():
                if self._done.get(member.slot) != member.incarnation:
                    self._done[member.slot] = member.incarnation
                    await self.clean(member.slot, drive)
            await self._ctx.pool.members.wait_change(3600)

    async def clean(self, slot: int, drive: Drive) -> None:
        if self._ctx.pool.db.drives.setting("quarantine"):
            return  # commits were given up: their shards look like orphans, and may be all that is left of them (R9)
        try:
            for epoch in range(self.first, self.last + 1):
                await self._clean(drive, f"s/{epoch:08x}/")
            await self._clean(drive, "c/")
        except DriveError as error:
            self._ctx.pool.members.drive_failed(slot, error)

    async def _clean(self, drive: Drive, prefix: str) -> None:
        async with aclosing(drive.list(prefix)) as entries:
            doomed = [entry.key async for entry in entries if self._is_doomed(entry.key)]
        for key in doomed:
            if self._is_doomed(key):
                await drive.delete(key)

    def _is_doomed(self, key: str) -> bool:
        try:
            space, number = parse_key(key)
        except CorruptError:
            return False  # not a name that we give
        return self.first <= epoch_of(number) <= self.last and not is_named(self._ctx, space, number)
