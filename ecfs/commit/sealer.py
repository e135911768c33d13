"""From dirty runs to stripes and inline blobs. One synchronous step each: rows and payload never come apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ecfs.commit.dirty import Dirty
from ecfs.commit.readahead import SMALL
from ecfs.commit.sealed import SealedStripe, SealedStripes
from ecfs.commit.space import inline_limit
from ecfs.geometry import stripe_id
from ecfs.journal.opened import OpenedPool
from ecfs.meta import Extent

LONG = 128 * 1024
"""Bytes that the pieces of a stream have on average, at least: the kernel sends up to 1 MiB, and shorter ones in
order are gathered to 256 KiB."""
FILES = 1024
"""How many files with pieces are remembered: the newest."""


@dataclass(frozen=True)
class Moved:
    """An extent that was read in order to be written elsewhere, and its bytes."""

    extent: Extent
    data: bytes


class Sealer:
    """Allocates stripe ids and points extents at what it packs. Never called inside `db.atomic`: a rollback
    there would keep the dirty data out of both places."""

    def __init__(self, pool: OpenedPool, dirty: Dirty, sealed: SealedStripes) -> None:
        self._pool = pool
        self._db = pool.db
        self._dirty = dirty
        self._sealed = sealed
        self.scattered: dict[int, int] = {}
        """Bytes that were written in small pieces inside of files, by inode; `Tidier` takes from it."""

    def allocate(self) -> int:
        """The next stripe id. Ids of a crashed epoch are never used again, so the counter need not be durable."""
        pool = self._pool
        counter, pool.next_stripe = pool.next_stripe, pool.next_stripe + 1
        return stripe_id(pool.writer.epoch, counter)

    def has_full(self) -> bool:
        """A full stripe should be sealed now: what was written in order at once, and what lies in small pieces once
        enough is there that neighbours, and what is overwritten or deleted soon, have found each other."""
        settings, total = self._pool.settings, self._dirty.total
        if total < settings.stripe_size:
            return False
        return total >= settings.seal_at or total >= self._dirty.runs * LONG

    def seal_full(self) -> list[SealedStripe]:
        """Seal full stripes for as long as `has_full`."""
        stripes, settings = [], self._pool.settings
        while self.has_full():
            stripes.append(self._seal(self._dirty.take(settings.stripe_size)))
        return stripes

    def seal_all(self) -> list[SealedStripe]:
        """Seal everything that is dirty: inline if it is little, else packed in stripes."""
        settings = self._pool.settings
        room = inline_limit(self._pool) - self._db.files.inline_total
        if self._dirty.total <= min(settings.inline_at_most, room):
            self._inline()
            return []
        stripes = []
        while self._dirty.total:
            stripes.append(self._seal(self._dirty.take(settings.stripe_size)))
        return stripes

    def _inline(self) -> None:
        files = self._db.files
        for ino, offset, data in self._dirty.take(self._dirty.total):
            files.put_extent(ino, offset, len(data), -files.add_inline(data), 0)

    def _seal(self, runs: list[tuple[int, int, bytes]]) -> SealedStripe:
        stripe = self._new(data for _, _, data in runs)
        at = 0
        for ino, offset, length in _merged(runs):
            self._db.files.put_extent(ino, offset, length, stripe.id, at)
            at += length
            if offset and length < SMALL:
                self._note_piece(ino, length)
        return stripe

    def _note_piece(self, ino: int, length: int) -> None:
        self.scattered[ino] = self.scattered.get(ino, 0) + length
        if len(self.scattered) > FILES:
            del self.scattered[next(iter(self.scattered))]

    def _new(self, pieces: Iterable[bytes]) -> SealedStripe:
        stripe = SealedStripe(self.allocate(), b"".join(pieces))
        self._sealed.add(stripe)
        return stripe

    def repack(self, moved: list[Moved]) -> SealedStripe | None:
        """Point extents, one at least, at a new stripe that holds their bytes, each only if its row is still as it was
        read (R13).

        None if not one was: then nothing was changed.
        """
        number, at, swapped = self.allocate(), 0, False
        for run in _neighbours(moved):
            swapped |= self._point(run, number, at)
            at += sum(len(piece.data) for piece in run)
        if not swapped:
            return None
        stripe = SealedStripe(number, b"".join(piece.data for piece in moved))
        self._sealed.add(stripe)
        return stripe

    def _point(self, run: list[Moved], number: int, at: int) -> bool:
        """Point neighbouring extents at a stripe: as one, if no byte lies elsewhere by now. False if none was."""
        files, first, last = self._db.files, run[0].extent, run[-1].extent
        if len(run) > 1 and files.extents(first.ino, first.offset, last.end) == [piece.extent for piece in run]:
            files.put_extent(first.ino, first.offset, last.end - first.offset, number, at)
            return True
        swapped = False
        for piece in run:
            swapped |= files.replace_source(piece.extent, number, at)
            at += len(piece.data)
        return swapped


def _neighbours(moved: list[Moved]) -> Iterable[list[Moved]]:
    """Runs of pieces that lie one behind the other in a file."""
    run = moved[:1]
    for piece in moved[1:]:
        before = run[-1].extent
        if (before.ino, before.end) != piece.extent[:2]:
            yield run
            run = []
        run.append(piece)
    yield run


def _merged(runs: list[tuple[int, int, bytes]]) -> Iterable[tuple[int, int, int]]:
    """(ino, offset, length) of neighbouring runs joined: one extent instead of many."""
    ino, start, _ = runs[0]
    end = start
    for each, offset, data in runs:
        if (each, offset) != (ino, end):
            yield ino, start, end - start
            ino, start, end = each, offset, offset
        end += len(data)
    yield ino, start, end - start
