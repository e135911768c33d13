"""Where running daemons are found: one directory per user, and per mounted pool in it

* ``POOL.lock``, locked for as long as the daemon lives: a lock ends with its process, whatever killed it;
* ``POOL.json``, which says who has mounted what where;
* ``POOL.sock``, the control socket.

POOL is the first half of the pool's id: a path of a unix socket may only have 107 bytes.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from ecfs.errors import PoolLockedError, UsageError

_log = logging.getLogger(__name__)

OPENING, MOUNTED, LEAVING = "opening", "mounted", "leaving"
MAX_SOCKET_PATH = 107


class Mounted(msgspec.Struct, frozen=True):
    """One running daemon. pool_file, mountpoint: absolute. state: "opening", "mounted" or "leaving"."""

    pool_id: str
    pool_file: str
    mountpoint: str
    pid: int
    state: str
    log: str = ""
    directory: str = ""
    """The runtime directory it was found in."""

    @property
    def socket(self) -> Path:
        return Path(self.directory) / f"{_name(self.pool_id)}.sock"


def _name(pool_id: str) -> str:
    return pool_id[:16]


def runtime_directory() -> Path:
    """This user's directory, made if missing. Raises UsageError if somebody else could write there."""
    path = _own_directory()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat(follow_symlinks=False)
    except OSError as error:
        raise UsageError(f"{path} can't be made: {error.strerror} (ECFS_RUNTIME_DIR names another place)") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        # Whoever can put a socket there could answer in the daemon's name.
        raise UsageError(f"{path} must be a directory that only you can write to: remove it, ecfs makes it anew")
    return path


def _own_directory() -> Path:
    chosen = os.environ.get("ECFS_RUNTIME_DIR")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/run/ecfs")
    session = os.environ.get("XDG_RUNTIME_DIR")
    return Path(session) / "ecfs" if session else Path(f"/tmp/ecfs-{os.geteuid()}")


def _searched() -> Iterator[Path]:
    """Where daemons may be registered that this process is allowed to talk to."""
    yield _own_directory()
    if os.geteuid() == 0 and not os.environ.get("ECFS_RUNTIME_DIR"):
        yield from sorted(Path("/run/user").glob("*/ecfs"))


def running() -> list[Mounted]:
    """Every daemon that lives and that this user may talk to."""
    return [entry for entry, lives in _entries() if lives]


def leftovers() -> list[Mounted]:
    """Daemons that ended without taking their entry away: their mount points may be stale."""
    return [entry for entry, lives in _entries() if not lives]


def _entries() -> Iterator[tuple[Mounted, bool]]:
    for directory in _searched():
        for path in sorted(directory.glob("*.json")):
            entry = _read(path)
            if entry is not None:
                yield entry, is_locked(path.with_suffix(".lock"))


def _read(path: Path) -> Mounted | None:
    try:
        entry = msgspec.json.decode(path.read_bytes(), type=Mounted)
    except (OSError, msgspec.MsgspecError):
        return None  # removed a moment ago, or not ours
    return msgspec.structs.replace(entry, directory=str(path.parent))


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Registration:
    """The daemon's own entry. Gone when `release` is called, void when the process ends."""

    def __init__(self, entry: Mounted) -> None:
        """Raises PoolLockedError if the pool is registered by a living daemon."""
        directory = runtime_directory()
        self._base = directory / _name(entry.pool_id)
        self.entry = msgspec.structs.replace(entry, directory=str(directory))
        if len(str(self.entry.socket)) > MAX_SOCKET_PATH:
            raise UsageError(f"{directory} is too long a path for a socket: choose a shorter ECFS_RUNTIME_DIR")
        self._lock = _claim(self._base.with_suffix(".lock"), self._other)
        self._write()

    def _other(self) -> str:
        other = _read(self._base.with_suffix(".json"))
        if other is None:
            return "another process has just begun to mount this pool"
        return f"already mounted on {other.mountpoint} by process {other.pid}"

    def set_state(self, state: str) -> None:
        """For others to read; that the directory is full, or was removed when its user logged out, must not keep the
        daemon from storing everything at its end."""
        self.entry = msgspec.structs.replace(self.entry, state=state)
        try:
            self._write()
        except OSError as error:
            _log.warning("%s can't be written: %s", self._base.with_suffix(".json"), error.strerror)

    def _write(self) -> None:
        temporary = self._base.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(self.entry))
        temporary.rename(self._base.with_suffix(".json"))

    def release(self) -> None:
        for suffix in (".sock", ".json", ".lock"):
            with suppress(OSError):
                self._base.with_suffix(suffix).unlink(missing_ok=True)
        os.close(self._lock)


def _claim(path: Path, other: Callable[[], str]) -> int:
    """Lock the file, made if missing. The file may be removed by its last owner while we wait to look at it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise PoolLockedError(other()) from error
        try:
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
