"""Micro-benchmarks: what one step of a read or write costs, without FUSE.

python -m benchmarks.micro
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from benchmarks.workloads import noise
from ecfs.clock import SystemClock
from ecfs.codec import Codec
from ecfs.drive.base import Writer
from ecfs.drive.registry import open_drive
from ecfs.fs.filesystem import add_root
from ecfs.geometry import BLOCK_SIZE, Geometry, stripe_id
from ecfs.journal.record import COMMIT, GENESIS, compose, frame
from ecfs.memory import keep_memory
from ecfs.meta import Database, Inode
from ecfs.shard import DATA_OFFSET, block_crcs, parse_header
from ecfs.stripes.writer import EncodedStripe, encode_stripe

SECONDS = 0.3
PAYLOAD = noise(4 << 20)
GEOMETRY = Geometry(1, 4, 2)
POOL = bytes(16)


def measure(name: str, work: Callable[[], object], amount: int = 0) -> None:
    """Print microseconds per call, and GB/s if a call handles `amount` bytes."""
    work()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        work()
        count += 1
    _show(name, (time.perf_counter() - began) / count, amount)


async def measure_async(name: str, work: Callable[[], Awaitable[object]], amount: int = 0) -> None:
    """As `measure`, within trio."""
    await work()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        await work()
        count += 1
    _show(name, (time.perf_counter() - began) / count, amount)


def _show(name: str, seconds: float, amount: int) -> None:
    rate = f"{amount / seconds / 1e9:8.2f} GB/s" if amount else ""
    print(f"{name:44s} {seconds * 1e6:10.1f} µs {rate}")


def encoded() -> EncodedStripe:
    return encode_stripe(POOL, stripe_id(1, 1), "s", GEOMETRY, PAYLOAD)


def codec_and_shard() -> None:
    codec = Codec(4, 2)
    blocks = {index: noise(BLOCK_SIZE) for index in (0, 2, 3, 5)}
    shard = encoded().headers[0]
    measure("codec: encode 4 MiB", lambda: codec.encode(PAYLOAD), len(PAYLOAD))
    measure("codec: rebuild 2 blocks of 64 KiB", lambda: codec.rebuild(blocks, BLOCK_SIZE, [1, 4]), 2 * BLOCK_SIZE)
    measure("shard: checksums of 1 MiB", lambda: block_crcs(PAYLOAD[: 1 << 20]), 1 << 20)
    measure("shard: parse a header", lambda: parse_header(shard))
    measure("stripe: encode, checksums, headers of 4 MiB", encoded, len(PAYLOAD))


def journal() -> None:
    def record() -> bytes:
        made = compose(
            kind=COMMIT, pool_id=POOL, epoch=1, seq=2, nonce=bytes(16), prev=GENESIS, committed_seq=1,
            patchset=noise(600), outcome=b"{}", schema=bytes(16),
        )  # fmt: skip
        return frame(made)

    measure("journal: compose a record of 600 bytes", record)


def metadata(scratch: Path) -> None:
    db = Database.create(scratch, GEOMETRY)
    add_root(db, SystemClock(), uid=0, gid=0)
    db.freeze(1)
    numbers = iter(range(10_000_000))

    def create() -> None:
        name = b"f%d" % next(numbers)
        with db.atomic():
            inode = Inode(db.names.new_ino(), 0o100644, 0, 0, 1, 0, 0, 1, 1, 1)
            db.names.add_inode(inode)
            db.names.link(1, name, inode.ino)
            db.names.update_inode(1, mtime_ns=inode.ino)

    measure("metadata: create a file", create)
    measure("metadata: look a name up", lambda: db.names.lookup(1, b"f7"))
    measure("metadata: list 1,000 entries with inodes", lambda: db.names.entries_with_inodes(1, 0, 1000))
    db.close()


async def drive(folder: Path) -> None:
    one = open_drive(str(folder), slot=0, clock=SystemClock())
    await one.create({"identity": b"x"})
    await one.fence(Writer(1, bytes(16).hex()))
    await one.prepare([1])
    stripe = encoded()
    key = stripe.fact.key
    await one.put(key, stripe.buffers(0))
    await one.sync()
    await measure_async("drive: a hop (alive)", one.alive)
    await measure_async("drive: read 4 KiB", lambda: one.read(key, [(DATA_OFFSET, 4096)]), 4096)
    await measure_async("drive: read 1 MiB", lambda: one.read(key, [(DATA_OFFSET, 1 << 20)]), 1 << 20)
    await one.close()


def main() -> None:
    keep_memory(arenas=2)
    codec_and_shard()
    journal()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        metadata(Path(folder, "scratch"))
        trio.run(drive, Path(folder, "drive"))


if __name__ == "__main__":
    main()
