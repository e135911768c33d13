"""Making a new pool on vacant places. The first checkpoint is an empty tree; a crash in between leaves no pool.

Every drive is *joining* until superblock and checkpoint are on all of them; saying *member* is the last write (R7).
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from ecfs.clock import Clock
from ecfs.drive.base import Drive, Location, Writer
from ecfs.errors import DriveError, DriveWrongError, RefusedError
from ecfs.geometry import Geometry, stripe_id
from ecfs.journal.record import GENESIS
from ecfs.journal.rescue_copy import BLOB as RESCUE
from ecfs.journal.rescue_copy import rescue_program
from ecfs.journal.superblock import Checkpoint, DriveEntry, Superblock, encode_superblock
from ecfs.meta import ROOT_INO, Database, DriveRow, Inode, Outcome
from ecfs.pool.identity import JOINING, MEMBER, Identity, encode_identity
from ecfs.stripes.writer import EncodedStripe, encode_stripe, put_shard

FIRST_EPOCH = 1
IMAGE_STRIPE = 4 << 20


async def create_pool(
    drives: Sequence[Drive], geometry: Geometry, *, clock: Clock, scratch: Path, owner: tuple[int, int] = (0, 0)
) -> str:
    """Turn n vacant places into a pool; returns the pool id (hex). owner: (uid, gid) of the root directory.

    Raises RefusedError naming the first place that is not vacant, before anything was changed.
    The drives are closed when this returns.
    """
    if len(drives) != geometry.n:
        raise RefusedError(f"{geometry.k} + {geometry.m} needs {geometry.n} drives, not {len(drives)}")
    for drive in drives:
        await _demand_vacant(drive)
    try:
        return await _create(drives, geometry, clock, scratch, owner)
    finally:
        for drive in drives:
            await drive.close()


async def _demand_vacant(drive: Drive) -> None:
    try:
        vacant = await drive.is_vacant()
    except DriveError as error:
        raise RefusedError(f"{drive.url}: {error.args[0]}; nothing was changed") from error
    if not vacant:
        raise RefusedError(f"{drive.url} is not empty: a new pool only takes empty places, nothing was changed")


async def _create(
    drives: Sequence[Drive], geometry: Geometry, clock: Clock, scratch: Path, owner: tuple[int, int]
) -> str:
    pool_id, writer = clock.token(16), Writer(FIRST_EPOCH, clock.token(16).hex())
    ids = [clock.token(16).hex() for _ in drives]
    identities = [
        Identity(pool_id.hex(), ids[slot], slot, JOINING, geometry.k, geometry.m, 0, "") for slot in range(geometry.n)
    ]
    for slot, drive in enumerate(drives):
        drive.slot = slot
        try:
            await drive.create({"identity": encode_identity(identities[slot]), RESCUE: rescue_program()})
        except DriveWrongError as error:
            raise RefusedError(f"{drive.url}: {error.args[0]}") from error
        await drive.fence(writer)
    rows = [await _row(slot, drive, ids[slot], clock) for slot, drive in enumerate(drives)]
    image = _first_image(geometry, writer, rows, clock, scratch, owner)
    checkpoint = await _store(image, drives, geometry, pool_id)
    entries = [DriveEntry(slot, drive.url, ids[slot]) for slot, drive in enumerate(drives)]
    for slot, drive in enumerate(drives):
        superblock = Superblock(
            pool_id.hex(),
            ids[slot],
            slot,
            geometry.k,
            geometry.m,
            "isa_l_rs_cauchy",
            (FIRST_EPOCH, 0),
            entries,
            [checkpoint],
        )
        await drive.write_blob("superblock", encode_superblock(superblock))
    for slot, drive in enumerate(drives):
        identity = Identity(pool_id.hex(), ids[slot], slot, MEMBER, geometry.k, geometry.m, FIRST_EPOCH, writer.nonce)
        await drive.write_blob("identity", encode_identity(identity))
    return pool_id.hex()


async def _row(slot: int, drive: Drive, drive_id: str, clock: Clock) -> DriveRow:
    location = await drive.location()
    return DriveRow(slot, drive_id, drive.url, "online", location=location_json(location), since_ns=clock.wall_ns())


def location_json(location: Location | None) -> dict[str, str]:
    """How a drive's place is kept in the drive table (R10)."""
    if location is None:
        return {}
    return {"filesystem": location.filesystem, "mount_point": location.mount_point, "below": location.below}


def _first_image(
    geometry: Geometry, writer: Writer, rows: list[DriveRow], clock: Clock, scratch: Path, owner: tuple[int, int]
) -> bytes:
    """The database of an empty tree, as bytes."""
    db = Database.create(scratch, geometry)
    path = scratch / f"first-{clock.token(8).hex()}"
    try:
        now = clock.wall_ns()
        db.names.add_inode(Inode(ROOT_INO, stat.S_IFDIR | 0o755, *owner, 2, 0, 0, now, now, now, ROOT_INO))
        db.apply_outcome(
            Outcome(
                drives=rows,
                epoch=(writer.epoch, writer.nonce, 0),
                geometries=[(geometry.id, geometry.k, geometry.m, "isa_l_rs_cauchy")],
            ),
            0,
        )
        db.freeze(0)
        snapshot = db.snapshot()
        snapshot.copy_to(path)
        snapshot.release()
        return path.read_bytes()
    finally:
        db.close()
        path.unlink(missing_ok=True)


async def _store(image: bytes, drives: Sequence[Drive], geometry: Geometry, pool_id: bytes) -> Checkpoint:
    stripes: list[tuple[int, int, str, list[int]]] = []
    for counter, start in enumerate(range(0, len(image), IMAGE_STRIPE)):
        encoded = encode_stripe(
            pool_id, stripe_id(FIRST_EPOCH, counter), "c", geometry, image[start : start + IMAGE_STRIPE]
        )
        await _put_all(drives, encoded)
        fact = encoded.fact
        stripes.append((fact.id, fact.length, fact.content_hash.hex(), list(range(geometry.n))))
    for drive in drives:
        await drive.sync()
    return Checkpoint(FIRST_EPOCH, 0, GENESIS.hex(), len(image), stripes)


async def _put_all(drives: Sequence[Drive], encoded: EncodedStripe) -> None:
    for slot, drive in enumerate(drives):
        await put_shard(drive, encoded, slot)
