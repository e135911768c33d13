"""Who may write: the fence's rules (R2), the same for every drive, and its record on disk.

A fence file is a sequence of 64-byte records, appended, never changed (integers little-endian)::

    offset  size  field
         0     8  magic "ECFENCE1"
         8     8  epoch
        16    16  nonce
        32     4  crc32 of bytes 0 … 31
        36    28  zeros

The promise that holds is the record with the greatest epoch and, of that epoch, the first one: of two writers that
append at once, exactly one wins and both can see which. A torn or rotten record is skipped.
"""

from __future__ import annotations

import re
import struct
import zlib

from ecfs.drive.base import Writer
from ecfs.errors import DriveFencedError, DriveUnreachableError, UsageError

NOBODY = Writer(0, "")
RECORD_LENGTH = 64

_MAGIC = b"ECFENCE1"
_PROMISE = struct.Struct("<8sQ16s")
_NONCE = re.compile(r"[0-9a-f]{32}")


def check_writer(writer: Writer) -> Writer:
    """Return the writer, or raise UsageError if it can't be stored."""
    if not (0 < writer.epoch < 1 << 31 and _NONCE.fullmatch(writer.nonce)):
        raise UsageError(f"not a writer: {writer}")
    return writer


def judge(promised: Writer, writer: Writer) -> None:
    """Raise DriveFencedError if a drive promised to `promised` must refuse `writer`."""
    if promised.epoch > writer.epoch:
        raise DriveFencedError(f"epoch {writer.epoch} is over: epoch {promised.epoch} owns this drive now")
    if promised.epoch == writer.epoch and promised.nonce != writer.nonce:
        raise DriveFencedError(f"another writer opened epoch {writer.epoch} on this drive")


def judge_write(promised: Writer, writer: Writer | None) -> None:
    """Raise unless a drive promised to `promised` may take a change from `writer` (None: `fence` was never called)."""
    if writer is None:
        return
    judge(promised, writer)
    if promised != writer:
        # Emptied, or exchanged for an older copy of itself: what it would take now, an older writer could take too.
        raise DriveUnreachableError(f"no longer holds its promise to epoch {writer.epoch}: fence it again")


def encode(writer: Writer) -> bytes:
    promise = _PROMISE.pack(_MAGIC, writer.epoch, bytes.fromhex(writer.nonce))
    return (promise + struct.pack("<I", zlib.crc32(promise))).ljust(RECORD_LENGTH, b"\0")


def decode(record: bytes) -> Writer | None:
    """The writer of one record, None if it is torn or rotten."""
    if len(record) != RECORD_LENGTH:
        return None
    magic, epoch, nonce = _PROMISE.unpack_from(record)
    writer = Writer(epoch, nonce.hex())
    return writer if magic == _MAGIC and record == encode(writer) else None


def promised(data: bytes) -> Writer:
    """The promise that holds, from a whole fence file."""
    winner = NOBODY
    for start in range(0, len(data), RECORD_LENGTH):
        writer = decode(data[start : start + RECORD_LENGTH])
        if writer is not None and writer.epoch > winner.epoch:
            winner = writer
    return winner
