"""The Drive contract: what every drive promises and what callers may rely on.

A drive stores four kinds of things, each under names that are validated (`check_key`, `check_blob_name`):

* **shards**, under keys ``s/EEEEEEEE/CCCCCCCC`` (stripes: epoch and counter, hex) and ``c/NAME`` (checkpoints):
  written once under their final name, never changed. A shard that no commit names does not exist,
  so no temporary name is needed and a torn one is harmless.
* **journal segments**, under keys ``j/NAME``: append only, each owned by one writer for its whole life.
* **blobs**: small named files, atomically replaced, durable on return: ``identity``, ``superblock``, ``rescue.py``.
* **the fence**: the newest (epoch, nonce) that was promised to; older writers are refused (R2).

Rules for every method:

* All methods are plain trio code; none blocks the event loop. Cancelling a call abandons it: it may still
  complete later, which is harmless because names are never reused and offsets never overlap (R20).
* Every changing call made after `fence` carries that writer; it raises DriveFencedError, having changed nothing,
  if the drive has since promised itself to a newer epoch, or to another nonce of the same epoch.
* Errors are those of `ecfs.errors` under DriveError, with slot and key filled in, and nothing else:
  foreign exceptions are translated here. DriveUnreachableError means the drive as a whole can't be trusted
  to have done this operation; ShardMissingError and ShardCorruptError are about the key alone.
* A short read is an error (ShardCorruptError), never a short answer.
* A place that was deleted, unmounted or exchanged under an open drive is DriveUnreachableError at the next
  `sync`, `append`, `alive` or blob write: such writes are no copies (R21). Nothing is ever re-created silently.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

import trio

from ecfs.drive.begun import Begun, Gathering
from ecfs.errors import DriveError, DriveUnreachableError, EcfsError, FormatTooNewError, UsageError
from ecfs.shard import ShardHeader

KEY_PATTERN = re.compile(r"s/[0-9a-f]{8}/[0-9a-f]{8}|[cj]/[0-9a-f][0-9a-f.-]{0,62}")
BLOB_NAMES = frozenset({"identity", "superblock", "rescue.py"})
MAX_BLOB = 16 * 1024 * 1024
"""Bytes; a larger blob is refused when read, so that a hostile file can't fill memory."""

PREFIX_PATTERN = re.compile(r"s/|s/[0-9a-f]{8}/|c/|j/")

Buffer = bytes | bytearray | memoryview

ODD = (UsageError, FormatTooNewError)
"""Errors that a node can name beside DriveErrors."""


def check_key(key: str) -> str:
    """Return the key, or raise UsageError: nothing outside the three key spaces can ever be named."""
    if not KEY_PATTERN.fullmatch(key):
        raise UsageError(f"not a key of a drive: {key!r}")
    return key


def check_blob_name(name: str) -> str:
    """Return the name, or raise UsageError."""
    if name not in BLOB_NAMES:
        raise UsageError(f"not a blob of a drive: {name!r}")
    return name


def check_segment(key: str) -> str:
    """Return the key of a journal segment, or raise UsageError."""
    if not check_key(key).startswith("j/"):
        raise UsageError(f"not a journal segment: {key!r}")
    return key


def check_prefix(prefix: str) -> str:
    """Return what may be listed ("s/", "s/EEEEEEEE/", "c/", "j/"), or raise UsageError."""
    if not PREFIX_PATTERN.fullmatch(prefix):
        raise UsageError(f"not a prefix that can be listed: {prefix!r}")
    return prefix


def check_blobs(blobs: Mapping[str, bytes]) -> dict[str, bytes]:
    """A copy of a new drive's blobs, or raise UsageError: a drive without an identity would count as deleted."""
    for name in blobs:
        check_blob_name(name)
    if "identity" not in blobs:
        raise UsageError("a new drive needs an identity")
    return dict(blobs)


def odd_answer(error: EcfsError, slot: int | None, key: str | None = None) -> DriveUnreachableError:
    """What one of ODD means to whoever asked nothing but what the contract allows."""
    return DriveUnreachableError(f"gives an answer that makes no sense here: {error}", slot=slot, key=key)


@dataclass(frozen=True, order=True)
class Writer:
    """Who may write: the epoch that was opened and the random nonce of that opening (hex, 32 digits)."""

    epoch: int
    nonce: str


@dataclass(frozen=True)
class Entry:
    """One thing in a listing. size in bytes."""

    key: str
    size: int


@dataclass(frozen=True)
class Space:
    """Bytes on the file system under a drive. Drives with the same `device` share them."""

    total: int
    free: int
    device: str


