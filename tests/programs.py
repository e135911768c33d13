"""Running `ecfs` as people do: as a program, in a place of its own, with everything taken away afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 180


@dataclass
class Place:
    """A folder in which commands run. Sockets and logs lie elsewhere, below a path short enough for a socket."""

    path: Path
    private: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "PYTHONPATH": str(ROOT),
            "ECFS_RUNTIME_DIR": str(self.private / "run"),
            "ECFS_LOG_DIR": str(self.private / "log"),
            "ECFS_STATE_DIR": str(self.private / "state"),
            "TMPDIR": str(self.private),
        }
        return os.environ | own | self.extra

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "ecfs", *map(str, arguments)],
            cwd=self.path, env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str | Path, status: int | None = 0) -> str:
        """What the command printed, standard error included; it must end with `status`."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # faulthandler says where it hung
            out, err = process.communicate()
            raise AssertionError(f"{arguments} hung\n{out}{err}\n{self.logs()}") from None
        assert status is None or process.returncode == status, (
            f"{arguments}: {process.returncode}\n{out}{err}{self.logs()}"
        )
        assert "Traceback" not in out + err, out + err
        return out + err

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted((self.private / "log").glob("*")))

    def daemons(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in (self.private / "run").glob("*.json")]

    def pid(self) -> int:
        """Of the one daemon."""
        (daemon,) = self.daemons()
        return int(daemon["pid"])

    def clean_up(self) -> None:
        """Whatever the test left: mounts go, daemons end."""
        for daemon in self.daemons():
            subprocess.run(["fusermount3", "-u", "-z", daemon["mountpoint"]], capture_output=True, check=False)
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon["pid"], signal.SIGCONT)
                if not wait_for_end(daemon["pid"], 20):
                    os.kill(daemon["pid"], signal.SIGKILL)
                    wait_for_end(daemon["pid"], 20)


def wait_for_end(pid: int, seconds: float = 30) -> bool:
    """Whether the process ended in time. It need not be our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def place(path: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="ecfs-", dir="/tmp") as private:
        here = Place(path, Path(private))
        try:
            yield here
        finally:
            here.clean_up()


def fingerprint(folder: Path) -> dict[str, str]:
    """Names, kinds, modes and contents of everything below a folder: to show that a command changed nothing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        body = hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found[str(path.relative_to(folder))] = f"{mode:o} {body}"
    return found
