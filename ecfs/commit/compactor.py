"""Winning back space: live bytes of mostly dead stripes are moved together, inline blobs are packed into stripes.

Reads first, then swaps in one synchronous step only the extents that are still exactly as they were read (R13).
The old stripes die by that commit like any other.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import trio

from ecfs.commit.sealer import Moved
from ecfs.errors import CorruptError, EcfsError, StripeLostError

if TYPE_CHECKING:
    from ecfs.commit.engine import Engine

PAUSE_S = 0.5
"""Between two looks whether there is something to do."""
ALMOST_LIVE = 0.95


class Compactor:
    """One stripe's worth at a time; yields to whoever waits for a commit."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wake = trio.Event()
        self._hopeless: set[int] = set()
        self.moved_bytes = 0
        """Payload written anew so far; what programs wrote is `Engine.bytes_written`."""

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await trio.sleep(PAUSE_S)
            try:
                await self._work()
            except EcfsError:
                continue  # stalled, full or undecodable: looked at again after the next commit

    async def _work(self) -> None:
        while self._is_wasteful() and await self.compact_once():
            await self._engine.sync()
        files, settings = self._engine.db.files, self._engine.pool.settings
        while files.inline_total > settings.pack_inline_at and self.pack_inline():
            await self._engine.sync()

    def _is_wasteful(self) -> bool:
        """More dead than live bytes in stripes. Stays well under three times the live payload on the drives."""
        db = self._engine.db
        live = db.files.live_total()
        return db.ledger.total_length() - live > max(live * 3 // 5, self._slack())

    def _slack(self) -> int:
        usable, slack = self._engine.space_keeper.usable(), self._engine.pool.settings.compact_slack
        return slack if usable is None else min(slack, usable.total // 16)

    async def compact_once(self, *, urgent: bool = False) -> bool:
        """Move the live bytes of the deadest stripes into one new one. False if nothing was worth it."""
        threshold = ALMOST_LIVE if urgent else self._engine.pool.settings.compact_below
        rows = self._engine.db.files.stripes_by_liveness(32)
        chosen = [r.stripe for r in rows if r.live < threshold * r.length and r.stripe not in self._hopeless]
        with ExitStack() as pins:
            moved: list[Moved] = []
            size = 0
            for stripe in chosen:
                if size >= self._engine.pool.settings.stripe_size:
                    break
                pins.enter_context(self._engine.pool.pins.pin(stripe))
                pieces = await self._gather(stripe)
                moved += pieces
                size += sum(len(piece.data) for piece in pieces)
            return self._swap(moved)

    def pack_inline(self) -> bool:
        """Move the oldest inline blobs into one stripe. False if there is nothing to move."""
        moved: list[Moved] = []
        size = 0
        for extent in self._engine.db.files.inline_extents(self._engine.pool.settings.commit_rows // 4):
            if size >= self._engine.pool.settings.stripe_size:
                break
            moved.append(Moved(extent, self._engine.files.read_inline(extent)))
            size += extent.length
        return self._swap(moved)

    async def _gather(self, stripe: int) -> list[Moved]:
        """What is live in a stripe. Looked up after the read: what died meanwhile need not be moved."""
        try:
            payload = await self._engine.files.read_stripe(stripe)
        except (StripeLostError, CorruptError):
            self._hopeless.add(stripe)  # can't be read now: leave it where it is, for scrub to judge
            return []
        return [
            Moved(extent, payload[extent.source_offset : extent.source_offset + extent.length])
            for extent in self._engine.db.files.extents_of(stripe)
        ]

    def _swap(self, moved: list[Moved]) -> bool:
        moved.sort(key=lambda piece: (piece.extent.ino, piece.extent.offset))
        stripe = self._engine.sealer.repack(moved)
        if stripe is None:
            return False
        self.moved_bytes += len(stripe.payload)
        self._engine.queue_stripe(stripe)
        self._engine.changed()
        return True
