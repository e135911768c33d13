"""How much room there is, and how much of it is kept back (R23).

A shard goes to every drive, so the fullest one decides: usable = k × the least room per slot. Drives on one
device share its room. What deletes, checkpoints and the compactor need is never given to new data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import trio

from ecfs.errors import DriveError
from ecfs.journal.opened import OpenedPool
from ecfs.shard import DATA_OFFSET

RESERVE_SHARE = 8
"""At most one part in this many of a drive is kept back, so that small drives are usable at all."""
RESERVED_STRIPES = 4
CHECKPOINTS = 2
"""Kept on each drive, k-th parts of the metadata."""


@dataclass(frozen=True)
class Usable:
    """Payload bytes. free is what new data may take; kept is the reserve, usable by deletes and checkpoints only."""

    total: int
    free: int
    kept: int


class SpaceKeeper:
    """Samples the drives' space and counts what was promised since.

    in_memory: payload bytes that were admitted and that no drive has, or that no commit has made durable.
    """

    def __init__(self, pool: OpenedPool, in_memory: Callable[[], int] = lambda: 0) -> None:
        self._pool = pool
        self._in_memory = in_memory
        self._promised = 0
        """Bytes in all so far."""
        self._stored = 0
        """Those of them that the last sample found on the drives."""
        self._sampled: Usable | None = None
        self.image_bytes = max((c.length for c in pool.checkpoints), default=0)

    async def sample(self) -> None:
        """Ask every drive that is up. One that does not answer keeps its last figure."""
        # What is still in memory takes its room later. Taken for stored, it let small drives be filled to their last
        # block, reserve and all, and then commits stalled.
        stored = self._promised - self._in_memory()
        async with trio.open_nursery() as nursery:
            for member in self._pool.members.up():
                nursery.start_soon(self._sample_one, member.slot)
        self._stored = max(self._stored, stored)  # of several samples at once none counts twice what it found
        self._sampled = self._measure()

    async def _sample_one(self, slot: int) -> None:
        member = self._pool.members[slot]
        if member.drive is None:
            return
        try:
            with trio.move_on_after(member.drive.capabilities.deadline_s):
                member.space = await member.drive.space()
                if member.space.free > self._pool.settings.stripe_size:
                    member.full = False
        except DriveError as error:
            self._pool.members.chore_failed(slot, error)

    def promise(self, size: int) -> None:
        """Payload bytes that were admitted and are not on the drives yet, as far as the last sample knows."""
        self._promised += size + DATA_OFFSET

    @property
    def _outstanding(self) -> int:
        return self._promised - self._stored

    def fits(self, size: int) -> bool:
        """Whether so many payload bytes may be promised, as far as is known; asked before every change."""
        return self._sampled is None or self._sampled.free - self._outstanding > size

    def usable(self) -> Usable | None:
        """As of the last sample, less what was promised since. None until the drives were asked for the first time."""
        sampled = self._sampled
        if sampled is None:
            return None
        return Usable(sampled.total, max(sampled.free - self._outstanding, 0), sampled.kept)

    def _measure(self) -> Usable | None:
        spaces = [m.space for m in self._pool.members.up() if m.space is not None]
        if not spaces:
            return None
        sharing = self._slots_per_device()
        k = self._pool.geometry.k
        totals, frees, keeps = [], [], []
        for space in spaces:
            slots = sharing[space.device]
            keep = self._reserve(space.total // slots)
            totals.append(space.total // slots)
            keeps.append(keep)
            frees.append(space.free // slots - keep)
        return Usable(min(totals) * k, max(min(frees), 0) * k, min(keeps) * k)

    def _slots_per_device(self) -> Counter[str]:
        """Drives that are away count where they lay: a deleted directory will want its share of the disk back."""
        devices: dict[str, str] = {}
        for member in self._pool.members.up():
            if member.space is not None and member.location:
                devices[member.location.get("filesystem", "")] = member.space.device
        sharing: Counter[str] = Counter()
        for member in self._pool.members:
            if member.up and member.space is not None:
                sharing[member.space.device] += 1
            elif member.location.get("filesystem") in devices:
                sharing[devices[member.location["filesystem"]]] += 1
        return sharing

    def _reserve(self, slot_total: int) -> int:
        settings, k = self._pool.settings, self._pool.geometry.k
        # Of the metadata as they are now: where they grew much since the last checkpoint, the next one found no room,
        # the journal could not be shortened, and nothing could be deleted any more.
        images = CHECKPOINTS * max(self.image_bytes, self._pool.db.size) // k
        wanted = journal_limit(self._pool) + RESERVED_STRIPES * settings.stripe_size // k
        return images + min(wanted, slot_total // RESERVE_SHARE)


def journal_limit(pool: OpenedPool) -> int:
    """Journal bytes after which a checkpoint is due, smaller on small drives."""
    totals = [m.space.total for m in pool.members.up() if m.space is not None]
    share = min(totals) // (4 * RESERVE_SHARE) if totals else pool.settings.journal_limit
    return min(pool.settings.journal_limit, max(share, 1 << 20))


def inline_limit(pool: OpenedPool) -> int:
    """Bytes of small files that may be kept with the metadata. They are in the journal of each drive whole, and in
    two checkpoints: on small drives 64 MiB of them took the reserve as well, and nothing could be deleted any more."""
    return min(pool.settings.inline_limit, journal_limit(pool))
