"""Running other programs, and forgetting what the kernel has cached."""

from __future__ import annotations

import mmap
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 600
REPORTING = Path("/sys/module/page_reporting/parameters/page_reporting_order")
NEVER = "11"
"""Blocks of 2**11 pages, which the kernel does not have."""
WARM = 2 << 30
"""Bytes: several times what a row of 256 MiB takes from the kernel for its pages and those of the drives."""


def run(*command: str | Path, ok: tuple[int, ...] = (0,)) -> str:
    """Standard output. Raises RuntimeError with what the program said if it ends with a status not in `ok`."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode not in ok:
        raise RuntimeError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def wait_until(true: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Look every 20 ms. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s: {what}")
        time.sleep(0.02)


def drop_caches() -> None:
    """Forget clean pages, names and inodes of the whole machine. Needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


@contextmanager
def own_memory() -> Iterator[None]:
    """Keep the host from taking back what the kernel holds free, where it does so (free page reporting, Linux 5.7)."""
    before = REPORTING.read_text() if REPORTING.exists() else ""
    if not before:
        yield
        return
    REPORTING.write_text(NEVER)
    try:
        yield
    finally:
        REPORTING.write_text(before)


def warm_memory() -> None:
    """Have the host give the virtual machine the memory that a row will take.

    What it has never given, or has taken back (`own_memory`), took 3 s per GiB at the first touch here: streams of
    whatever file system then ran at a quarter of their rate, now and then. What was given up a moment ago is what the
    kernel hands out first.
    """
    mmap.mmap(-1, WARM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def settle(directory: Path) -> None:
    """Make everything durable: sync(2) does not reach a FUSE daemon, the fsync of a directory does."""
    os.sync()
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
