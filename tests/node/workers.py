"""Programs that work on a mounted pool while the weather changes, and afterwards say what was lost."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from tests.mount.real import Pool, call

PAUSE_S = 0.2
"""After an error, before the next try."""


class Worker(threading.Thread, ABC):
    """Does numbered steps, each durable when it returns. Remembers which were, what failed, and the longest one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.ending = threading.Event()
        self.acknowledged: list[int] = []
        self.errors: list[Exception] = []
        self.longest = 0.0
        self._began = time.monotonic()

    def run(self) -> None:
        number = 0
        while not self.ending.is_set():
            number += 1
            began = self._began = time.monotonic()
            try:
                self.step(number)
                self.acknowledged.append(number)
            except (OSError, sqlite3.Error, subprocess.CalledProcessError) as error:
                self.errors.append(error)
                time.sleep(PAUSE_S)
            self.longest = max(self.longest, time.monotonic() - began)

    def take_longest(self) -> float:
        """The longest step since the last time this was asked, the present one included as far as it got."""
        longest = max(self.longest, time.monotonic() - self._began)
        self.longest = 0.0
        return longest

    def prepare(self) -> None:
        """In good weather, once."""
        self.folder.mkdir()

    @abstractmethod
    def step(self, number: int) -> None: ...

    @abstractmethod
    def check(self) -> None:
        """Nothing that was acknowledged is lost."""


class Files(Worker):
    """Writes and syncs files, every seventh a large one."""

    def step(self, number: int) -> None:
        with (self.folder / f"f{number}").open("wb") as file:
            file.write(body(number))
            file.flush()
            os.fsync(file.fileno())

    def check(self) -> None:
        for number in self.acknowledged:
            assert (self.folder / f"f{number}").read_bytes() == body(number)


def body(number: int) -> bytes:
    return f"{number};".encode() * (100 if number % 7 else 60_000)


class Sqlite(Worker):
    """Inserts rows, a transaction each."""

    def prepare(self) -> None:
        super().prepare()
        self._do("CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB)")

    def _do(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(self.folder / "database", timeout=60)) as database, database:
            database.execute("PRAGMA synchronous=EXTRA")
            return database.execute(statement, values).fetchall()

    def step(self, number: int) -> None:
        self._do("INSERT INTO t VALUES (?, ?)", number, os.urandom(700))

    def check(self) -> None:
        assert self._do("PRAGMA integrity_check") == [("ok",)]
        assert set(self.acknowledged) <= {number for (number,) in self._do("SELECT k FROM t")}


class Git(Worker):
    """Commits, with every object synced."""

    COMMAND = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "core.fsync=all", "-c", "gc.auto=0")

    def prepare(self) -> None:
        super().prepare()
        call(*self.COMMAND, "init", "-q", cwd=self.folder)

    def _git(self, *arguments: str) -> None:
        subprocess.run([*self.COMMAND, *arguments], cwd=self.folder, check=True, capture_output=True, timeout=120)

    def step(self, number: int) -> None:
        for lock in (self.folder / ".git").rglob("*.lock"):  # of a step that failed and could not even remove those
            lock.unlink(missing_ok=True)
        (self.folder / "file").write_text(f"{number}\n")
        self._git("add", "file")
        self._git("commit", "-q", "--allow-empty", "-m", str(number))

    def check(self) -> None:
        call(*self.COMMAND, "fsck", "--full", "--strict", cwd=self.folder)
        said = call(*self.COMMAND, "log", "--format=%s", cwd=self.folder).split()
        assert set(self.acknowledged) <= set(map(int, said))


@contextlib.contextmanager
def working(pool: Pool) -> Iterator[list[Worker]]:
    """All of them, each in a folder of its own, until the block ends."""
    workers = [Files(pool.mnt / "files"), Sqlite(pool.mnt / "sqlite"), Git(pool.mnt / "git")]
    for worker in workers:
        worker.prepare()
    for worker in workers:
        worker.start()
    try:
        yield workers
    finally:
        for worker in workers:
            worker.ending.set()
        for worker in workers:
            worker.join(180)


def report(workers: list[Worker]) -> str:
    return ", ".join(f"{type(w).__name__} {len(w.acknowledged)} steps, longest {w.longest:.2f} s" for w in workers)
