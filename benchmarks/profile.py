"""Where the daemon's time goes while one program does one thing: ``python -m benchmarks.profile --seconds 6``.

For each activity a fresh pool on six drives in memory, a program that repeats it, and py-spy beside it, which samples
whoever holds the interpreter's lock. Printed as a table: the rate meanwhile, the daemon's processor time, how much of
the time anybody held the lock, and the share of each part of ecfs in that. Needs root and `make bench`'s libraries.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import Ecfs
from benchmarks.drives import MIB, six_drives
from benchmarks.rows import Turn
from benchmarks.shell import drop_caches, run, wait_until, warm_memory
from benchmarks.workloads import BLOCK, archive, create_files, noise, opened, random_writes, write_file
from ecfs.mount.locate import find_target

RATE = 250
"""Samples per second: more would take too much from the daemon on two processors."""
BATCH = 200
"""Operations between two looks at the clock."""
PARTS = {
    "SQLite": r"ecfs/meta/",
    "commit": r"ecfs/(commit|journal|pool)/",
    "coding and checksums": r"ecfs/(codec|shard)\.py|pyeclib",
    "stripes": r"ecfs/stripes/",
    "rules of files": r"ecfs/fs/",
    "drives": r"ecfs/drive/",
    "healing": r"ecfs/heal/",
    "requests": r"ecfs/fuse\w*\.py|pyfuse3",
    "event loop": r"trio/",
}
"""By the innermost frame that one of these names, in a sample's list of frames."""

Activity = Callable[[Turn, int], int]
"""(turn, number of the batch) → how many operations, files or MiB it did."""


def append_fsync(turn: Turn, batch: int) -> int:
    with opened(turn.root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
        for _ in range(BATCH):
            os.write(descriptor, b"x" * 100)
            os.fsync(descriptor)
    return BATCH


def rand_write_4k_fsync(turn: Turn, batch: int) -> int:
    random_writes(turn.big, BATCH, turn.mib * MIB, sync_each=True)
    return BATCH


def rand_write_4k(turn: Turn, batch: int) -> int:
    places, data = random.Random(batch), noise(BLOCK)
    with opened(turn.big, os.O_RDWR) as descriptor:
        for _ in range(BATCH * 5):
            os.pwrite(descriptor, data, places.randrange(turn.mib * MIB // BLOCK) * BLOCK)
    return BATCH * 5


def small_create(turn: Turn, batch: int) -> int:
    directory = turn.root / f"small{batch}"
    directory.mkdir()
    create_files(directory, 0, BATCH)
    return BATCH


def small_read_cold(turn: Turn, batch: int) -> int:
    drop_caches()
    for number in range(turn.files):
        with opened(turn.small / f"f{number}", os.O_RDONLY) as descriptor:
            os.read(descriptor, BLOCK)
    return turn.files


def small_delete_and_create(turn: Turn, batch: int) -> int:
    for number in range(turn.files):
        (turn.small / f"f{number}").unlink()
    create_files(turn.small, 0, turn.files)
    return turn.files


def untar(turn: Turn, batch: int) -> int:
    path, entries = archive()
    tree = turn.root / f"tree{batch}"
    tree.mkdir()
    run("tar", "xf", path, "-C", tree)
    return entries


def seq_write(turn: Turn, batch: int) -> int:
    """Not `write_file`, which fetches memory each time: the table would show a daemon that waits for that."""
    data = noise(MIB)
    with opened(turn.root / "stream", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
        for _ in range(turn.mib):
            os.write(descriptor, data)
        os.fsync(descriptor)
    return turn.mib


def seq_read_cold(turn: Turn, batch: int) -> int:
    drop_caches()
    with opened(turn.big, os.O_RDONLY) as descriptor:
        while os.read(descriptor, MIB):
            pass
    return turn.mib


def rebuild(turn: Turn, batch: int) -> int:
    """Drives lost, noticed and made again, with the scrub that does it."""
    turn.contender.lose_two()
    turn.contender.rebuild()
    wait_until(lambda: not turn.contender.is_scrubbing(), "the scrub")  # the next one would join it, and make no drive
    return turn.mib // 2


ACTIVITIES: dict[str, Activity] = {
    "append_fsync": append_fsync,
    "rand_write_4k_fsync": rand_write_4k_fsync,
    "rand_write_4k": rand_write_4k,
    "small_create": small_create,
    "small_read_cold": small_read_cold,
    "small_delete_and_create": small_delete_and_create,
    "untar": untar,
    "seq_write": seq_write,
    "seq_read_cold": seq_read_cold,
    "rebuild": rebuild,
}


@dataclass(frozen=True)
class Found:
    """rate: per second; processor: cores of the daemon; held: share of the time; parts: share of what was held."""

    rate: float
    processor: float
    held: float
    parts: list[tuple[str, float]]

    def line(self, name: str) -> str:
        parts = ", ".join(f"{part} {share:.0%}" for part, share in self.parts if share >= 0.03)
        cost = 1000 * self.processor / self.rate
        return f"| {name} | {self.rate:,.0f} | {self.processor:.2f} | {cost:.2f} | {self.held:.0%} | {parts} |"


def part_of(stack: str) -> str:
    """Of a line of py-spy's raw format: frames from the outermost on, with semicolons between."""
    threads = "MainThread" not in stack
    for frame in reversed(stack.split(";")):
        for part, pattern in PARTS.items():
            if re.search(pattern, frame):
                return f"threads: {part}" if threads else part
    return "the rest"


def parts_of(raw: str) -> tuple[int, Counter[str]]:
    """How many samples there are, and how many of each part."""
    parts: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        parts[part_of(stack)] += int(count)
    return parts.total(), parts


def processor_seconds(pid: int) -> float:
    """User and kernel, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def profiled(turn: Turn, activity: Activity, seconds: float) -> Found:
    """Repeat the activity for so long, with py-spy beside it."""
    mounted = find_target(str(turn.contender.root)).mounted
    if mounted is None:
        raise RuntimeError("the pool is not mounted")
    warm_memory()
    with tempfile.NamedTemporaryFile() as file:
        command: list[str | Path] = [
            Path(sys.executable).parent / "py-spy", "record", "--gil", "--nonblocking", "--threads", "--full-filenames",
            "--rate", str(RATE), "--duration", f"{seconds:.0f}", "--format", "raw", "-o", file.name,
            "--pid", str(mounted.pid),
        ]  # fmt: skip
        spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        done, batch, began, used = 0, 0, time.perf_counter(), processor_seconds(mounted.pid)
        while time.perf_counter() - began < seconds:
            done += activity(turn, batch)
            batch += 1
        took, used = time.perf_counter() - began, processor_seconds(mounted.pid) - used
        spy.wait()
        samples, parts = parts_of(Path(file.name).read_text())
    shares = [(part, count / samples) for part, count in parts.most_common()]
    return Found(done / took, used / took, samples / (RATE * seconds), shares)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.profile", description=__doc__)
    parser.add_argument("--rows", default=",".join(ACTIVITIES))
    parser.add_argument("--seconds", type=float, default=6)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("| row | per second | processor, cores | ms per operation | held | by whom |\n|---|--:|--:|--:|--:|---|")
    for name in options.rows.split(","):
        with six_drives(640) as drives:
            turn = Turn(Ecfs(drives), 256, 2000)
            turn.contender.start()
            try:
                write_file(turn.big, turn.mib)
                turn.small.mkdir()
                create_files(turn.small, 0, turn.files)
                print(profiled(turn, ACTIVITIES[name], options.seconds).line(name), flush=True)
            finally:
                turn.contender.stop()


if __name__ == "__main__":
    main()
