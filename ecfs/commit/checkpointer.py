"""Writing checkpoints, in the order of rule R8: shards → sync → superblock everywhere → only then prune."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import trio

from ecfs.commit.committer import Image
from ecfs.commit.sealed import SealedStripe
from ecfs.commit.sealer import Sealer
from ecfs.commit.settle import Settler
from ecfs.commit.space import SpaceKeeper
from ecfs.drive.base import Drive
from ecfs.errors import DriveError, DriveFullError, NoRoomError, StalledError
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
        if pool.journal_bytes > max(self._space.journal_limit(), half):
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
            bytes_before = self._pool.journal_bytes
            checkpoint = await self._store(image)
            dropped = await self._publish(checkpoint)
            self._pool.journal_bytes -= bytes_before
            self._space.image_bytes = checkpoint.length
            await self._prune(dropped)

    async def _store(self, image: Image) -> Checkpoint:
        path = self._pool.scratch / f"checkpoint-{self._pool.clock.token(8).hex()}"
        try:
            await self._pool.in_thread(image.snapshot.copy_to, path)
            image.snapshot.release()
            return await self._cut(image, path)
        except OSError as error:
            # Of the scratch directory, which is no drive: without a checkpoint all goes on, and the next try may do.
            raise StalledError(f"the metadata can't be copied to {path.parent}: {error}") from error
        finally:
            image.snapshot.release()
            with suppress(OSError):
                path.unlink(missing_ok=True)

    async def _cut(self, image: Image, path: Path) -> Checkpoint:
        stripes: list[SealedStripe] = []
        rows: list[tuple[int, int, str, list[int]]] = []
        length = 0
        with path.open("rb") as file:
            while payload := file.read(PIECE):
                stripe = SealedStripe(self._sealer.allocate(), payload)
                await self._settler.place(stripe, "c")
                stripe.payload, stripe.encoded = b"", None  # only where it lies is still needed
                stripes.append(stripe)
                length += len(payload)
        await self._settler.sync(stripes)
        for stripe in stripes:
            rows.append(self._row(stripe))
        return image.checkpoint(length, rows)

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

    async def _publish(self, checkpoint: Checkpoint) -> list[Checkpoint]:
        """Superblocks on all of W. Returns the checkpoints that no superblock names any more."""
        pool = self._pool
        before = pool.checkpoints
        pool.checkpoints = [checkpoint, *before[:1]]
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
        return before[1:]

    async def _prune(self, dropped: list[Checkpoint]) -> None:
        """Delete what only dropped checkpoints needed, on the drives whose superblock is new."""
        pool = self._pool
        oldest = pool.checkpoints[-1]
        keep = {row[0] for checkpoint in pool.checkpoints for row in checkpoint.stripes}
        for member in pool.members.writable():
            pool.segments.give_up(member.slot)
            keys = pool.segments.prunable(member.slot, oldest.seq)
            keys += [shard_key("c", row[0]) for c in dropped for row in c.stripes if row[0] not in keep]
            for key in keys:
                await self._delete(member.slot, key)

    async def _delete(self, slot: int, key: str) -> None:
        drive = self._pool.members.readable(slot)
        if drive is None:
            return
        try:
            with trio.move_on_after(drive.capabilities.deadline_s):
                await drive.delete(key)
        except DriveError as error:
            self._pool.members.chore_failed(slot, error)
