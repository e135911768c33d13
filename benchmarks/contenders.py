"""Who takes part: each makes a file system on six fresh drives, and some can lose two of them and repair.

Those on one drive, or without parity, promise less; they are what a user space file system could reach at best.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.drives import Drives
from benchmarks.shell import run, wait_until
from ecfs.control.client import call
from ecfs.control.protocol import RemoteError
from ecfs.mount.locate import find_target

LOST = (1, 4)
"""The two drives that are taken away."""
ROOT = Path(__file__).parents[1]


class Unsupported(Exception):
    """This contender has no such thing."""


class Contender(ABC):
    """One file system. name: as in the table; needs: programs that must be installed."""

    name: str
    needs: Sequence[str] = ()
    keeps_bytes = True
    """Whether what is read is what was written."""

    def __init__(self, drives: Drives) -> None:
        self.drives = drives
        self.root = drives.base / "mnt"
        """Where it is mounted."""
        self.root.mkdir()

    @classmethod
    def is_installed(cls) -> bool:
        return all(shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") for program in cls.needs)

    @abstractmethod
    def start(self) -> None:
        """Make it and mount it."""

    def stop(self) -> None:
        if os.path.ismount(self.root):
            run("umount", "--lazy", self.root)

    def lose_two(self) -> None:
        """Drives `LOST` are gone, with everything on them."""
        raise Unsupported

    def rebuild(self) -> float | None:
        """Make the lost drives whole again; returns when done. Bytes of data that were made anew; None where half of
        what files hold is all that can be known."""
        raise Unsupported

    def scrub(self) -> None:
        """Verify every byte; returns when done."""
        raise Unsupported

    def start_scrub(self) -> None:
        """Begin to verify; returns when that is under way."""
        raise Unsupported

    def is_scrubbing(self) -> bool:
        raise Unsupported

    def stop_scrub(self) -> None:
        """End one that runs, if there is one."""
        raise Unsupported

    def scrubbing(self) -> Callable[[], None]:
        """Begin to verify. To be called now and then: begins again where one has ended."""

        def again() -> None:
            if not self.is_scrubbing():
                self.start_scrub()

        self.start_scrub()
        return again

    def compacted(self) -> float | None:
        """Bytes that were written anew to win back space; None if it does no such thing, or does not tell."""
        return None


class Xfs(Contender):
    """The file system of one drive, in the kernel."""

    name = "xfs"
    needs = ("mkfs.xfs",)

    def start(self) -> None:
        self.drives.mount_xfs()
        run("mount", "--bind", self.drives.place(0), self.root)


class Bindfs(Contender):
    """One drive through FUSE, in C."""

    name = "bindfs"
    needs = ("bindfs", "mkfs.xfs")

    def start(self) -> None:
        self.drives.mount_xfs()
        run("bindfs", self.drives.place(0), self.root)


class Mergerfs(Contender):
    """Six drives through FUSE, in C, whole files on each and no parity."""

    name = "mergerfs"
    needs = ("mergerfs", "mkfs.xfs")

    def start(self) -> None:
        self.drives.mount_xfs()
        branches = ":".join(str(self.drives.place(number)) for number in range(6))
        run("mergerfs", "-o", "category.create=rand,cache.files=auto-full,minfreespace=1M", branches, self.root)


class Btrfs(Contender):
    """raid6 in the kernel; its write hole is documented."""

    name = "btrfs raid6"
    needs = ("mkfs.btrfs",)

    def start(self) -> None:
        run(
            "mkfs.btrfs", "-q", "-f", "-d", "raid6", "-m", "raid1c3", *(self.drives.loop(number) for number in range(6))
        )
        run("btrfs", "device", "scan")
        run("mount", self.drives.loop(0), self.root)

    def stop(self) -> None:
        super().stop()
        run("btrfs", "device", "scan", "--forget", ok=(0, 1))

    def lose_two(self) -> None:
        run("umount", self.root)
        for number in LOST:
            run("wipefs", "--all", self.drives.loop(number))
        run("btrfs", "device", "scan", "--forget")
        kept = [number for number in range(6) if number not in LOST]
        run("btrfs", "device", "scan", *(self.drives.loop(number) for number in kept))
        run("mount", "-o", "degraded", self.drives.loop(kept[0]), self.root)

    def scrub(self) -> None:
        run("btrfs", "scrub", "start", "-B", self.root)

    def start_scrub(self) -> None:
        run("btrfs", "scrub", "start", self.root)

    def is_scrubbing(self) -> bool:
        return "running" in run("btrfs", "scrub", "status", self.root)

    def stop_scrub(self) -> None:
        run("btrfs", "scrub", "cancel", self.root, ok=(0, 2))


class ZfsFuse(Contender):
    """raidz2 through FUSE, in C: the same promise as ours."""

    name = "zfs-fuse raidz2"
    needs = ("zfs-fuse", "zpool")

    @property
    def _pool(self) -> str:
        return self.drives.base.name

    @property
    def _pid(self) -> Path:
        return self.drives.base / "zfs.pid"

    def start(self) -> None:
        run("zfs-fuse", "--pidfile", self._pid)
        wait_until(lambda: subprocess.run(["zpool", "list"], capture_output=True, check=False).returncode == 0, "zfs")
        run("zpool", "create", "-f", "-m", self.root, self._pool, "raidz2", *self.drives.images)

    def stop(self) -> None:
        run("zpool", "destroy", "-f", self._pool, ok=(0, 1))
        pid = int(self._pid.read_text())
        os.kill(pid, 15)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of zfs-fuse")

    def lose_two(self) -> None:
        for number in LOST:
            run("zpool", "offline", self._pool, self.drives.images[number])

    def scrub(self) -> None:
        self.start_scrub()
        wait_until(lambda: not self.is_scrubbing(), "scrub", 120)

    def start_scrub(self) -> None:
        run("zpool", "scrub", self._pool)

    def is_scrubbing(self) -> bool:
        return "in progress" in run("zpool", "status", self._pool)

    def stop_scrub(self) -> None:
        run("zpool", "scrub", "-s", self._pool, ok=(0, 1))


class Empty(Contender):
    """Handlers of pyfuse3 that keep names and sizes in memory and no bytes: the most that Python can reach."""

    name = "empty handler"
    keeps_bytes = False
    options: Sequence[str] = ()

    def start(self) -> None:
        command = [sys.executable, "-m", "benchmarks.empty", str(self.root), *self.options]
        self._process = subprocess.Popen(command, cwd=ROOT)
        wait_until(lambda: os.path.ismount(self.root), "the empty handler's mount")

    def stop(self) -> None:
        run("fusermount3", "-u", "-z", self.root)
        self._process.wait(10)


class EmptyWaiting(Empty):
    """The same through trio's event loop alone: what the stand-in of `ecfs.fuse_loop` is worth."""

    name = "nopoll empty handler"
    options = ("nopoll",)


