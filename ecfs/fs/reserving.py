"""What posix_fallocate(3) leaves when there is no fallocate(2): glibc writes one NUL into every block.

Kept as they come, those bytes would be an extent each, a quarter of a million per GiB, and take no space, so that the
answer would mean nothing. Where there is a hole they change nothing that can be read, so they stay a hole; and a run
of them longer than what is free is told ENOSPC, as a file system that can reserve would.
"""

from __future__ import annotations

from dataclasses import dataclass

STRIDE = 4096
"""glibc's distance between two writes."""
MARK = b"\0"


@dataclass(slots=True)
class Reserving:
    """The run of blocks that one handle is marking. start: of its first block; last: offset of the newest mark."""

    start: int = 0
    last: int = -1

    def mark(self, offset: int) -> int:
        """One more NUL was written; the bytes of the run so far."""
        if self.last < 0 or offset != self.last + STRIDE:
            self.start = offset
        self.last = offset
        return offset - self.start + STRIDE
