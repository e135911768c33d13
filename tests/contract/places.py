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
from ecfs.drive.base import Drive
from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.health import HealthDrive
from ecfs.drive.local import LocalDrive
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.memory_store import MemoryStore
from tests.nodes import ThreadNode


class Place(ABC):
    """Where a drive lies. wrapped: its drives come in all wrappers."""

    wrapped = False

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
