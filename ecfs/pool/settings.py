"""Every limit of a mounted pool in one place. Sizes in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    stripe_size: int = 4 * MIB
    """Payload of a full stripe."""
    dirty_limit: int = 32 * MIB
    """Unsealed data; writers wait beyond it."""
    seal_at: int = 16 * MIB
    """Unsealed data in small pieces at which full stripes are sealed before any commit; what lies below can still
    coalesce. Long pieces are sealed as soon as they fill a stripe."""
    stripes_in_flight: int = 3
    """Stripes being encoded and put at once; sealed ones wait in memory, within `sealed_limit`."""
    sealed_limit: int = 64 * MIB
    inline_at_most: int = 128 * 1024
    """A commit with less data than this keeps it in the metadata (one journal append instead of stripes)."""
    inline_limit: int = 64 * MIB
    pack_inline_at: int = 16 * MIB
    idle_commit_s: float = 0.2
    max_commit_s: float = 5.0
    commit_rows: int = 4000
    commit_bytes: int = MIB
    journal_limit: int = 64 * MIB
    min_write_drives: int = 0
    shared_stall_s: float = 60.0
    """How long a commit waits when more drives are late than may be taken out (R5)."""
    retry_stalled_s: float = 1.0
    cache_bytes: int = 32 * MIB
    compact_below: float = 0.5
    """A stripe with a smaller live share is worth rewriting."""
    compact_slack: int = 64 * MIB
    """Dead bytes that are never worth a rewrite."""
    sampled: int = 32
    """A scrub that begins with a rebuild samples at most one in so many stripes: of a small pool none, which is done
    before any time left is told."""
    read_only: bool = False
