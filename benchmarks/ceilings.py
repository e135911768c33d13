"""What the six drives themselves give, without FUSE and without a file system of ours on them.

The same bytes of shards, by plain `pwrite` and `pread` from one thread per drive; for synced rows, 600 bytes appended
durably to a file on each drive in parallel. Rows that are about names and attributes have no such counterpart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.contenders import LOST, Contender, Unsupported
from benchmarks.drives import COUNT, MIB
from benchmarks.shell import drop_caches, warm_memory
from benchmarks.workloads import BLOCK, SYNCED_WRITES, noise, opened, timed

DATA = 4
SHARD = MIB
"""Bytes of data in each shard of a stripe of 4 MiB."""
HEADER = 4096
RECORD = 600


class RawDrives(Contender):
    """Not a file system: `figure` measures the rows it has."""

    name = "raw drives"
    needs = ("mkfs.xfs",)

    def start(self) -> None:
        self.drives.mount_xfs()
        self._threads = ThreadPoolExecutor(COUNT)

    def stop(self) -> None:
        self._threads.shutdown()

    def lose_two(self) -> None:
        """Nothing to do: the rows behind it leave those drives alone or write them anew."""

    def figure(self, row: str, mib: int, files: int) -> float:
        """The ceiling of a row. Raises Unsupported."""
        if row in ("seq_write", "seq_write_degraded"):
            return self._write(mib)
        if row == "small_create":
            return self._write(max(1, files * BLOCK // MIB)) * MIB / BLOCK
        if row in ("seq_read_cold", "scrub"):
            return self._read(mib, range(DATA) if row == "seq_read_cold" else range(COUNT))
        if row in ("seq_read_degraded", "rebuild"):
            kept = [drive for drive in range(COUNT) if drive not in LOST]
            return self._read(mib, kept) if row == "seq_read_degraded" else self._rebuild(mib, kept)
        if row in ("append_fsync", "rand_write_4k_fsync"):
            return self._append()
        raise Unsupported

    def _file(self, drive: int, stripe: int) -> Path:
        return self.drives.place(drive) / f"shard{stripe}"

    def _all(self, work: Callable[[int], object], drives: Sequence[int] = range(COUNT)) -> None:
        """work(drive) in a thread for each."""
        list(self._threads.map(work, drives))

    def _write(self, mib: int) -> float:
        """MiB/s of payload: a header and a shard per stripe and drive, each synced at the end."""
        data = noise(HEADER + SHARD)
        stripes = max(1, mib // DATA)

        def work(drive: int) -> None:
            for stripe in range(stripes):
                with opened(self._file(drive, stripe), os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
                    os.pwrite(descriptor, data, 0)
                    os.fsync(descriptor)

        warm_memory()
        with timed() as timer:
            self._all(work)
        return stripes * DATA / timer.seconds

    def _read(self, mib: int, drives: Sequence[int]) -> float:
        """MiB/s of payload."""
        if not self._file(0, mib // DATA - 1).exists():
            self._write(mib)
        drop_caches()
        warm_memory()

        def work(drive: int) -> None:
            for stripe in range(mib // DATA):
                with opened(self._file(drive, stripe), os.O_RDONLY) as descriptor:
                    os.pread(descriptor, HEADER + SHARD, 0)

        with timed() as timer:
            self._all(work, drives)
        return mib / timer.seconds

    def _rebuild(self, mib: int, kept: Sequence[int]) -> float:
        """MiB/s of payload that lay on the lost drives: theirs written, synced and read again from the medium, while
        what the others have is read."""
        data = noise(HEADER + SHARD)
        for drive in LOST:
            for stripe in range(mib // DATA):
                self._file(drive, stripe).unlink(missing_ok=True)
        if not self._file(kept[0], mib // DATA - 1).exists():
            self._write(mib)
        drop_caches()
        warm_memory()

        def work(drive: int) -> None:
            for stripe in range(mib // DATA):
                if drive in LOST:
                    with opened(self._file(drive, stripe), os.O_RDWR | os.O_CREAT) as descriptor:
                        os.pwrite(descriptor, data, 0)
                        os.fsync(descriptor)
                        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                        os.pread(descriptor, HEADER + SHARD, 0)
                else:
                    with opened(self._file(drive, stripe), os.O_RDONLY) as descriptor:
                        os.pread(descriptor, HEADER + SHARD, 0)

        with timed() as timer:
            self._all(work)
        return mib * len(LOST) / DATA / timer.seconds

    def _append(self) -> float:
        """Records per second that are durable on all drives."""
        descriptors = [os.open(self.drives.place(drive) / "log", os.O_WRONLY | os.O_CREAT) for drive in range(COUNT)]
        record = noise(RECORD)

        def work(drive: int) -> None:
            os.write(descriptors[drive], record)
            os.fdatasync(descriptors[drive])

        with timed() as timer:
            for _ in range(SYNCED_WRITES):
                self._all(work)
        for descriptor in descriptors:
            os.close(descriptor)
        return SYNCED_WRITES / timer.seconds
