"""A disk that stops answering without an error: programs go on within the drive's deadline, and it catches up later.

Hung in two ways: a frozen ext4 file system (writes hang in the kernel and can't be killed), and a stopped bindfs
(everything hangs). A watchdog of its own process lets it go again, whatever becomes of the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mount.real import Pool, call
from tests.programs import place

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a loop file system"),
]
SLOT = 2
HUNG_AT_MOST_S = 100


@dataclass
class Disk:
    """hang, release: shell commands."""

    hang: str
    release: str

    @contextlib.contextmanager
    def hung(self) -> Iterator[Callable[[], None]]:
        """Gives what lets it go earlier."""
        watchdog = subprocess.Popen(["sh", "-c", f"sleep {HUNG_AT_MOST_S}; {self.release}"])
        try:
            call("sh", "-c", self.hang)
            yield lambda: void(call("sh", "-c", self.release))
        finally:
            subprocess.run(["sh", "-c", self.release], capture_output=True, check=False)
            watchdog.kill()
            watchdog.wait()


def void(value: object) -> None:
    """Nothing."""


@contextlib.contextmanager
def frozen_ext4(folder: Path, point: Path) -> Iterator[Disk]:
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    call("mkfs.ext4", "-q", image)
    call("mount", "-o", "loop", image, point)
    try:
        yield Disk(f"fsfreeze -f '{point}'", f"fsfreeze -u '{point}'")
    finally:
        subprocess.run(["fsfreeze", "-u", point], capture_output=True, check=False)
        subprocess.run(["umount", "-l", point], check=False)


@contextlib.contextmanager
def stopped_bindfs(folder: Path, point: Path) -> Iterator[Disk]:
    (folder / "behind").mkdir()
    process = subprocess.Popen(["bindfs", "-f", folder / "behind", point])
    try:
        wait_until(lambda: os.path.ismount(point), 10)
        yield Disk(f"kill -STOP {process.pid}", f"kill -CONT {process.pid}")
    finally:
        process.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "-l", point], check=False)
        process.terminate()
        process.wait(10)


DISKS = {"frozen": frozen_ext4, "stopped": stopped_bindfs}


@contextlib.contextmanager
def in_front(pool: Pool, deadline_s: float) -> Iterator[None]:
    """The daemon with another deadline for local drives than the usual half minute."""
    code = (
        f"import ecfs.drive.local as local, ecfs.cli as cli; local.DEADLINE_S = {deadline_s}\n"
        "cli.main(['mount', '-f', 'drives', 'mnt'])"
    )
    here = pool.place
    with (here.path / "said").open("w") as said:
        daemon = subprocess.Popen(
            [sys.executable, "-c", code], cwd=here.path, env=here.environment, stdout=said, stderr=said
        )
    try:
        wait_until(lambda: os.path.ismount(pool.mnt), 30)
        yield
        pool.umount()
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait()
        subprocess.run(["umount", "-l", pool.mnt], capture_output=True, check=False)


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)


def store(path: Path, data: bytes) -> float:
    """Write and sync; how long it took."""
    began = time.monotonic()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return time.monotonic() - began


def read(path: Path, data: bytes) -> float:
    began = time.monotonic()
    assert path.read_bytes() == data
    return time.monotonic() - began


def drive_state(pool: Pool) -> dict[str, object]:
    return dict(json.loads(pool.ecfs("status", "mnt", "--json", status=None))["drives"][SLOT])


def is_healthy(pool: Pool) -> bool:
    return str(json.loads(pool.ecfs("status", "mnt", "--json", status=None))["state"]) == "healthy"


def hang_and_return(folder: Path, kind: str, deadline_s: float) -> None:
    point = folder / "drives" / f"d{SLOT}"
    point.mkdir(parents=True)
    before, during = os.urandom(9 << 20), os.urandom(9 << 20)
    with DISKS[kind](folder, point) as disk, place(folder) as here:
        pool = Pool(here)
        pool.mount()
        store(pool.mnt / "before", before)
        pool.umount()
        with in_front(pool, deadline_s):
            patience = deadline_s + 8
            with disk.hung() as release:
                assert read(pool.mnt / "before", before) < patience
                assert store(pool.mnt / "during", during) < patience
                assert not drive_state(pool)["usable"]
                # From now on nobody waits for it any more.
                assert store(pool.mnt / "again", during[:100_000]) < deadline_s
                assert read(pool.mnt / "during", during) < deadline_s
                release()
            wait_until(lambda: is_healthy(pool), 60)
        for slot in (0, 5):
            pool.drive(slot).rename(folder / f"away{slot}")
        with in_front(pool, deadline_s):
            read(pool.mnt / "before", before)
            read(pool.mnt / "during", during)


@pytest.mark.parametrize("kind", DISKS)
def test_a_hung_disk_delays_programs_by_its_deadline_and_catches_up(tmp_path: Path, kind: str) -> None:
    hang_and_return(tmp_path, kind, 3.0)


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", DISKS)
def test_a_hung_disk_with_the_usual_deadline(tmp_path: Path, kind: str) -> None:
    hang_and_return(tmp_path, kind, 30.0)
