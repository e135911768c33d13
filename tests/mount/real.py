"""A pool on six drives, mounted by the real daemon, and the ordinary programs that work on it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.mount.made_of import ENVIRONMENT, drives_of
from tests.programs import Place, place, wait_for_end

PATIENCE_S = 150
LIBRARY = Path(sysconfig.get_path("stdlib"))


@dataclass
class Pool:
    """./drives mounted on ./mnt in the place's folder."""

    place: Place
    options: str = "rw"
    """As after -o."""
    elsewhere: dict[int, Callable[[], None]] = field(default_factory=dict)
    """How to delete the drives that are no directories here, by slot."""

    @property
    def mnt(self) -> Path:
        return self.place.path / "mnt"

    def drive(self, slot: int) -> Path:
        """Where a directory lies, ours or a node's."""
        return self.place.path / "drives" / f"d{slot}"

    def ecfs(self, *arguments: str | Path, status: int | None = 0) -> str:
        return self.place.run(*arguments, status=status)

    def mount(self) -> None:
        self.ecfs("mount", "-o", self.options, "drives", "mnt")

    def umount(self) -> None:
        self.ecfs("umount", "mnt")

    def remount(self) -> None:
        """Nothing that was in any cache is left."""
        self.umount()
        self.mount()

    def until_healthy(self, seconds: float = 120) -> None:
        """Until drives that are back have what they missed: before that they can't stand in for others."""
        deadline = time.monotonic() + seconds
        while json.loads(self.ecfs("status", "--json", "mnt", status=None))["state"] != "healthy":
            assert time.monotonic() < deadline, self.ecfs("status", "mnt", status=None)
            time.sleep(0.2)

    def lose(self, *slots: int) -> None:
        for slot in slots:
            self.elsewhere.get(slot, lambda slot=slot: shutil.rmtree(self.drive(slot)))()

    def kill(self) -> None:
        pid = self.place.pid()
        os.kill(pid, 9)
        assert wait_for_end(pid)


@contextlib.contextmanager
def mounted_pool(folder: Path, options: str = "rw", create: tuple[str, ...] = ()) -> Iterator[Pool]:
    """Six directories, made into a pool by mounting them; or what `ecfs create` makes of the arguments `create`."""
    (folder / "drives").mkdir()
    with place(folder) as here:
        pool = Pool(here, options)
        if create:
            pool.ecfs("create", "drives", *create)
        pool.mount()
        yield pool


@contextlib.contextmanager
def mounted_pool_of(kind: str, folder: Path, endpoint: Callable[[], str]) -> Iterator[Pool]:
    """Six drives of another kind, listed in a pool file. endpoint: see `drives_of`."""
    (folder / "drives").mkdir()
    with drives_of(kind, folder / "drives", endpoint) as elsewhere, place(folder) as here:
        here.extra.update(ENVIRONMENT.get(kind, {}))
        pool = Pool(here, elsewhere=elsewhere)
        pool.ecfs("create", "drives/pool.toml")
        pool.mount()
        yield pool


def call(*command: str | Path, cwd: Path | None = None) -> str:
    """Run an ordinary program; it must succeed. What it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def assert_same(one: Path, other: Path) -> None:
    """diff -r, links compared as links, and modes and times too."""
    call("diff", "-r", "--no-dereference", one, other)
    assert listing(one) == listing(other)


def listing(folder: Path) -> list[str]:
    """Name, mode, time and target of everything below."""
    return sorted(call("find", ".", "-mindepth", "1", "-printf", "%P %M %T@ %l\\n", cwd=folder).splitlines())
