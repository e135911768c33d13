"""What every contender is asked to do, through ordinary system calls: no contender is known by name here."""

from __future__ import annotations

import functools
import os
import random
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.drives import MEMORY, MIB
from benchmarks.rows import Turn, row
from benchmarks.shell import drop_caches, run, settle, warm_memory

BLOCK = 4096
RANDOM_WRITES = 4096
SYNCED_WRITES = 300
RANDOM_SPAN_MIB = 64
LOOK = 100
"""Operations between two looks at whether a scrub still runs beside them."""


class Timer:
    """seconds: how long the block took."""

    seconds = 0.0


@contextmanager
def timed() -> Iterator[Timer]:
    timer = Timer()
    began = time.perf_counter()
    yield timer
    timer.seconds = time.perf_counter() - began


@functools.cache
def noise(size: int) -> bytes:
    """Bytes that no file system can make smaller; the same ones in every run."""
    return random.Random(size).randbytes(size)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_file(path: Path, mib: int) -> float:
    """MiB/s, fsync included, in pieces of 1 MiB."""
    data = memoryview(noise(8 * MIB))
    warm_memory()
    with timed() as timer, opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
        for number in range(mib):
            start = number % 8 * MIB
            os.write(descriptor, data[start : start + MIB])
        os.fsync(descriptor)
    return mib / timer.seconds


def read_file(path: Path) -> float:
    """MiB/s in pieces of 1 MiB, nothing cached in the kernel."""
    drop_caches()
    warm_memory()
    total, buffer = 0, bytearray(MIB)
    with timed() as timer, opened(path, os.O_RDONLY) as descriptor:
        while count := os.readv(descriptor, [buffer]):
            total += count
    if total != path.stat().st_size:
        raise OSError(f"{path}: {total} of {path.stat().st_size} bytes could be read")
    return total / MIB / timer.seconds


def random_writes(path: Path, count: int, span: int, *, sync_each: bool) -> float:
    """4 KiB writes per second at random places of the first `span` bytes; an fsync after each, or one at the end."""
    places = random.Random(count)
    data = noise(BLOCK)
    with timed() as timer, opened(path, os.O_RDWR) as descriptor:
        for _ in range(count):
            os.pwrite(descriptor, data, places.randrange(span // BLOCK) * BLOCK)
            if sync_each:
                os.fsync(descriptor)
        os.fsync(descriptor)
    return count / timer.seconds


def create_files(directory: Path, start: int, count: int, size: int = BLOCK) -> None:
    data = noise(size)
    for number in range(start, start + count):
        with opened(directory / f"f{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            os.write(descriptor, data)


# ---- one large file -----------------------------------------------------------------------------------------------


@row("MiB/s")
def seq_write(turn: Turn) -> float:
    return write_file(turn.big, turn.mib)


@row("MiB/s", "seq_write")
def seq_read_cold(turn: Turn) -> float:
    return read_file(turn.big)


@row("ops/s", "seq_write")
def rand_write_4k(turn: Turn) -> float:
    return random_writes(turn.big, RANDOM_WRITES, min(RANDOM_SPAN_MIB, turn.mib) * MIB, sync_each=False)


@row("ops/s", "seq_write")
def rand_write_4k_fsync(turn: Turn) -> float:
    return random_writes(turn.big, SYNCED_WRITES, turn.mib * MIB, sync_each=True)


@row("ops/s")
def append_fsync(turn: Turn) -> float:
    with opened(turn.root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor, timed() as timer:
        for _ in range(SYNCED_WRITES):
            os.write(descriptor, b"x" * 100)
            os.fsync(descriptor)
    return SYNCED_WRITES / timer.seconds


# ---- many small ones ----------------------------------------------------------------------------------------------


@row("files/s")
def small_create(turn: Turn) -> float:
    turn.small.mkdir()
    with timed() as timer:
        create_files(turn.small, 0, turn.files)
        settle(turn.root)
    return turn.files / timer.seconds


@row("files/s", "small_create")
def small_stat_cold(turn: Turn) -> float:
    drop_caches()
    with timed() as timer, os.scandir(turn.small) as entries:
        count = sum(entry.stat(follow_symlinks=False).st_size == BLOCK for entry in entries)
    if count != turn.files:
        raise OSError(f"{count} of {turn.files} files are there")
    return count / timer.seconds


@row("files/s", "small_create")
def small_read_cold(turn: Turn) -> float:
    drop_caches()
    data = noise(BLOCK) if turn.contender.keeps_bytes else bytes(BLOCK)
    with timed() as timer:
        for number in range(turn.files):
            with opened(turn.small / f"f{number}", os.O_RDONLY) as descriptor:
                if os.read(descriptor, BLOCK + 1) != data:
                    raise OSError(f"f{number} has other bytes")
    return turn.files / timer.seconds


@row("files/s", "small_create")
def small_delete(turn: Turn) -> float:
    with timed() as timer:
        shutil.rmtree(turn.small)
        settle(turn.root)
    return turn.files / timer.seconds


@functools.cache
def archive() -> tuple[Path, int]:
    """A tar of Python's standard library, and how many entries it has."""
    path = MEMORY / f"ecfs-bench-{os.getuid()}.tar"
    library = sysconfig.get_paths()["stdlib"]
    run("tar", "cf", path, "--exclude=__pycache__", "--exclude=site-packages", "--exclude=dist-packages",
        "-C", library, ".")  # fmt: skip
    return path, len(run("tar", "tf", path).splitlines())


@row("entries/s")
def untar(turn: Turn) -> float:
    path, entries = archive()
    tree = turn.root / "tree"
    tree.mkdir()
    with timed() as timer:
        run("tar", "xf", path, "-C", tree)
        settle(turn.root)
    return entries / timer.seconds


# ---- looking after the drives ---------------------------------------------------------------------------------------


@row("MiB/s", "seq_write")
def scrub(turn: Turn) -> float:
    """Of payload."""
    settle(turn.root)
    drop_caches()
    with timed() as timer:
        turn.contender.scrub()
    return turn.mib / timer.seconds


@row("% of the rate", "seq_write")
def read_beside_scrub(turn: Turn) -> float:
    """Random cold reads of 4 KiB while a scrub runs, compared with the same without it."""
    alone = _random_reads(turn)
    scrubbing = turn.contender.scrubbing()
    try:
        beside = _random_reads(turn, scrubbing)
    finally:
        turn.contender.stop_scrub()
    return 100 * beside / alone


def _random_reads(turn: Turn, meanwhile: Callable[[], object] = bool, count: int = 1000) -> float:
    """Per second. meanwhile: called now and then, not timed."""
    places = random.Random(count)
    seconds = 0.0
    with opened(turn.big, os.O_RDONLY) as descriptor:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(count // LOOK):
            meanwhile()
            with timed() as timer:
                for _ in range(LOOK):
                    place = places.randrange(turn.mib * MIB // BLOCK) * BLOCK
                    os.posix_fadvise(descriptor, place, BLOCK, os.POSIX_FADV_DONTNEED)
                    os.pread(descriptor, BLOCK, place)
            seconds += timer.seconds
    return count / seconds
