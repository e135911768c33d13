"""Which kernel this is. What runs on one shares its disks, whatever addresses it has."""

from __future__ import annotations

import os
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_id() -> str:
    """Random, new at every boot; the host's name where the kernel does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return os.uname().nodename


def holder_text(argv: list[str]) -> str:
    """Who we are, for the message that others get while we have a drive locked."""
    command = " ".join([os.path.basename(argv[0]), *argv[1:]]) if argv else ""
    return f"process {os.getpid()} on {os.uname().nodename} ({command})"[:200]
