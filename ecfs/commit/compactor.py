"""Winning back space: live bytes of mostly dead stripes are moved together, inline blobs are packed into stripes.

Reads first, then swaps in one synchronous step only the extents that are still exactly as they were read (R13).
The old stripes die by that commit like any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import trio

from ecfs.commit.backlog import Backlog
from ecfs.commit.sealer import Moved
from ecfs.commit.tidier import IDLE_S, Tidier
from ecfs.errors import CorruptError, EcfsError, StripeLostError

if TYPE_CHECKING:
    from ecfs.commit.engine import Engine

PAUSE_S = 0.5
"""Between two looks whether there is something to do."""
ALMOST_LIVE = 0.95
STRIPES_AT_ONCE = 2
"""Written in one go: the more, the less of a file lies between what is in one of them. Held in memory."""
MOST_STRIPES = 64
RETRY_S = 60.0
"""After a stripe could not be read: its drives may only have been away."""


class Compactor:
    """One stripe's worth at a time; yields to whoever waits for a commit."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wake = trio.Event()
        self._hopeless: dict[int, float] = {}
        """Stripes that could not be read, and when to try again."""
        self._tidier = Tidier(engine, self)
        self.backlog = Backlog()
        self._at_work = False
        self.moved_bytes = 0
        """Payload written anew so far; what programs wrote is `Engine.bytes_written`."""

    def wake(self) -> None:
        """Something was committed."""
        self._wake.set()
        if self._at_work:
            self._measure()

    async def run(self) -> None:
        while True:
            with trio.move_on_after(IDLE_S if self._tidier.has_work else math.inf):
                await self._wake.wait()
            woken, self._wake = self._wake.is_set(), trio.Event()
            await trio.sleep(PAUSE_S)
            try:
                if woken:
                    await self._work()
                while self._tidier.is_time():
                    if await self._tidier.tidy_once():
                        await self._engine.sync()
                        await self._work()
            except EcfsError:
                continue  # stalled, full or undecodable: looked at again after the next commit

    async def _work(self) -> None:
        self._at_work = True
        try:
            while self._measure() and await self.compact_once():
                await self._engine.sync()
        finally:
            self._at_work = False
            self.backlog.forget()
        files, settings = self._engine.db.files, self._engine.pool.settings
        while files.inline_total > settings.pack_inline_at and await self.pack_inline():
            await self._engine.sync()

    def _measure(self) -> bool:
        """Whether there is more in stripes that belongs to no file than should be. With parity, and what waits to be
        deleted, that is well under three times the live payload on the drives."""
        live = self._engine.db.files.live_total()
        dead = self._engine.db.ledger.total_length() - live
        most = max(live * 3 // 5, self._slack())
        self.backlog.measured(dead, most * 4 // 3)
        return dead > most

    def _slack(self) -> int:
        usable, slack = self._engine.space_keeper.usable(), self._engine.pool.settings.compact_slack
        return slack if usable is None else min(slack, usable.total // 16)

    async def compact_once(self, *, urgent: bool = False) -> bool:
        """Move the live bytes of the deadest stripes into a few new ones. False if nothing was worth it."""
        threshold = ALMOST_LIVE if urgent else self._engine.pool.settings.compact_below
        now = trio.current_time()
        self._hopeless = {stripe: at for stripe, at in self._hopeless.items() if at > now}
        rows = self._engine.db.files.stripes_by_liveness(MOST_STRIPES)
        chosen = [r.stripe for r in rows if r.live < threshold * r.length and r.stripe not in self._hopeless]
        room = self._engine.pool.settings.stripe_size * (1 if urgent else STRIPES_AT_ONCE)
        with ExitStack() as pins:
            moved: list[Moved] = []
            for stripe in chosen:
                pins.enter_context(self._engine.pool.pins.pin(stripe))
                if not self._engine.db.files.extents_of(stripe):
                    continue  # R13: it died while the one before was read; its shards may be gone
                pieces = await self._gather(stripe)
                while pieces and (len(pieces[0].data) <= room or not moved):
                    room -= len(pieces[0].data)
                    moved.append(pieces.pop(0))
                if pieces or room <= 0:
                    break  # what is left of this one stays, and is the deadest next time
            return await self.swap(moved)

    async def pack_inline(self) -> bool:
        """Move the oldest inline blobs into one stripe. False if there is nothing to move."""
        moved: list[Moved] = []
        size = 0
        for extent in self._engine.db.files.inline_extents(self._engine.pool.settings.commit_rows // 4):
            if size >= self._engine.pool.settings.stripe_size:
                break
            moved.append(Moved(extent, self._engine.files.read_inline(extent)))
            size += extent.length
        return await self.swap(moved)

    async def _gather(self, stripe: int) -> list[Moved]:
        """What is live in a stripe. Looked up after the read: what died meanwhile need not be moved."""
        try:
            payload = await self._engine.files.read_stripe(stripe)
        except (StripeLostError, CorruptError):
            self._hopeless[stripe] = trio.current_time() + RETRY_S  # leave it where it is, for scrub to judge
            return []
        return [
            Moved(extent, payload[extent.source_offset : extent.source_offset + extent.length])
            for extent in self._engine.db.files.extents_of(stripe)
        ]

    async def swap(self, moved: list[Moved]) -> bool:
        """Write them anew in the files' order, some neighbours as one. False if nothing is where it was read."""
        moved.sort(key=lambda piece: (piece.extent.ino, piece.extent.offset))
        swapped = False
        for group in _groups(moved, self._engine.pool.settings.stripe_size):
            stripe = self._engine.sealer.repack(group)
            if stripe is not None:
                swapped = True
                self.moved_bytes += len(stripe.payload)
                self._engine.queue_stripe(stripe)
                self._engine.changed()
            await trio.lowlevel.checkpoint()  # a thousand rows take a while, and programs wait
        return swapped


def _groups(moved: list[Moved], size: int) -> Iterator[list[Moved]]:
    """As many as fit into a stripe."""
    group: list[Moved] = []
    room = size
    for piece in moved:
        if group and len(piece.data) > room:
            yield group
            group, room = [], size
        group.append(piece)
        room -= len(piece.data)
    if group:
        yield group