class EmptyWithAttributes(Empty):
    """The same for a file system that knows extended attributes: the kernel asks for them, once per created file."""

    name = "xattr empty handler"
    options = ("xattrs",)


@dataclass(frozen=True)
class Checkout:
    """An ecfs to measure. python: its interpreter; tree: its sources."""

    python: Path
    tree: Path


THIS = Checkout(Path(sys.executable), ROOT)


class Ecfs(Contender):
    """4 data and 2 parity shards on six XFS drives."""

    name = "ecfs"
    needs = ("mkfs.xfs",)
    checkout = THIS
    mount_options: Sequence[str] = ()
    _page = ""

    def start(self) -> None:
        self.drives.mount_xfs()
        self.pool = self.drives.base / "pool"
        self.command("create", self.pool, *(self._shards(number) for number in range(6)))
        self.mount()

    def mount(self) -> None:
        self.command("mount", *self.mount_options, self.pool, self.root)

    def umount(self) -> None:
        self.command("umount", self.root, ok=(0, 1))

    def stop(self) -> None:
        if os.path.ismount(self.root):
            self.umount()

    def _shards(self, number: int) -> Path:
        return self.drives.place(number) / "ecfs"

    def _line(self, *arguments: str | Path) -> list[str]:
        code = f"import sys; sys.path.insert(0, {str(self.checkout.tree)!r}); from ecfs.cli import main; main()"
        return [str(self.checkout.python), "-c", code, *map(str, arguments)]

    def command(self, *arguments: str | Path, ok: tuple[int, ...] = (0,)) -> str:
        return run(*self._line(*arguments), ok=ok)

    def compacted(self) -> float | None:
        """Asked for the first time, it mounts anew, with its page of metrics."""
        if not self._page:
            self._page = f"127.0.0.1:{_free_port()}"
            self.umount()
            self.mount_options = ("--web", self._page)
            self.mount()
        with urllib.request.urlopen(f"http://{self._page}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("ecfs_compacted_bytes_total "):
                    return float(line.split()[1])
        return None

    def lose_two(self) -> None:
        for number in LOST:
            shutil.rmtree(self._shards(number))
        wait_until(lambda: self._state() == "degraded", "the loss to be noticed")

    # Through the daemon's socket, since the start of a command takes longer than the scrub of a small pool, and takes
    # half of a small machine meanwhile. The others' commands only give an order.

    def _ask(self, method: str, params: dict[str, object] | None = None) -> dict[str, dict[str, object]]:
        mounted = find_target(str(self.root)).mounted
        if mounted is None:
            raise RuntimeError("the pool is not mounted")
        answer: dict[str, dict[str, object]] = call(mounted, method, params or {})
        return answer

    def _state(self) -> object:
        return self._ask("status")["state"]

    def rebuild(self) -> float:
        """Until any two drives may be lost again; the scrub goes on with what was not lost."""
        self.start_scrub()
        wait_until(lambda: self._state() == "healthy", "the drives to be whole again")
        return sum(path.stat().st_size for number in LOST for path in self._shards(number).glob("s/*/*"))

    def scrub(self) -> None:
        report = self._ask("scrub")["report"]
        if report["exit_status"]:
            raise RuntimeError(f"the scrub ended with {report}")

    def start_scrub(self) -> None:
        self._ask("scrub", {"background": True})

    def is_scrubbing(self) -> bool:
        return bool(self._ask("status")["scrub"]["running"])

    def stop_scrub(self) -> None:
        with suppress(RemoteError):  # it has ended
            self._ask("scrub_cancel")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


ALL: dict[str, type[Contender]] = {
    kind.name.split()[0]: kind
    for kind in (Ecfs, Bindfs, ZfsFuse, Btrfs, Mergerfs, Xfs, Empty, EmptyWaiting, EmptyWithAttributes)
}
"""By the first word of their names."""
