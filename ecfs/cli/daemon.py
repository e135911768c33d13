"""What several commands do with a running daemon."""

from __future__ import annotations

import os
import select

from ecfs.control.client import NoAnswerError
from ecfs.control.runtime import Mounted, running
from ecfs.errors import NotAPoolError
from ecfs.mount.locate import find_target, mounted_at

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
    try:
        descriptor = os.pidfd_open(daemon.pid)
    except (ProcessLookupError, PermissionError):
        return
    try:
        if not select.select([descriptor], [], [], GONE_S)[0]:
            raise NoAnswerError(f"process {daemon.pid} has stored everything but does not end; its log: {daemon.log}")
    finally:
        os.close(descriptor)
