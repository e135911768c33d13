"""A mounted file system over data in memory, in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

READY_SECONDS = 20
ROOT = Path(__file__).parents[2]


@dataclass
class Mounted:
    """The mount point, and a line to the daemon (see `fuse_child.Commands`)."""

    path: Path
    process: subprocess.Popen[str]
    log: Path

    def tell(self, command: str) -> str:
        """Have the daemon do something; its answer."""
        self._send(command)
        return self._answers().readline().strip()

    def _send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _answers(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout


@contextlib.contextmanager
def fuse_mount(base: Path, *options: str) -> Iterator[Mounted]:
    """Mounts below `base`; unmounts whatever happens. The daemon's log is in ``base/log``."""
    mountpoint, scratch, log = base / "mnt", base / "scratch", base / "log"
    mountpoint.mkdir()
    command = [sys.executable, "-m", "tests.mount.fuse_child", str(mountpoint), str(scratch), *options]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    mounted = Mounted(mountpoint, process, log)
    try:
        assert mounted._answers().readline() == "ready\n", log.read_text()
        yield mounted
    finally:
        unmount(mounted)


def unmount(mounted: Mounted) -> None:
    """Lazily, so that a file a failed test left open can't keep the mount; the daemon ends by itself, or is killed."""
    subprocess.run(["fusermount3", "-u", "-z", str(mounted.path)], check=False, capture_output=True)
    try:
        mounted.process.communicate(timeout=READY_SECONDS)
    except subprocess.TimeoutExpired:
        mounted.process.kill()
        mounted.process.communicate()
