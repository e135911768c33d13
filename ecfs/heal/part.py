"""What the parts of a scrub share: where to look, what to tell, and whether anything may be changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from ecfs.drive.base import Drive
from ecfs.errors import DriveFullError, StalledError, StripeLostError
from ecfs.heal.context import HealContext
from ecfs.heal.mend import Mended
from ecfs.heal.meter import Meter
from ecfs.heal.repair import Repairer
from ecfs.heal.report import FINDINGS, LOST, PENDING, REPAIRED, Finding, ScrubReport
from ecfs.pool.members import Member
from ecfs.shard import DATA_OFFSET


@dataclass
class Job:
    """One scrub. dry_run: look, change nothing. unseen: slots whose drive was away at some time, and why."""

    ctx: HealContext
    repairer: Repairer
    report: ScrubReport
    meter: Meter
    dry_run: bool = False
    unseen: dict[int, str] = field(default_factory=dict)

    def found(
        self, kind: str, text: str, *, repaired: bool, slot: int | None = None, stripe: int | None = None
    ) -> None:
        state = REPAIRED if repaired else PENDING
        self.add(Finding(kind, state, text, slot, stripe))

    def add(self, finding: Finding) -> None:
        self.report.add(finding)
        self.meter.progress.found = self.report.found
        self.meter.progress.repaired = self.report.repaired

    def here(self) -> Iterator[tuple[Member, Drive]]:
        """The drives of W, to be looked at. Whatever is away when it is its turn is not, even if it is back before the
        end."""
        for member in self.ctx.pool.members:
            if member.up and member.in_w and member.drive is not None:
                yield member, member.drive
            else:
                self.unseen.setdefault(member.slot, member.reason or "it was away")

    def unread(self, slot: int, why: object) -> None:
        """Something on this drive could not be looked at: nobody may take it for verified. Told once per drive."""
        if not any((f.kind, f.slot, f.state) == ("drive", slot, PENDING) for f in self.report.findings):
            self.found("drive", f"not all of it could be verified: {why}", repaired=False, slot=slot)

    async def checked(self, slot: int, size: int) -> None:
        """One shard of `size` bytes was verified."""
        tally = self.report.tally(slot)
        tally.checked += 1
        tally.bytes += size
        self.report.checked += 1
        await self.meter.checked(size)

    def mended(self, result: Mended, *, also_lost: bool = True) -> None:
        """Tell what came of one stripe."""
        for slot, error in result.bad.items():
            kind = "missing-shard" if type(error).__name__ == "ShardMissingError" else "corrupt-shard"
            if slot in result.repaired or result.lost is None:
                self.found(kind, str(error), repaired=slot in result.repaired, slot=slot, stripe=result.stripe)
        if result.lost is not None and also_lost:
            self.lost(result.stripe, result.lost)

    def lost(self, stripe: int, error: StripeLostError | str) -> None:
        """A stripe can't be decoded now: name the files."""
        room = len(self.report.findings) < FINDINGS
        paths = self.ctx.paths_of(stripe) if room else ()
        self.add(Finding("missing-shard", LOST, str(error), None, stripe, paths))

    async def change(self, member: Member, call: Callable[[Drive], Awaitable[None]]) -> bool:
        """Write to a drive of W; False if that failed or nothing may be changed."""
        if self.dry_run:
            return False
        try:
            return await self.ctx.engine.settler.call(member, call)
        except (DriveFullError, StalledError):
            return False

    async def sync(self, member: Member) -> bool:
        """`Settler.sync_drive`, since what it voids may be the engine's; False also in a stall or for lack of room."""
        try:
            return await self.ctx.engine.settler.sync_drive(member)
        except (DriveFullError, StalledError):
            return False


def shard_size(fragment_length: int) -> int:
    return DATA_OFFSET + fragment_length
