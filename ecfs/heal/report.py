"""What heal finds and tells: typed findings, progress and reports. No behaviour beyond sums."""

from __future__ import annotations

from dataclasses import dataclass, field

REPAIRED, PENDING, LOST, NOTED = "repaired", "pending", "lost", "noted"
FINDINGS = 1000
"""That a report keeps."""


@dataclass(frozen=True)
class Finding:
    """One thing that was not as it should be.

    kind: missing-shard, corrupt-shard, orphan-shard, journal, checkpoint, superblock, identity, drive, metadata.
    state: "repaired", "pending" (can be repaired, was not), "lost" (can't be decoded now), "noted" (for information).
    paths: files concerned, where they can be known.
    """

    kind: str
    state: str
    text: str
    slot: int | None = None
    stripe: int | None = None
    paths: tuple[str, ...] = ()


@dataclass
class DriveTally:
    """Per drive: shards and bytes that were verified, what was found wrong, what was put right."""

    checked: int = 0
    bytes: int = 0
    found: int = 0
    repaired: int = 0


@dataclass
class ScrubProgress:
    """Where a scrub or a rebuild is. Bytes are shard bytes on drives; rate in bytes/s over the last minute.

    eta_s: seconds left, None while it can't be known honestly.
    """

    phase: str = "starting"
    bytes_done: int = 0
    bytes_total: int = 0
    checked: int = 0
    found: int = 0
    repaired: int = 0
    rate: float = 0.0
    eta_s: float | None = None


@dataclass
class ScrubReport:
    """The result of one scrub. dry_run: nothing was changed; resumed: an earlier run had done a part, which the sums
    contain and `drives` does not."""

    dry_run: bool = False
    resumed: bool = False
    started_ns: int = 0
    finished_ns: int = 0
    drives: dict[int, DriveTally] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    """At most `FINDINGS`; `dropped` counts the rest."""
    dropped: int = 0
    checked: int = 0
    found: int = 0
    repaired: int = 0
    pending: int = 0
    lost: int = 0

    def tally(self, slot: int) -> DriveTally:
        return self.drives.setdefault(slot, DriveTally())

    def add(self, finding: Finding) -> None:
        """Count a finding and keep it while there is room."""
        self.found += finding.state != NOTED
        self.repaired += finding.state == REPAIRED
        self.pending += finding.state == PENDING
        self.lost += finding.state == LOST
        if finding.slot is not None and finding.state != NOTED:
            tally = self.tally(finding.slot)
            tally.found += 1
            tally.repaired += finding.state == REPAIRED
        if len(self.findings) < FINDINGS:
            self.findings.append(finding)
        else:
            self.dropped += 1

    @property
    def exit_status(self) -> int:
        """0 whole, 1 something is still to be repaired, 3 something is lost right now."""
        return 3 if self.lost else 1 if self.pending else 0
