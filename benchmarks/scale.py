"""The same work in a pool of few files and in one of very many, in turn.

    python -m benchmarks.scale fill DIRECTORY COUNT        makes a pool of COUNT small files in DIRECTORY
    python -m benchmarks.scale measure FEW MANY --rounds 5 mounts both, measures, deletes two drives, measures, unmounts

Filling goes past the kernel, so that a million files take minutes. A tenth of the files lie in one wide directory.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

from benchmarks.report import cell
from benchmarks.shell import drop_caches, run, settle, wait_until
from benchmarks.workloads import BLOCK, create_files, noise, opened, read_file, timed, write_file
from ecfs.clock import SystemClock
from ecfs.fs.caller import Caller
from ecfs.fs.filesystem import FileSystem
from ecfs.memory import keep_memory
from ecfs.mount.making import make_pool, plan_pool
from ecfs.mount.volume import open_volume
from ecfs.pool.poolfile import POOL_FILE, read_pool_file

ME = Caller(0, 0)
Found = dict[str, dict[Path, list[float]]]
SIZE = 512
"""Bytes of each file that fills a pool."""
PER_DIRECTORY = 1000
SAMPLE = 2000
"""Files of one measurement."""
SYNCED = 300
STREAM_MIB = 64
LOST = (1, 4)
ECFS = Path(__file__).parents[1] / ".venv" / "bin" / "ecfs"


# ---- filling --------------------------------------------------------------------------------------------------------


async def fill(base: Path, count: int, at_most: int) -> None:
    """Make what is missing of a pool of `count` files, at most so many files now: a long filling can be interrupted."""
    clock = SystemClock()
    if (base / "pool" / POOL_FILE).exists():
        file = read_pool_file(base / "pool" / POOL_FILE)
    else:
        drives = tuple(str(base / f"d{number}") for number in range(6))
        file = await make_pool(plan_pool(base / "pool", 4, 2, drives), clock)
    wanted = {"wide": count // 10} | {
        f"d{first // PER_DIRECTORY}": min(PER_DIRECTORY, count - count // 10 - first)
        for first in range(0, count - count // 10, PER_DIRECTORY)
    }
    async with open_volume(file, clock=clock, tell=print) as volume:
        for name, size in wanted.items():
            if volume.fs.namespace.lookup(1, name.encode()) is None and at_most > 0:
                await _fill(volume.fs, name, size)
                at_most -= size
        print("complete" if at_most > 0 else "to be continued")


async def _fill(fs: FileSystem, name: str, count: int) -> None:
    directory = await fs.namespace.mkdir(1, name.encode(), 0o755, ME)
    data = noise(SIZE)
    for number in range(count):
        inode = await fs.namespace.create(directory.ino, b"f%d" % number, 0o644, ME, exclusive=True)
        handle = await fs.files.open(inode.ino, os.O_WRONLY, ME)
        await fs.files.write(handle, 0, data)
        await fs.files.release(handle)
        if number % 100 == 0:
            await trio.lowlevel.checkpoint()


# ---- measuring ------------------------------------------------------------------------------------------------------


@dataclass
class Pool:
    """A mounted pool that was filled."""

    base: Path

    @property
    def root(self) -> Path:
        return self.base / "mnt"

    def mount(self) -> float:
        """Seconds."""
        self.root.mkdir(exist_ok=True)
        with timed() as timer:
            run(ECFS, "mount", self.base / "pool", self.root)
        return timer.seconds

    def umount(self) -> float:
        with timed() as timer:
            run(ECFS, "umount", self.root)
        return timer.seconds

    @functools.cached_property
    def _process(self) -> Path:
        command = ["pgrep", "-f", f"ecfs mount {self.base / 'pool'}"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return Path("/proc", found[0])

    def rss_mib(self) -> float:
        lines = (self._process / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

    def cpu_s(self) -> float:
        """Seconds of processor that the daemon has had: tells more than a rate on a machine that is not idle."""
        fields = (self._process / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def lose_two(self) -> None:
        """For good: nothing healthy can be measured after it."""
        for number in LOST:
            shutil.rmtree(self.base / f"d{number}")
        wait_until(lambda: self._state() == "degraded", "the loss to be noticed")

    def _state(self) -> object:
        return json.loads(run(ECFS, "status", "--json", self.root, ok=(0, 1)))["state"]

    @functools.cached_property
    def directories(self) -> list[Path]:
        """Those that are full; one in which filling was interrupted may not be."""
        last = f"f{PER_DIRECTORY - 1}"
        return [Path(e.path) for e in os.scandir(self.root) if e.name.startswith("d") and Path(e.path, last).exists()]


def create(pool: Pool, rng: random.Random) -> float:
    directory = pool.root / f"new{rng.randrange(1 << 40)}"
    directory.mkdir()
    with timed() as timer:
        create_files(directory, 0, SAMPLE, BLOCK)
        settle(pool.root)
    return SAMPLE / timer.seconds


def stat_cold(pool: Pool, rng: random.Random) -> float:
    chosen = rng.sample(pool.directories, SAMPLE // PER_DIRECTORY)
    drop_caches()
    with timed() as timer:
        for directory in chosen:
            with os.scandir(directory) as entries:
                for entry in entries:
                    entry.stat()
    return SAMPLE / timer.seconds


def read_cold(pool: Pool, rng: random.Random) -> float:
    chosen = rng.choice(pool.directories)
    drop_caches()
    data = noise(SIZE)
    with timed() as timer:
        for number in range(PER_DIRECTORY):
            if (chosen / f"f{number}").read_bytes() != data:
                raise OSError(f"{chosen}/f{number} has other bytes")
    return PER_DIRECTORY / timer.seconds


def read_scattered(pool: Pool, rng: random.Random) -> float:
    """One file each of many directories: other pages of the metadata, other stripes."""
    directories = pool.directories
    chosen = [rng.choice(directories) / f"f{rng.randrange(PER_DIRECTORY)}" for _ in range(PER_DIRECTORY)]
    drop_caches()
    with timed() as timer:
        for path in chosen:
            path.read_bytes()
    return PER_DIRECTORY / timer.seconds


def commits(pool: Pool, rng: random.Random) -> float:
    """4 KiB written and synced: what a commit costs must not depend on what else is in the pool."""
    data = noise(BLOCK)
    with opened(pool.root / f"log{rng.randrange(1 << 40)}", os.O_WRONLY | os.O_CREAT) as descriptor, timed() as timer:
        for number in range(SYNCED):
            os.pwrite(descriptor, data, number * BLOCK)
            os.fsync(descriptor)
    return SYNCED / timer.seconds


def delete(pool: Pool, rng: random.Random) -> float:
    directory = pool.root / f"old{rng.randrange(1 << 40)}"
    directory.mkdir()
    create_files(directory, 0, SAMPLE, BLOCK)
    settle(pool.root)
    names = [entry.path for entry in os.scandir(directory)]
    with timed() as timer:
        for name in names:
            os.unlink(name)
    return SAMPLE / timer.seconds


def stream_write(pool: Pool, _: random.Random) -> float:
    return write_file(pool.root / "stream", STREAM_MIB)


def stream_read(pool: Pool, _: random.Random) -> float:
    return read_file(pool.root / "stream")


MEASURES: dict[str, tuple[Callable[[Pool, random.Random], float], int]] = {
    "create": (create, SAMPLE),
    "stat cold": (stat_cold, SAMPLE),
    "read cold": (read_cold, PER_DIRECTORY),
    "read scattered cold": (read_scattered, PER_DIRECTORY),
    "write+fsync": (commits, SYNCED),
    "delete": (delete, SAMPLE),
    "stream write, MiB": (stream_write, STREAM_MIB),
    "stream read cold, MiB": (stream_read, STREAM_MIB),
}
"""With the number of files, of writes or of MiB of each."""
WITHOUT_TWO = (
    "create",
    "stat cold",
    "read cold",
    "write+fsync",
    "delete",
    "stream write, MiB",
    "stream read cold, MiB",
)


def list_wide(pool: Pool, *options: str) -> float:
    """Seconds of `ls` in the wide directory. With -l it asks twice more for each file, for its label and its ACL."""
    drop_caches()
    with timed() as timer:
        run("ls", *options, pool.root / "wide")
    return timer.seconds


def measure(bases: list[Path], rounds: int) -> None:
    pools = [Pool(base) for base in bases]
    try:
        _measure(pools, rounds)
    finally:
        for pool in pools:
            if os.path.ismount(pool.root):
                pool.umount()


def _measure(pools: list[Pool], rounds: int) -> None:
    found: Found = defaultdict(lambda: defaultdict(list))
    for pool in pools:
        found["mount s"][pool.base].append(pool.mount())
        found["RSS after mount MiB"][pool.base].append(pool.rss_mib())
    _take_turns(pools, rounds, MEASURES, "", found)
    for pool in pools:
        found["ls of the wide directory s"][pool.base].append(list_wide(pool))
        found["ls -l of the wide directory s"][pool.base].append(list_wide(pool, "-l"))
        pool.lose_two()
    _take_turns(pools, rounds, WITHOUT_TWO, ", two drives gone", found)
    for pool in pools:
        found["RSS at the end MiB"][pool.base].append(pool.rss_mib())
        found["unmount s"][pool.base].append(pool.umount())
    print("| row | " + " | ".join(pool.base.name for pool in pools) + " |\n|---|" + "--:|" * len(pools))
    for name, values in found.items():
        print(f"| {name} | " + " | ".join(cell(values[pool.base]) for pool in pools) + " |", flush=True)


def _take_turns(pools: list[Pool], rounds: int, names: Iterable[str], when: str, found: Found) -> None:
    rng = random.Random(time.time_ns())
    for _ in range(rounds):
        for name in names:
            work, count = MEASURES[name]
            for pool in pools:
                before = pool.cpu_s()
                found[f"{name} /s{when}"][pool.base].append(work(pool, rng))
                cpu = 1e6 * (pool.cpu_s() - before) / count
                found[f"{name} µs of the daemon's CPU{when}"][pool.base].append(cpu)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    filling = commands.add_parser("fill")
    filling.add_argument("directory", type=Path)
    filling.add_argument("count", type=int)
    filling.add_argument("--at-most", type=int, default=1 << 30, help="files to make now; call it again for the rest")
    measuring = commands.add_parser("measure")
    measuring.add_argument("directories", type=Path, nargs="+")
    measuring.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_memory(arenas=2)
    if options.command == "fill":
        options.directory.mkdir(parents=True, exist_ok=True)
        trio.run(fill, options.directory.absolute(), options.count, options.at_most)
    else:
        measure([directory.absolute() for directory in options.directories], options.rounds)


if __name__ == "__main__":
    main()
