"""The places the contract suite runs on: one class per kind of drive, and what only a test may do to it."""

from __future__ import annotations

import errno
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from ecfs.clock import SystemClock
from ecfs.drive import local_root
from ecfs.drive.base import Drive
from ecfs.drive.bucket import BucketDrive
from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.health import HealthDrive
from ecfs.drive.local import LocalDrive
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from ecfs.drive.objects import HEADER_LIMIT, Listed
from ecfs.drive.s3 import Bucket
from tests.nodes import ThreadNode


class Place(ABC):
    """Where a drive lies. wrapped: its drives come in all wrappers."""

    wrapped = False
    durable_at_once = False
    """A put is durable before any sync."""

    def open(self) -> Drive:
        """One more handle on it."""
        drive = self.open_bare()
        return HealthDrive(DeadlineDrive(drive, 20), SystemClock()) if self.wrapped else drive

    @abstractmethod
    def open_bare(self) -> Drive: ...

    @abstractmethod
    def destroy(self) -> None:
        """``rm -rf`` of the place."""

    @abstractmethod
    def bytes_of(self, name: str) -> bytes:
        """What lies under a key or a blob's name."""

    @abstractmethod
    def damage(self, name: str, data: bytes) -> None:
        """Put other bytes there, behind the drive's back."""

    @abstractmethod
    def is_durable(self, key: str) -> bool:
        """Would the key survive a power cut?"""

    @abstractmethod
    def failing_syncs(self) -> AbstractContextManager[None]:
        """Within the block, making anything durable fails with EIO."""

    async def kill(self, drive: Drive) -> None:
        """The process that holds this handle is killed: what it had not synced is seen, and nobody knows of it."""
        await drive.close()

    def end(self) -> None:
        """After the test."""
        return


class LocalPlace(Place):
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._monkeypatch = monkeypatch
        self._synced: list[int] = []
        self._real_fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(local_root, "sync_filesystem", self._sync_filesystem)

    def _sync_filesystem(self, descriptor: int) -> None:
        """Each file by itself, and then the directories, so that it is recorded, and fails where an fsync does."""
        for path in sorted(self.path.rglob("*"), key=Path.is_dir):
            opened = os.open(path, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)

    def _fsync(self, descriptor: int) -> None:
        self._real_fsync(descriptor)
        self._synced.append(os.fstat(descriptor).st_ino)

    def open_bare(self) -> Drive:
        return LocalDrive(self.path, slot=3)

    def destroy(self) -> None:
        shutil.rmtree(self.path)

    def bytes_of(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def damage(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)

    def is_durable(self, key: str) -> bool:
        """Its file was synced, and then, or at any time since, its directory."""
        file, directory = (path.stat().st_ino for path in (self.path / key, (self.path / key).parent))
        return file in self._synced and directory in self._synced[self._synced.index(file) :]

    @contextmanager
    def failing_syncs(self) -> Iterator[None]:
        def fail(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with self._monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            patch.setattr(os, "fdatasync", fail)
            yield


class NodePlace(LocalPlace):
    """A directory behind a node on loopback."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(path, monkeypatch)
        self.node = ThreadNode(path)

    def open_bare(self) -> Drive:
        return self.node.drive()

    def end(self) -> None:
        self.node.stop()


class FailingBucket(Bucket):
    """What a test may break. failing: nothing can be stored, and nothing looked up."""

    failing: bool

    def create(self, name: str, data: bytes) -> str:
        self._perhaps()
        return super().create(name, data)

    def write(self, name: str, data: bytes) -> str:
        self._perhaps()
        return super().write(name, data)

    def list(self, prefix: str, after: str | None = None) -> Iterator[list[Listed]]:
        self._perhaps()
        return super().list(prefix, after)

    def _perhaps(self) -> None:
        if self.__dict__.get("failing"):
            raise OSError(errno.EIO, "Input/output error")


class BucketPlace(Place):
    """An object store: everything that it has answered is durable."""

    durable_at_once = True

    def __init__(self, store: object) -> None:
        self.bucket = FailingBucket(store)

    def open_bare(self) -> Drive:
        return BucketDrive("s3://bucket/prefix", lambda: self.bucket, SystemClock(), slot=3)

    def _names(self) -> list[str]:
        return [listed.name for chunk in self.bucket.list("") for listed in chunk]

    def destroy(self) -> None:
        for name in self._names():
            self.bucket.delete(name)

    def bytes_of(self, name: str) -> bytes:
        return self.bucket.read(name)

    def damage(self, name: str, data: bytes) -> None:
        if not name.startswith("j/"):
            self.bucket.write(name, data)
            return
        (part,) = [each for each in self._names() if name.encode() in self.bucket.read(each)[:HEADER_LIMIT]]
        line, newline, _ = self.bucket.read(part).partition(b"\n")
        self.bucket.write(part, line + newline + data)

    def is_durable(self, key: str) -> bool:
        return key in self._names()

    @contextmanager
    def failing_syncs(self) -> Iterator[None]:
        self.bucket.__dict__["failing"] = True
        yield
        self.bucket.__dict__["failing"] = False


class MemoryPlace(Place):
    def __init__(self, *, lockable: bool) -> None:
        self.store = MemoryStore(lockable=lockable)
        self._failing = False

    def _hook(self, operation: str, key: str) -> None:
        if self._failing and operation.endswith(":flush"):
            raise OSError(errno.EIO, "Input/output error")

    def open_bare(self) -> Drive:
        return MemoryDrive(self.store, slot=3, on_operation=self._hook)

    def destroy(self) -> None:
        self.store.wipe()

    def bytes_of(self, name: str) -> bytes:
        return bytes(self.store.raw(name))

    def damage(self, name: str, data: bytes) -> None:
        self.store.raw(name)[:] = data

    def is_durable(self, key: str) -> bool:
        file = self.store.durable_names.get(key)
        return file is not None and file.durable == len(file.data)

    @contextmanager
    def failing_syncs(self) -> Iterator[None]:
        self._failing = True
        yield
        self._failing = False
