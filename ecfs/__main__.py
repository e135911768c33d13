"""``python -m ecfs`` is the command `ecfs`."""

from __future__ import annotations

import sys

from ecfs.cli import main

if __name__ == "__main__":
    sys.exit(main())
