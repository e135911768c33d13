"""Six drives in memory: images in a tmpfs behind loop devices, so that no disk's noise gets into the figures."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.shell import own_memory, run

COUNT = 6
MEMORY = Path("/dev/shm")
MIB = 1 << 20


class Drives:
    """Images and, once `mount_xfs` was called, a file system on each at `place(i)`."""

    def __init__(self, base: Path, mib: int) -> None:
        self.base = base
        self.images = [base / f"{number}.img" for number in range(COUNT)]
        self._loops: dict[int, str] = {}
        for image in self.images:
            with image.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, mib * MIB)  # else the first write to each page pays for it

    def place(self, number: int) -> Path:
        return self.base / f"d{number}"

    def loop(self, number: int) -> str:
        """The block device of an image."""
        if number not in self._loops:
            self._loops[number] = run("losetup", "--find", "--show", self.images[number]).strip()
        return self._loops[number]

    def detach(self, number: int) -> None:
        run("losetup", "--detach", self._loops.pop(number))

    def mount_xfs(self) -> None:
        for number in range(COUNT):
            self.place(number).mkdir()
            run("mkfs.xfs", "-q", "-f", self.loop(number))
            run("mount", self.loop(number), self.place(number))

    def written(self) -> int:
        """Bytes written to all devices so far."""
        total = 0
        for loop in self._loops.values():
            sectors = Path("/sys/block", Path(loop).name, "stat").read_text().split()[6]
            total += int(sectors) * 512
        return total

    def close(self) -> None:
        for number in range(COUNT):
            if os.path.ismount(self.place(number)):
                run("umount", "--lazy", self.place(number))
        for number in list(self._loops):
            with suppress(RuntimeError):
                self.detach(number)
        shutil.rmtree(self.base, ignore_errors=True)


@contextmanager
def six_drives(mib: int) -> Iterator[Drives]:
    """Fresh images of `mib` MiB each. RAM is taken until the block is left."""
    with own_memory():
        drives = Drives(Path(tempfile.mkdtemp(prefix="ecfs-bench-", dir=MEMORY)), mib)
        try:
            yield drives
        finally:
            drives.close()
