"""While programs that write are slowed down, everybody else goes on: all requests of a mount share so many tasks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.fuse_mount import fuse_mount

pytestmark = pytest.mark.mount


@pytest.mark.parametrize("size", [4096, 1 << 20], ids=["4-KiB", "1-MiB"])
def test_who_looks_or_deletes_does_not_wait_for_forty_writers_who_do(tmp_path: Path, size: int) -> None:
    with fuse_mount(tmp_path) as mounted:
        (mounted.path / "old").touch()
        mounted.tell("fall_behind")
        over, data = threading.Event(), bytes(size)

        def write(number: int) -> None:
            with open(mounted.path / f"new{number}", "wb", buffering=0) as file:
                while not over.is_set():
                    file.write(data)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(40)]
        for writer in writers:
            writer.start()
        time.sleep(1)
        calls: list[Callable[[], object]] = [
            lambda: os.unlink(mounted.path / "old"),
            lambda: os.mkdir(mounted.path / "made"),
            lambda: os.listdir(mounted.path),
            lambda: os.statvfs(mounted.path),
        ]
        start = time.monotonic()
        for call in calls:
            call()
        waited = time.monotonic() - start
        over.set()
        for writer in writers:
            writer.join()
        print(f"four calls: {waited:.2f} s")
        assert waited < 5  # without the limit 10 and more; 0.1 to 1 on a machine that does nothing else


def test_a_program_that_syncs_scattered_pages_is_slowed_not_stopped(tmp_path: Path) -> None:
    """With writeback the kernel sends each page as a request of its own, when the file is synced or closed."""
    with fuse_mount(tmp_path, "writeback") as mounted:
        with open(mounted.path / "new", "wb", buffering=0) as file:
            for at in range(400):
                os.pwrite(file.fileno(), b"x" * 4096, at * 8192)
            mounted.tell("fall_behind")
            start = time.monotonic()
            os.fsync(file.fileno())
            took = time.monotonic() - start
        print(f"fsync of 400 pages: {took:.1f} s")
        assert took < 15  # 34 when each page waited for a second; 1.5 on a machine that does nothing else
