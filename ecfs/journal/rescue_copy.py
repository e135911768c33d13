"""The copy of the rescue program on every drive: there on the day when ecfs itself can't be installed (R25)."""

from __future__ import annotations

import functools
from contextlib import suppress
from importlib import resources

from ecfs.drive.base import Drive
from ecfs.errors import DriveFullError, ShardCorruptError, ShardMissingError

BLOB = "rescue.py"


@functools.cache
def rescue_program() -> bytes:
    """The program of this version of ecfs."""
    return resources.files("ecfs").joinpath(BLOB).read_bytes()


async def keep_rescue_copy(drive: Drive) -> None:
    """Write the program where it is missing, damaged or of another version. Raises DriveError.

    A full drive goes without: it can still be used in every other way.
    """
    with suppress(ShardMissingError, ShardCorruptError):
        if await drive.read_blob(BLOB) == rescue_program():
            return
    with suppress(DriveFullError):
        await drive.write_blob(BLOB, rescue_program())
