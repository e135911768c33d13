"""What a log-structured store costs in the long run: a file that was overwritten ten times at random."""

from __future__ import annotations

from benchmarks.drives import MIB
from benchmarks.rows import Figures, Turn, row
from benchmarks.shell import settle
from benchmarks.workloads import BLOCK, random_writes, read_file, write_file

AGED_MIB = 32
TIMES = 10
PAYLOAD = (TIMES + 1) * AGED_MIB * MIB


@row("")
def aged(turn: Turn) -> Figures:
    """ops/s over the last overwriting, MiB/s of a sequential read of what is left, bytes written to the devices
    per byte written by the program (parity alone makes that 1.5), and the compactor's share of the payload written."""
    path = turn.root / "aged"
    compacted = turn.contender.compacted()
    before = turn.contender.drives.written()
    write_file(path, AGED_MIB)
    rate = 0.0
    for _ in range(TIMES):
        rate = random_writes(path, AGED_MIB * MIB // BLOCK, AGED_MIB * MIB, sync_each=False)
    settle(turn.root)
    written = turn.contender.drives.written() - before
    figures = {
        "rand_write_4k ops/s": rate,
        "seq_read_cold MiB/s": read_file(path),
    }
    if written:  # zfs-fuse has the bare images, where nobody counts
        figures["device bytes per byte"] = written / PAYLOAD
    if compacted is not None:
        moved = (turn.contender.compacted() or 0.0) - compacted
        figures["compactor's % of the writes"] = 100 * moved / (PAYLOAD + moved)
    return figures
