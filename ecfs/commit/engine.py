"""The commit engine: the bytes of files for `fs/`, and when to commit.

One loop commits (`_commit_loop`); sealed stripes are put in the background meanwhile. Who may change what between
two awaits is in docs/CONCURRENCY.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from ecfs.commit.admission import Admission
from ecfs.commit.checkpointer import Checkpointer
from ecfs.commit.committer import Commit, Committer, Image
from ecfs.commit.compactor import Compactor
from ecfs.commit.dirty import Dirty
from ecfs.commit.reading import FileReader
from ecfs.commit.reaper import Reaper
from ecfs.commit.sealed import SealedStripe, SealedStripes
from ecfs.commit.sealer import Sealer
from ecfs.commit.settle import Settler
from ecfs.commit.space import SpaceKeeper, Usable
from ecfs.errors import EcfsError, FencedError, StalledError
from ecfs.histogram import Histogram
from ecfs.journal.opened import OpenedPool
from ecfs.meta import Outcome

SAMPLE_S = 2.0
"""Seconds between two looks at the drives' space."""
LAST_COMMITS = 10
"""Before closing gives up on drives that come and go all the time."""


class Engine:
    """Implements `fs.data.FileData` over an open pool. Start `run` in a nursery; end with `close`."""

    def __init__(self, pool: OpenedPool) -> None:
        self.pool = pool
        self.db = pool.db
        self.dirty = Dirty()
        self.sealed = SealedStripes(pool.settings.sealed_limit)
        self.failures = 0
        self.stalled = ""
        """Why commits can't be finished now; "" when they can."""
        self._stalled_as: type[StalledError] = StalledError
        self.stalled_since_ns = 0
        self.fenced = ""
        self.committed = 0
        """Commits that were finished."""
        self.last_commit_ns = 0
        self.ending = False
        """`close` was called: nothing new is begun."""
        self.last_use = 0.0
        """When programs last read or changed something, as trio counts seconds."""
        self.commit_time = Histogram()
        """From the freeze until acknowledged, a stall included."""
        self.bytes_read = self.bytes_written = 0
        """Of files, by programs."""
        self.commit_lock = trio.Lock()
        """Held while a commit is on its way. Whoever holds it sees W, journal and tables at rest."""
        self.settler = Settler(pool)
        self.sealer = Sealer(pool, self.dirty, self.sealed)
        self.committer = Committer(pool, self.sealed, self.sealer, self.settler)
        self.space_keeper = SpaceKeeper(pool, self.in_memory)
        self.checkpointer = Checkpointer(pool, self.sealer, self.settler, self.space_keeper)
        self.reaper = Reaper(pool, self.committer.removed, self.changed)
        self.files = FileReader(pool, self.dirty, self.sealed)
        self.compactor = Compactor(self)
        self.admission = Admission(self)
        self._frozen = 0
        self._frozen_at = 0.0
        self._pending: Commit | None = None
        self._urgent = False
        self._first_change = self._last_change = 0.0
        self._wake = trio.Event()
        self._progress = trio.Event()
        self._stripe_queued = trio.Event()
        self._want_checkpoint = False
        self._image: Image | None = None
        """Pinned and not copied yet. The database pins one at a time."""
        self._nursery: trio.Nursery | None = None

    # ---- FileData: changes ------------------------------------------------------------------------------

    async def admit(self, size: int, *, deleting: bool = False, metadata: int = 0) -> None:
        """See `Admission`. Also the place where full stripes are sealed, since it lies outside of every transaction."""
        self.last_use = trio.current_time()
        if self.sealer.has_full():
            self._seal_full()
        await self.admission.admit(size, deleting=deleting, metadata=metadata)

    async def wait_for_room(self) -> None:
        """Until something became durable, or a drive came or went: look again then."""
        self.request_commit()
        await self._progress.wait()

    def write(self, ino: int, offset: int, data: bytes) -> None:
        self.bytes_written += len(data)
        self.dirty.write(ino, offset, data)

    def truncate(self, ino: int, size: int) -> None:
        self.dirty.cut(ino, size, 1 << 63)
        self.db.files.punch(ino, size, None)

    def remove(self, ino: int) -> None:
        self.dirty.drop(ino)
        self.db.files.remove_file(ino)

    def changed(self) -> None:
        now = trio.current_time()
        if not self._last_change:
            self._first_change = now
            self._wake.set()
        self._last_change = now
        settings = self.pool.settings
        if self.db.changes > settings.commit_rows or self.db.patchset_estimate() > settings.commit_bytes:
            self.request_commit()  # R17: a commit stays small enough to be taken in without a stall

    def _seal_full(self) -> None:
        for stripe in self.sealer.seal_full():
            self.queue_stripe(stripe)
        if self.sealed.bytes > self.pool.settings.sealed_limit // 2 and not self.commit_lock.locked():
            # Not only when it is full: its syncs overlap with what programs write next, instead of stopping them.
            self.request_commit()

    def queue_stripe(self, stripe: SealedStripe) -> None:
        """A stripe was sealed: the next commit contains it, the background puts it."""
        self.committer.add_stripe(stripe)
        self._stripe_queued.set()

    # ---- FileData: reading ------------------------------------------------------------------------------

    async def read(self, ino: int, offset: int, length: int) -> bytes:
        self.last_use = trio.current_time()
        self.bytes_read += length
        return await self.files.read(ino, offset, length)

    def is_hole(self, ino: int, offset: int) -> bool:
        return self.files.is_hole(ino, offset)

    def allocated(self, ino: int) -> int:
        return self.files.allocated(ino)

    async def has_room(self, size: int) -> bool:
        return await self.admission.has_room(size)

    def usable(self) -> Usable:
        return self.admission.usable()

    # ---- committing -------------------------------------------------------------------------------------

    async def sync(self) -> None:
        """Return when everything answered before is durable. Raises StalledError or FencedError if it can't be."""
        self.raise_if_failed()
        target = self._frozen + (1 if self._has_work() else 0)
        if self.committed >= target:
            return
        self.request_commit()
        while self.committed < target:
            await self._progress.wait()
            self.raise_if_failed()
            if self._pending is None and not self._has_work():
                return  # what was to be committed, a drive that left, went into the commit that was on its way

    def raise_if_failed(self) -> None:
        """Raises FencedError or StalledError while nothing can become durable."""
        if self.fenced:
            raise FencedError(self.fenced)
        if self.stalled:
            raise self._stalled_as(self.stalled)

    def in_memory(self) -> int:
        """Payload bytes that no commit has made durable."""
        return self.sealed.bytes + self.dirty.total

    def _has_work(self) -> bool:
        return self.dirty.total > 0 or self.committer.has_work

    async def record(self, outcome: Outcome) -> None:
        """Put something heal did or found into the next commit's outcome; return when that is durable."""
        self.raise_if_failed()
        self.committer.add_outcome(outcome)
        await self.sync()

    @property
    def is_over(self) -> bool:
        """No commit is stalled, but all of them for good: see `give_up`."""
        return bool(self.stalled) and self._pending is None

    def amend_stalled(self, outcome: Outcome) -> bool:
        """Put drives that are back into the commit that is stalled; False if none is: then use `between_commits`."""
        if self._pending is None or not self.stalled or self.fenced:
            return False
        self.committer.amend(self._pending, outcome)
        return True

    def request_commit(self) -> None:
        self._urgent = True
        self._wake.set()

    def request_checkpoint(self) -> None:
        """With the next commit; a drive has come back, or the journal grew."""
        self._want_checkpoint = True
        self.request_commit()

    def _report_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    # ---- background -------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The engine's tasks, until cancelled or fenced."""
        await self.space_keeper.sample()
        dead = list(self.db.ledger.garbage())
        self.reaper.bury(dead, had_fact=True)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for _ in range(self.pool.settings.stripes_in_flight):
                nursery.start_soon(self._place_loop)
            nursery.start_soon(self.settler.run)
            nursery.start_soon(self._commit_loop)
            nursery.start_soon(self.reaper.run)
            nursery.start_soon(self._sample_loop)
            nursery.start_soon(self.compactor.run)
            nursery.start_soon(self._watch_members)
            task_status.started()

    async def _place_loop(self) -> None:
        """Put sealed stripes before their commit asks for them."""
        while True:
            if not self.committer.queue:
                if self._stripe_queued.is_set():  # else other loops wait for this very event
                    self._stripe_queued = trio.Event()
                await self._stripe_queued.wait()
                continue
            stripe = self.committer.queue.pop(0)
            if stripe.id not in self.sealed:
                continue  # committed meanwhile: who came into W since then is heal's to fill
            with suppress(EcfsError):  # the commit meets the same and reports it
                await self.settler.place(stripe)
            self._report_progress()

    async def _sample_loop(self) -> None:
        while True:
            await trio.sleep(SAMPLE_S)
            await self.space_keeper.sample()

    async def _watch_members(self) -> None:
        """A drive that went down is taken out of W by a commit, even when nobody writes (promise 6)."""
        while True:
            await self.pool.members.wait_change(3600)
            if self.pool.members.leaving() and not self.stalled:
                self.request_commit()
            self._report_progress()  # waiters look again whether enough drives are left

    async def _commit_loop(self) -> None:
        while True:
            await self._wait_for_reason()
            await self.commit()

    async def _wait_for_reason(self) -> None:
        settings = self.pool.settings
        while not self._urgent:
            if not self._last_change:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            due = min(self._last_change + settings.idle_commit_s, self._first_change + settings.max_commit_s)
            if trio.current_time() >= due:
                return
            self._wake = trio.Event()
            with trio.move_on_at(due):
                await self._wake.wait()

    async def commit(self) -> None:
        """One commit, to its end. Returns without one when nothing changed."""
        async with self.commit_lock:
            self._urgent = False
            self._last_change = 0.0
            if self.fenced:
                return  # for good: trying again would be asked for again by whoever hears that it failed
            if not self._has_work() and not self._want_checkpoint:
                self._report_progress()
                return
            self._pending = self._freeze()
            await self._finish(self._pending)

    def _freeze(self) -> Commit:
        self._frozen_at = trio.current_time()
        pins = (self._want_checkpoint or self.checkpointer.is_due()) and self._may_pin()
        commit = self.committer.freeze(pins=pins)
        self._frozen += 1
        if self.committer.queue:
            self._stripe_queued.set()
        if pins:
            self._want_checkpoint = False
            commit.image = self._image = self.committer.pin()
        return commit

    def _may_pin(self) -> bool:
        # The checkpointer's lock alone would not tell: its task may not have begun yet.
        return self._image is None and not self.checkpointer.lock.locked()

    async def _finish(self, commit: Commit) -> None:
        while True:
            try:
                await self.committer.finish(commit)
                break
            except StalledError as error:
                self._stall(error)
            except FencedError as error:
                self._fence(str(error))
                return
            await self.pool.members.wait_change(self.pool.settings.retry_stalled_s)
        self._pending = None
        self._after(commit)

    def _after(self, commit: Commit) -> None:
        self.committed += 1
        self.commit_time.add(trio.current_time() - self._frozen_at)
        self.last_commit_ns = self.pool.clock.wall_ns()
        if self.stalled:
            self.stalled = ""
            self.pool.members.note(None, "recovered", "commits are durable again")
        known = {stripe.id for stripe in commit.stripes}
        self.reaper.bury([stripe for stripe in commit.dead if stripe in known], had_fact=False)
        self.reaper.bury([stripe for stripe in commit.dead if stripe not in known], had_fact=True)
        if commit.image is not None and self._nursery is not None:
            self._nursery.start_soon(self._checkpoint, commit.image)
        self.compactor.wake()
        self._report_progress()

    async def _checkpoint(self, image: Image) -> None:
        try:
            await self.checkpointer.write(image)
        except FencedError as error:
            self._fence(str(error))
        except EcfsError as error:
            # The older checkpoints and the whole journal are untouched; a later commit tries again.
            self.pool.members.note(None, "checkpoint-failed", str(error))
        finally:
            self._image = None
            self._report_progress()

    def give_up(self, reason: str) -> None:
        """`run` has ended with an error: nothing becomes durable any more, and nobody may go on waiting for it."""
        self._stall(StalledError(reason))

    def _stall(self, error: StalledError) -> None:
        reason = str(error)
        if not self.stalled:
            self.failures += 1
            self.stalled_since_ns = self.pool.clock.wall_ns()
            self.pool.members.note(None, "stalled", reason)
        self.stalled, self._stalled_as = reason, type(error)
        self._report_progress()

    def _fence(self, reason: str) -> None:
        if self.fenced:
            return
        self.failures += 1
        self.fenced = reason
        self.pool.members.note(None, "fenced", reason)
        self._report_progress()

    # ---- holding still, and ending ----------------------------------------------------------------------

    @asynccontextmanager
    async def between_commits(self) -> AsyncIterator[None]:
        """No commit is on its way inside; keep it short, fsync waits meanwhile."""
        async with self.commit_lock:
            yield

    async def close(self) -> bool:
        """Commit all, write a checkpoint, stop. False if something could not be made durable (R6): then no
        checkpoint was written and the drives hold the last good state."""
        clean, self.ending = False, True
        if not self.pool.settings.read_only and not self.fenced:
            clean = await self._last_commit()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        return clean or self.pool.settings.read_only

    async def _last_commit(self) -> bool:
        self.committer.add_events()
        try:
            await self.sync()
            await self.reaper.drain()
            for _ in range(LAST_COMMITS):
                await self.sync()
                async with self.commit_lock:
                    if await self._checkpoint_at_rest():
                        return True
        except EcfsError as error:
            self.pool.members.note(None, "close", f"not everything could be made durable: {error}")
        return False

    async def _checkpoint_at_rest(self) -> bool:
        """The checkpoint of a clean end. False if something is to be committed again: a drive went away meanwhile."""
        while self._image is not None:
            await self._progress.wait()
        if self._pending is not None or self._has_work():
            return False
        if self.pool.journal_bytes:
            self.db.freeze(self.db.patch_seq)
            try:
                await self.checkpointer.write(self.committer.pin())
            except StalledError as error:
                # Everything is committed, and the next opening reads the journal: who unmounts must not hear of a loss.
                self.pool.members.note(None, "checkpoint-failed", str(error))
                return not self._has_work()
        return True
