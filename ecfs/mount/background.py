"""Going to the background: the daemon lives on in a session of its own, the command waits until the mount works.

The fork comes before anything that has threads or an event loop. The daemon tells its parent through a pipe, one JSON
line each: ``say``, ``ready``, or ``error`` with the exit status. The end of the pipe without a word means it died.
"""

from __future__ import annotations

import faulthandler
import logging
import logging.handlers
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from ecfs.errors import EcfsError, UsageError

LOG_BYTES = 4 << 20
"""Of one log file; one older file is kept."""


class DaemonError(EcfsError):
    """What the daemon could not do, in its own words."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class Voice:
    """The daemon's way to speak to the waiting command; silent once it said `ready`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, text: str) -> None:
        self._write({"say": text})

    def ready(self) -> None:
        self._write({"ready": True})
        self.close()

    def fail(self, error: EcfsError) -> None:
        self._write({"error": str(error), "exit_status": error.exit_status})

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _write(self, message: dict[str, object]) -> None:
        if self._descriptor >= 0:
            try:
                os.write(self._descriptor, msgspec.json.encode(message) + b"\n")
            except BrokenPipeError:
                self.close()  # nobody waits any more


def in_background(work: Callable[[Voice], int], say: Callable[[str], None], log: Path) -> None:
    """Run work() in a daemon; return when it says that it is ready. Raises DaemonError if it fails before."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_daemon(work, Voice(writing), log)
    os.close(writing)
    try:
        _wait(reading, say, child, log)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        raise
    finally:
        os.close(reading)


def _wait(reading: int, say: Callable[[str], None], child: int, log: Path) -> None:
    with os.fdopen(os.dup(reading), "rb") as messages:
        for line in messages:
            message = msgspec.json.decode(line, type=dict[str, object])
            if "ready" in message:
                return
            if "error" in message:
                os.waitpid(child, 0)
                raise DaemonError(str(message["error"]), int(str(message["exit_status"])))
            say(str(message["say"]))
    _, status = os.waitpid(child, 0)
    raise DaemonError(f"the daemon ended unexpectedly ({_how(status)}); its log: {log}", 2)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _be_daemon(work: Callable[[Voice], int], voice: Voice, log: Path) -> None:
    """In the child; never returns, and runs nothing of the parent's clean-up."""
    status = 2
    try:
        os.setsid()
        _redirect(log)
        log_to(log)
        status = work(voice)
    except BaseException:
        logging.getLogger(__name__).critical("the daemon ended with an error", exc_info=True)
    finally:
        logging.shutdown()
        os._exit(status)


def _redirect(log: Path) -> None:
    """Standard input from nowhere; what libraries print goes to the log."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(nothing, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(nothing)
    os.close(file)
    faulthandler.enable()


def log_to(log: Path | None) -> None:
    """Log to a file of bounded size, or to standard error."""
    handler: logging.Handler = logging.StreamHandler()
    if log is not None:
        handler = logging.handlers.RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=1)
    handler.setFormatter(_formatter(to_file=log is not None))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def _formatter(*, to_file: bool) -> logging.Formatter:
    """ECFS_LOG=json: an object per line. To journald, which adds the time: the priority in front (sd-daemon(3))."""
    if os.environ.get("ECFS_LOG") == "json":
        return _JsonFormatter()
    if not to_file and _is_journal():
        return _JournalFormatter("%(name)s: %(message)s")
    return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def _is_journal() -> bool:
    """Does standard error, which may be closed, lead to journald?"""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "from": record.name,
            "text": record.getMessage(),
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said).decode()


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3}.get(record.levelname, 2)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def log_file(name: str) -> Path:
    """Where the log of a daemon goes; its directory is made. Raises UsageError."""
    path = _log_directory() / f"{name}.log"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent} can't be made: {error.strerror} (ECFS_LOG_DIR names another place)") from error
    return path


def _log_directory() -> Path:
    chosen = os.environ.get("ECFS_LOG_DIR")
    if chosen:
        return Path(chosen).absolute()
    if os.geteuid() == 0:
        return Path("/var/log/ecfs")
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "ecfs"
