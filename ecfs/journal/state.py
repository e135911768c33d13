"""The state of one opening while its steps fill it, and what it means to lose a drive in the middle."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ecfs.clock import Clock
from ecfs.drive.base import Drive, Writer
from ecfs.errors import DriveError, NotEnoughDrivesError
from ecfs.geometry import Geometry
from ecfs.journal.record import RecordHead
from ecfs.journal.segments import Collected
from ecfs.journal.superblock import Superblock
from ecfs.meta import Outcome
from ecfs.pool.identity import Identity
from ecfs.pool.judge import Sight
from ecfs.pool.settings import Settings


@dataclass
class Opening:
    """The state of one opening, filled step by step."""

    clock: Clock
    settings: Settings
    scratch: Path
    read_only: bool
    pool_id: bytes = b""
    geometry: Geometry = field(default_factory=lambda: Geometry(1, 4, 2))
    sights: list[Sight] = field(default_factory=list)
    chosen: dict[int, Sight] = field(default_factory=dict)
    superblocks: dict[int, Superblock] = field(default_factory=dict)
    collected: Collected = field(default_factory=Collected)
    fences: dict[int, Writer] = field(default_factory=dict)
    """What each drive was promised to before this opening."""
    void_epochs: set[int] = field(default_factory=set)
    strangers: set[int] = field(default_factory=set)
    """Slots of drives whose last opening too few others know: away for long, or used apart from this pool."""
    writer: Writer = field(default_factory=lambda: Writer(0, ""))
    chain: list[RecordHead] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    accept_loss: bool = False
    quarantine: dict[str, int] | None = None
    """Set when commits were given up: what lies beyond `after` and up to `epoch` is kept on the drives, unused."""

    @property
    def witnesses(self) -> list[Superblock]:
        """The superblocks that prove what this pool committed: not those of strangers, unless there are no others. The
        checkpoint of a copy that was used elsewhere is whole, and its seq may be greater than any of ours (R11)."""
        known = [superblock for slot, superblock in self.superblocks.items() if slot not in self.strangers]
        return known or list(self.superblocks.values())

    @property
    def drives(self) -> dict[int, Drive]:
        return {slot: sight.drive for slot, sight in self.chosen.items()}

    @property
    def identities(self) -> dict[int, Identity]:
        """Of the chosen drives: only members are chosen, and they have one."""
        return {slot: sight.identity for slot, sight in self.chosen.items() if sight.identity is not None}


def need_k(opening: Opening, what: str) -> None:
    """Fewer than k members can neither prove what the newest commit was nor decode a stripe."""
    k = opening.geometry.k
    if len(opening.chosen) < k:
        chosen = {id(sight) for sight in opening.chosen.values()}
        rest = [s for s in opening.sights if id(s) not in chosen]
        missing = "; ".join(f"{s.drive.url}: {s.reason or s.state}" for s in rest)
        raise NotEnoughDrivesError(
            f"only {len(opening.chosen)} of {opening.geometry.n} drives {what}, {k} are needed "
            f"({missing}); bring one back"
        )


def lose(opening: Opening, slot: int, error: DriveError) -> None:
    """A drive failed while opening: it is as absent as if it had never been seen."""
    sight = opening.chosen.pop(slot)
    at = next(i for i, other in enumerate(opening.sights) if other is sight)
    opening.sights[at] = replace(sight, state="absent", reason=str(error.args[0]))
