"""What several commands do with a running daemon."""

from __future__ import annotations

from ecfs.control.client import NoAnswerError
from ecfs.control.runtime import Mounted, running
from ecfs.errors import NotAPoolError
from ecfs.mount.locate import find_target, mounted_at
from ecfs.mount.patience import wait_for_end

GONE_S = 30.0


def find_daemon(argument: str) -> Mounted:
    """The daemon that MOUNTPOINT, or its pool, names. Raises NotAPoolError."""
    daemon = mounted_at(argument, running())
    if daemon is None:
        try:
            daemon = find_target(argument).mounted
        except NotAPoolError as error:
            raise NotAPoolError(f"{argument} is not mounted by ecfs") from error
    if daemon is None:
        raise NotAPoolError(f"{argument} is not mounted")
    return daemon


def wait_until_gone(daemon: Mounted) -> None:
    """Until the process has ended, so that whoever comes next finds the drives free."""
    if not wait_for_end(daemon.pid, GONE_S):
        raise NoAnswerError(f"process {daemon.pid} has stored everything but does not end; its log: {daemon.log}")
