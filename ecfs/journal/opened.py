"""An open pool: everything that the engine, heal and the file system share. No behaviour of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from ecfs.clock import Clock
from ecfs.drive.base import Drive, Writer
from ecfs.errors import DriveError
from ecfs.geometry import Geometry, stripe_id
from ecfs.journal.segments import SegmentWriter
from ecfs.journal.shown import FIRST_ID, with_unknown
from ecfs.journal.superblock import Checkpoint, DriveEntry, Superblock, encode_superblock
from ecfs.meta import Database, Gap
from ecfs.pool.identity import MEMBER, Identity, encode_identity
from ecfs.pool.members import Member, Members
from ecfs.pool.settings import Settings
from ecfs.stripes.pins import Pins
from ecfs.stripes.reader import StripeReader


@dataclass
class OpenedPool:
    """What `journal.opening` hands on.

    writer: the epoch and nonce of this opening. seq, hash: of the last record of history.
    checkpoints: newest first; all that the superblock of a drive in W may name, so that nothing of them is an orphan.
    journal_bytes: appended per drive since the newest checkpoint.
    on_bad: called with (stripe id, slot, error) for each shard that a read found bad; heal sets it.
    """

    pool_id: bytes
    clock: Clock
    geometry: Geometry
    settings: Settings
    scratch: Path
    members: Members
    db: Database
    reader: StripeReader
    pins: Pins
    writer: Writer
    segments: SegmentWriter
    seq: int
    hash: bytes
    checkpoints: list[Checkpoint]
    journal_bytes: int = 0
    read_only: bool = False
    notes: list[str] = field(default_factory=list)
    on_bad: Callable[[int, int, DriveError], None] | None = None
    on_wanted: Callable[[int], None] | None = None
    """Called with the id of a stripe that is read although some of its shards are missing; heal sets it."""
    in_thread: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync
    """For slow calls that wait for no drive; a simulation runs them in line, so that its order of events is fixed."""
    next_stripe: int = 0
    """Counter of the next stripe id of this epoch."""
    named: list[Checkpoint] = field(init=False)
    """What a superblock that is written now names: the newest checkpoint and the older one that is kept with it."""
    _superblock_turns: defaultdict[str, trio.Lock] = field(default_factory=lambda: defaultdict(trio.Lock))

    def __post_init__(self) -> None:
        self.named = self.checkpoints[:2]

    def all_unknown(self, slot: int) -> list[Gap]:
        """A slot's gaps when nothing is certain any more of what it holds (R11)."""
        end = stripe_id(self.writer.epoch, self.next_stripe)
        return with_unknown(self.db.ledger.gaps(slot), FIRST_ID, end)

    def superblock_for(self, member: Member) -> Superblock:
        entries = [DriveEntry(each.slot, each.url, each.drive_id) for each in self.members]
        return Superblock(
            self.pool_id.hex(), member.drive_id, member.slot, self.geometry.k, self.geometry.m, "isa_l_rs_cauchy",
            (self.writer.epoch, self.seq), entries, self.named,
        )  # fmt: skip

    async def write_superblock(self, slot: int, drive: Drive, make: Callable[[], Superblock] | None = None) -> None:
        """make: what it shall say, for a drive that is not its slot's yet; asked when the drive's turn has come.

        One at a time on each drive: of two at once, a checkpoint's and that of a drive's way in, the older could be the
        one that stays, and a directory takes a file that is exchanged under the other for somebody else's work. Not on
        each slot: the drive that is being replaced would have to wait for a new one that hangs, and pass for late.
        Raises DriveError.
        """
        async with self._superblock_turns[drive.url]:
            superblock = make() if make is not None else self.superblock_for(self.members[slot])
            await drive.write_blob("superblock", encode_superblock(superblock))

    def identity_for(self, member: Member, state: str = MEMBER) -> Identity:
        return Identity(
            self.pool_id.hex(), member.drive_id, member.slot, state, self.geometry.k, self.geometry.m,
            self.writer.epoch, self.writer.nonce,
        )  # fmt: skip

    async def write_identity(self, member: Member, drive: Drive, state: str = MEMBER) -> None:
        await drive.write_blob("identity", encode_identity(self.identity_for(member, state)))

    def live_epochs(self) -> list[int]:
        """Epochs whose shard directories must exist on a drive."""
        return sorted({*self.db.drives.epochs_with_stripes(), self.writer.epoch})
