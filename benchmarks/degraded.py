"""With two drives gone, and making them whole again. These rows end a turn: a healthy one can't follow."""

from __future__ import annotations

from benchmarks.latency import _latencies
from benchmarks.rows import Figures, Turn, row
from benchmarks.shell import settle
from benchmarks.workloads import read_file, timed, write_file


@row("", "seq_write")
def lose_two(turn: Turn) -> Figures:
    """Takes the drives away; no figure of its own. What is read without them is a file like the one that is read with
    them: the large one may have been overwritten at random meanwhile."""
    write_file(turn.root / "intact", turn.mib)
    settle(turn.root)
    turn.contender.lose_two()
    return {}


@row("MiB/s", "lose_two")
def seq_read_degraded(turn: Turn) -> float:
    return read_file(turn.root / "intact")


@row("MiB/s", "lose_two")
def seq_write_degraded(turn: Turn) -> float:
    return write_file(turn.root / "more", turn.mib // 2)


@row("ms", "lose_two")
def latency_degraded(turn: Turn) -> Figures:
    return _latencies(turn, "latency-degraded")


@row("MiB/s", "lose_two")
def rebuild(turn: Turn) -> float:
    """Of bytes that the two drives have in the end, what is dead among them included: it is made anew, too. Noticing,
    making and filling them."""
    with timed() as timer:
        made = turn.contender.rebuild()
    if made is None:
        made = sum(path.stat().st_size for path in turn.root.iterdir() if path.is_file()) / 2
    return made / (1 << 20) / timer.seconds
