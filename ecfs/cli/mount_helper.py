"""`mount.fuse.ecfs`, which mount(8) runs for `mount -t fuse.ecfs POOL MOUNTPOINT` and for lines of fstab.

mount(8) looks for it in /sbin only, hence a link there (docs/DAEMON.md). It never makes a pool: a directory without
pool.toml may be one whose disk is not mounted (R10).
"""

from __future__ import annotations

import getopt
import sys

from ecfs import cli

USAGE, FAILED = 1, 32
"""mount(8)'s exit statuses."""
_FLAGS = "fnsvo:t:N:"
"""What mount(8) may add, in any order."""


def main() -> int:
    """Mount. An exit status of mount(8)."""
    try:
        given, places = getopt.gnu_getopt(sys.argv[1:], _FLAGS)
        pool, point = places
    except (getopt.GetoptError, ValueError):
        print("mount.fuse.ecfs: run by mount(8) as: mount.fuse.ecfs POOL MOUNTPOINT [-o OPTIONS]", file=sys.stderr)
        return USAGE
    if any(flag == "-f" for flag, _ in given):
        return 0  # mount --fake
    options = [part for flag, value in given if flag == "-o" for part in ("-o", value)]
    return FAILED if cli.main(["mount", "--no-create", *options, "--", pool, point]) else 0
