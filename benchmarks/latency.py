"""How long one program waits for one small operation: healthy, while a scrub runs, with two drives gone."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

from benchmarks.drives import MIB
from benchmarks.rows import Figures, Turn, row
from benchmarks.workloads import BLOCK, LOOK, noise, opened

COUNT = 500
"""Of each operation: p99 is the fifth from the end."""


def percentiles(operation: Callable[[int], None], meanwhile: Callable[[], object] = bool) -> tuple[float, float]:
    """p50 and p99 of operation(0), operation(1), … in milliseconds. meanwhile: called now and then, not timed."""
    taken = []
    for number in range(COUNT):
        if number % LOOK == 0:
            meanwhile()
        began = time.perf_counter()
        operation(number)
        taken.append((time.perf_counter() - began) * 1000)
    taken.sort()
    return taken[COUNT // 2], taken[COUNT * 99 // 100]


def _latencies(turn: Turn, name: str, meanwhile: Callable[[], object] = bool) -> Figures:
    """The three operations. name: of a directory that is made for them."""
    home = turn.root / name
    home.mkdir()
    data = noise(BLOCK)
    places = random.Random(name)

    def create(number: int) -> None:
        with opened(home / f"c{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            os.write(descriptor, data)

    with opened(turn.big, os.O_RDONLY) as big, opened(home / "log", os.O_WRONLY | os.O_CREAT) as log:
        os.posix_fadvise(big, 0, 0, os.POSIX_FADV_RANDOM)

        def read(_: int) -> None:
            place = places.randrange(turn.mib * MIB // BLOCK) * BLOCK
            os.posix_fadvise(big, place, BLOCK, os.POSIX_FADV_DONTNEED)  # else the kernel may have it
            os.pread(big, BLOCK, place)

        def sync(number: int) -> None:
            os.pwrite(log, data, number * BLOCK)
            os.fsync(log)

        figures: Figures = {}
        for what, operation in (("read 4k", read), ("create", create), ("write+fsync", sync)):
            figures[f"{what} p50"], figures[f"{what} p99"] = percentiles(operation, meanwhile)
        return figures


@row("ms", "seq_write")
def latency(turn: Turn) -> Figures:
    return _latencies(turn, "latency")


@row("ms", "seq_write")
def latency_scrubbing(turn: Turn) -> Figures:
    scrubbing = turn.contender.scrubbing()
    try:
        return _latencies(turn, "latency-scrubbing", scrubbing)
    finally:
        turn.contender.stop_scrub()