@dataclass(frozen=True)
class Location:
    """Where a drive lies, to tell an unmounted disk from a deleted directory (R10).

    filesystem: stable name of the file system (its UUID where known, else its type and f_fsid).
    mount_point: where that file system is mounted; below: path of the drive beneath it, "." for the root.
    """

    filesystem: str
    mount_point: str
    below: str


@dataclass(frozen=True)
class Capabilities:
    """What differs between kinds of drives, as data. deadline_s: seconds an operation may take by default."""

    deadline_s: float
    lockable: bool
    """True where `attach` excludes every other process by itself."""
    request_bytes: int = 0
    """Where every record of the journal is fetched by itself: what that costs, as bytes that could have been read
    meanwhile. Many small commits then make a checkpoint due, or opening would take ever longer."""
    bytes_per_s: float = math.inf
    """What the way to the drive carries at least, of all that is read at a time; reads get more time for it."""


class Drive(ABC):
    """One place that keeps one shard of every stripe. See the module docstring for the rules."""

    slot: int | None
    """Position in the pool; only used to label errors."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Canonical name: an absolute path, ``host:port`` or ``s3://…``."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities: ...

    @property
    def abandoned(self) -> int:
        """Calls that were given up (cancelled, timed out) and still run. While there are any, the drive stays out:
        they may yet change it (R20)."""
        return 0

    # ---- coming and going -------------------------------------------------------------------------------

    @abstractmethod
    async def attach(self, *, exclusive: bool) -> None:
        """Take hold of the place. Must be called before anything else but `create`, `location` and `is_vacant`.

        exclusive: also lock it against every other process (R19); False for read-only commands.
        Raises DriveUnreachableError (not there), DriveLockedError (another process, named where known).
        Does not judge what lies there: that is `pool/`'s work, with `read_blob("identity")`.
        Attaching again lets go first. An exclusive=False attachment refuses every change with DriveLockedError.
        Raises UsageError for a place that may not be used as asked (a directory on a network file system).
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of locks and descriptors. Never waits for a hung call; idempotent."""

    @abstractmethod
    async def is_vacant(self) -> bool:
        """True if nothing is there or only what a fresh disk has (dotfiles, lost+found): `create` may use it."""

    @abstractmethod
    async def create(self, blobs: Mapping[str, bytes], *, filesystem: str = "") -> None:
        """Turn a vacant place into a drive holding `blobs`, then attach it exclusively. All or nothing.

        Built under a temporary name and renamed where the place does not exist yet, so that a racing
        ``rm -rf`` of the old directory can't eat the new one (R22). Raises DriveWrongError if not vacant.

        filesystem: if given, where the place must lie, as `location` names it. Asked of what is written to, and not
        before it: a disk may be unmounted in any instant, and what is made on the one beneath is gone from sight as
        soon as it is mounted again (R10). Raises DriveWrongError. Without meaning where `location` is None.
        """

    @abstractmethod
    async def location(self) -> Location | None:
        """Where the place lies now (nearest existing ancestor if it is gone); None where that has no meaning."""

    @abstractmethod
    async def alive(self) -> None:
        """Return if the attached place is still what its URL leads to and has its identity and, where it has such, the
        directories that `prepare` made; raise DriveUnreachableError if not. Cheap."""

    @abstractmethod
    async def space(self) -> Space: ...

    def read_latency_p95(self) -> float:
        """Seconds within which 95 % of recent reads were answered; 0.0 where nobody keeps count."""
        return 0.0

    async def strays(self, limit: int = 1000) -> list[str]:
        """Up to `limit` names in the place that are not ecfs's own, where it can have such (R22)."""
        return []

    # ---- who may write ----------------------------------------------------------------------------------

    @abstractmethod
    async def read_fence(self) -> Writer:
        """The newest writer this drive promised itself to; Writer(0, "") on a new drive."""

    @abstractmethod
    async def fence(self, writer: Writer) -> None:
        """Promise this drive to `writer`, durably before returning, and write as that writer from now on.

        What others have put on it by then is durable as well: a process that was killed leaves shards that read well
        and that no later `sync` covers. Counted as they are found, they could be gone after a power cut.

        Raises DriveFencedError if it is promised to a newer epoch, or to another nonce of the same epoch.
        Should the promise later be gone from the drive (emptied, rolled back), changes raise DriveUnreachableError.
        """

    # ---- blobs ------------------------------------------------------------------------------------------

    @abstractmethod
    async def read_blob(self, name: str) -> bytes:
        """The whole blob. Raises ShardMissingError if there is none."""

    @abstractmethod
    async def write_blob(self, name: str, data: bytes) -> None:
        """Replace the blob atomically, durable on return: after a crash it is the old or the new one."""

    # ---- shards -----------------------------------------------------------------------------------------

    @abstractmethod
    async def prepare(self, epochs: Sequence[int]) -> None:
        """Make room for shards of these epochs, besides those prepared since `attach`. Only called while a drive is
        opened or joins, so that a put never creates a directory: ENOENT in a put means that it was deleted (R22)."""

    @abstractmethod
    async def put(self, key: str, buffers: Sequence[Buffer], *, replace: bool = False) -> None:
        """Store a shard; durable at the next `sync`. The caller leaves the buffers alone until this returns.

        replace=False creates exclusively under the final name (ShardExistsError if taken).
        replace=True is for heal only: written under a temporary name, read back and compared, renamed.
        Raises DriveFullError, DriveUnreachableError (also: the epoch's directory is gone), DriveFencedError.
        """

    @abstractmethod
    async def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[Buffer]:
        """The bytes of each (offset, length); length -1 means to the end. Works on shards and segments. Nobody changes
        them, and as a view they keep no more than twice as much in memory.

        Raises ShardMissingError, ShardCorruptError (shorter than asked), DriveUnreachableError.
        """

    async def get(self, key: str, offset: int = 0, length: int = -1) -> bytes:
        """One range of `read`."""
        return bytes((await self.read(key, [(offset, length)]))[0])

    async def read_shards(
        self, wanted: Sequence[tuple[str, Sequence[tuple[int, int]]]]
    ) -> Sequence[Sequence[Buffer] | DriveError]:
        """`read` for several (key, ranges), at most some dozens: of each what it gave, or why not. At once, or as one
        call where the drive can do that; raises what concerns the drive then."""
        found: dict[int, Sequence[Buffer] | DriveError] = {}

        async def read_one(at: int) -> None:
            try:
                found[at] = await self.read(*wanted[at])
            except DriveError as error:
                found[at] = error
            except ODD as error:
                found[at] = odd_answer(error, self.slot, wanted[at][0])

        async with trio.open_nursery() as nursery:
            for at in range(len(wanted)):
                nursery.start_soon(read_one, at)
        return [found[at] for at in range(len(wanted))]

    @abstractmethod
    async def verify(self, key: str) -> ShardHeader:
        """Check every byte of a shard where it lies and return its header; the data does not travel.

        Raises ShardMissingError, ShardCorruptError (also: the shard of another key); FormatTooNewError for a shard
        that a newer ecfs wrote, which is not damaged and must not be repaired.
        """

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove a shard or segment; removing what is not there is fine. Not necessarily durable."""

    @abstractmethod
    def list(self, prefix: str) -> AsyncGenerator[Entry, None]:
        """Everything whose key starts with `prefix` ("s/", "s/EEEEEEEE/", "c/", "j/"), in no order, streaming.

        A generator: who stops early closes it (`contextlib.aclosing`). Raises DriveUnreachableError.
        """

    @abstractmethod
    async def sync(self) -> None:
        """Make every earlier put durable, names included. Comes before the append of the commit that counts on it.

        A failure voids every put since the last good sync: the caller must treat all of them as missing (R21),
        since a second fsync may succeed without having written anything. A put on its way at that moment fails too.
        A cancelled or timed-out sync has failed.
        """

    # ---- journal ----------------------------------------------------------------------------------------

    @abstractmethod
    async def append(self, segment: str, offset: int, record: Buffer) -> None:
        """Write `record` at `offset` of a segment (created at offset 0), durable on return, name included.

        Offsets are the caller's, and must be where the segment ends. The last byte of a record is not zero: a drive may
        keep zeros behind the end, which no other call shows. A segment after a failed or timed-out append is
        never appended to again: DriveUnreachableError (R20). Raises ShardExistsError (offset 0 of a segment that is
        there), DriveFullError, DriveUnreachableError (also: the segment does not end at `offset`), DriveFencedError.
        """

    def begin_put(
        self, key: str, buffers: Sequence[Buffer], gathering: Gathering, *, replace: bool = False
    ) -> Begun | None:
        """`put` for a caller that waits for several drives together. Once the gathering is over, its result can be
        asked for. None, and nothing begun, where only `put` will do. Raises what `put` raises."""
        return None

    def begin_append(self, segment: str, offset: int, record: Buffer, gathering: Gathering) -> Begun | None:
        """The same for `append`."""
        return None
