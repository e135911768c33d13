"""Writing checkpoints, in the order of rule R8: shards → sync → superblock everywhere → only then prune."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import trio

from ecfs.commit.committer import Image
from ecfs.commit.sealed import SealedStripe
from ecfs.commit.sealer import Sealer
from ecfs.commit.settle import Settler
from ecfs.commit.space import SpaceKeeper, journal_limit
from ecfs.drive.base import Drive
from ecfs.errors import DriveError, DriveFullError, EcfsError, NoRoomError, StalledError
from ecfs.journal.opened import OpenedPool
from ecfs.journal.superblock import Checkpoint
from ecfs.pool.members import Member
from ecfs.shard import shard_key

PIECE = 4 << 20


class Checkpointer:
    """One checkpoint at a time."""

    def __init__(self, pool: OpenedPool, sealer: Sealer, settler: Settler, space: SpaceKeeper) -> None:
        self._pool = pool
        self._sealer = sealer
        self._settler = settler
        self._space = space
        self.lock = trio.Lock()

    def is_due(self) -> bool:
        """When the journal outgrew the limit or half the last checkpoint: replay and journal stay in proportion."""
        pool = self._pool
        half = pool.checkpoints[0].length // 2 if pool.checkpoints else 0
        if pool.journal_bytes > max(journal_limit(pool), half):
            return True
        return self._cost_of_requests() > max(pool.settings.journal_limit, half)

    def _cost_of_requests(self) -> int:
        """Of fetching one by one what was committed since the last checkpoint (`Capabilities.request_bytes`)."""
        pool = self._pool
        covered = pool.checkpoints[0].seq if pool.checkpoints else 0
        each = max((m.drive.capabilities.request_bytes for m in pool.members.up() if m.drive), default=0)
        return each * (pool.seq - covered)

    async def write(self, image: Image) -> None:
        """Publish a pinned image as the newest checkpoint. Raises StalledError if too few drives took it; the
        older checkpoints and the whole journal are then untouched."""
        async with self.lock:
            pool, bytes_before = self._pool, self._pool.journal_bytes
            checkpoint = await self._store(image)
            pool.named = [checkpoint, *self._older(pool.checkpoints)]
            pool.checkpoints = [checkpoint, *pool.checkpoints]
            dropped = await self._publish()
            pool.journal_bytes -= bytes_before
            self._space.image_bytes = checkpoint.length
            await self._prune(dropped)

    async def _publish_late(self) -> None:
        """The last one, if its superblocks did not reach all of W. Before another is put: what a superblock may name
        stays, and with each further one that finds no room for its superblocks full drives would hold more of it."""
        pool = self._pool
        if pool.named != pool.checkpoints and self._held(pool.named[0]) >= pool.members.need:
            await self._prune(await self._publish())

    async def _store(self, image: Image) -> Checkpoint:
        path = self._pool.scratch / f"checkpoint-{self._pool.clock.token(8).hex()}"
        try:
            try:
                await self._pool.in_thread(image.snapshot.copy_to, path)
            finally:
                image.snapshot.release()  # here and not at the end: the metadata may be closed by then
            await self._publish_late()
            return await self._cut(image, path)
        except (OSError, RuntimeError) as error:
            # Of the scratch directory, which is no drive, or no thread is to be had: without a checkpoint all goes on,
            # and the next try may do.
            raise StalledError(f"the metadata can't be copied to {path.parent}: {error}") from error
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    async def _cut(self, image: Image, path: Path) -> Checkpoint:
        stripes: list[SealedStripe] = []
        try:
            length = await self._put(path, stripes)
            return image.checkpoint(length, [self._row(stripe) for stripe in stripes])
        except EcfsError:
            await self._discard(stripes)
            raise

    async def _put(self, path: Path, stripes: list[SealedStripe]) -> int:
        """Returns the length of the image. stripes: gets what was begun."""
        length = 0
        with path.open("rb") as file:
            while payload := file.read(PIECE):
                stripe = SealedStripe(self._sealer.allocate(), payload)
                stripes.append(stripe)
                await self._settler.place(stripe, "c")
                stripe.payload = b""  # only where it lies is still needed
                length += len(payload)
        await self._settler.sync(stripes)
        return length

    async def _discard(self, stripes: list[SealedStripe]) -> None:
        """Of a checkpoint that will not be: each commit tries again, and would leave as much behind on full drives."""
        for stripe in stripes:
            for slot in sorted(stripe.tried):
                await self._delete(slot, self._pool.members[slot].drive, shard_key("c", stripe.id))

    def _row(self, stripe: SealedStripe) -> tuple[int, int, str, list[int]]:
        members = self._pool.members
        writable = members.writable()
        holders = [m.slot for m in writable if stripe.holds(m.slot, m.incarnation)]
        if len(writable) < members.need:
            raise StalledError(f"only {len(writable)} drives can be written, {members.need} are needed")
        if len(holders) < members.need or stripe.fact is None:
            raise NoRoomError(f"a checkpoint found room on {len(holders)} drives only")
        fact = stripe.fact
        return (fact.id, fact.length, fact.content_hash.hex(), holders)

    async def _publish(self) -> list[Checkpoint]:
        """Superblocks on all of W. Returns the checkpoints that no superblock names any more."""
        pool = self._pool
        full: list[tuple[Member, DriveFullError]] = []
        for member in pool.members.writable():

            async def write(drive: Drive, slot: int = member.slot) -> None:
                await pool.write_superblock(slot, drive)

            try:
                await self._settler.call(member, write)
            except DriveFullError as error:
                full.append((member, error))
        self._settler.no_room(full, "the superblock")
        if len(pool.members.writable()) < pool.members.need:
            raise StalledError("the new superblock reached too few drives")
        dropped = [each for each in pool.checkpoints if each not in pool.named]
        pool.checkpoints = list(pool.named)
        return dropped

    def _older(self, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
        """The one to keep beside a new one, if there is one: the newest of those that the most drives of W have. Of two
        that the same full drives lack, none would be left when two other drives die."""
        return [max(checkpoints, key=self._held)] if checkpoints else []

    def _held(self, checkpoint: Checkpoint) -> int:
        """How many drives of W have a shard of each stripe at least."""
        here = {member.slot for member in self._pool.members.writable()}
        return min((len(here.intersection(row[3])) for row in checkpoint.stripes), default=0)

    async def _prune(self, dropped: list[Checkpoint]) -> None:
        """Delete what only dropped checkpoints needed, on the drives whose superblock is new."""
        pool = self._pool
        oldest = pool.checkpoints[-1]
        keep = {row[0] for checkpoint in pool.checkpoints for row in checkpoint.stripes}
        for member in pool.members.writable():
            drive = member.drive
            pool.segments.give_up(member.slot)
            keys = pool.segments.prunable(member.slot, oldest.seq)
            keys += [shard_key("c", row[0]) for c in dropped for row in c.stripes if row[0] not in keep]
            for key in keys:
                await self._delete(member.slot, drive, key)

    async def _delete(self, slot: int, drive: Drive | None, key: str) -> None:
        """On this very drive: what its slot gets meanwhile has segments of the same names."""
        if drive is None or self._pool.members.readable(slot) is not drive:
            return
        try:
            with trio.move_on_after(drive.capabilities.deadline_s):
                await drive.delete(key)
        except DriveError as error:
            if self._pool.members.readable(slot) is drive:
                self._pool.members.chore_failed(slot, error)
