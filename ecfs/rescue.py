#!/usr/bin/env python3
"""Restores the files of an ecfs pool from its drives, with nothing but Python (3.9 or later).

    python3 rescue.py [--accept-loss] DRIVE... OUTDIR

DRIVE is a drive's directory; give all you have, in any order, at least as many as the pool has data shards (4 of 6).
A pool that was killed is brought up to its last commit. OUTDIR must not exist or be empty. The drives are only read.
Everything is verified; a file that can't be decoded is left out and named, never restored with wrong bytes.

Exit status: 0 = everything restored; 1 = all contents restored, but something could not be made in OUTDIR (named);
2 = bad usage, or refused to start (one line says why); 3 = some files, or the whole pool, can't be decoded.

--accept-loss: where the newest commits are proven but unreadable, go back to the newest state that is complete.

This file stands alone: a copy lies on every drive, for the day when ecfs can't be installed any more. It is written
after docs/FORMAT.md and shares no code with ecfs, so that a mistake in one of the two shows in the other.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import sqlite3
import stat
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

MISSING_DRIVES, REFUSED, INCOMPLETE = 3, 2, 1
KEPT_BYTES = 64 << 20
"""Decoded stripes that are kept, because small files share them."""
MAX_SETS = 100
"""Sets of shards that are tried for one stripe: all of 4 + 2, and of others those without any one shard."""


class Refused(Exception):
    """The whole rescue can't go on; the text is one line for the user."""

    def __init__(self, text: str, status: int = REFUSED) -> None:
        super().__init__(text)
        self.status = status


class Damaged(Exception):
    """One file can't be decoded."""


def blake2b(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


# ==== the erasure code: FORMAT.md, "The code" =========================================================================


def _powers() -> tuple[list[int], list[int]]:
    """exp and log of GF(2^8) with the polynomial 0x11d and the generator 2."""
    exp, log, value = [0] * 510, [0] * 256, 1
    for power in range(255):
        exp[power] = exp[power + 255] = value
        log[value] = power
        value = value << 1 ^ (0x11D if value & 0x80 else 0)
    return exp, log


EXP, LOG = _powers()


def multiply(a: int, b: int) -> int:
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def inverse(a: int) -> int:
    return EXP[255 - LOG[a]]


@functools.lru_cache(maxsize=256)
def products(factor: int) -> bytes:
    """What `bytes.translate` needs to multiply each byte by `factor`."""
    return bytes(multiply(factor, value) for value in range(256))


def generator_row(k: int, index: int) -> list[int]:
    """Factors that make shard `index` out of the k data shards."""
    if index < k:
        return [int(column == index) for column in range(k)]
    return [inverse(index ^ column) for column in range(k)]


@functools.lru_cache(maxsize=256)
def decoding_matrix(k: int, sources: tuple[int, ...]) -> list[list[int]]:
    """Row j holds the factors that make data shard j out of the k source shards (Gauss-Jordan)."""
    rows = [generator_row(k, index) + [int(i == at) for i in range(k)] for at, index in enumerate(sources)]
    for column in range(k):
        pivot = next(at for at in range(column, k) if rows[at][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = products(inverse(rows[column][column]))
        rows[column] = [scale[value] for value in rows[column]]
        for at in range(k):
            if at != column and rows[at][column]:
                scale = products(rows[at][column])
                rows[at] = [value ^ scale[own] for value, own in zip(rows[at], rows[column])]
    return [row[k:] for row in rows]


def rebuild(k: int, runs: Mapping[int, bytes], wanted: Iterable[int]) -> dict[int, bytes]:
    """The `wanted` data shards' run of bytes, out of the same run of exactly k verified shards."""
    sources = tuple(sorted(runs))
    matrix = decoding_matrix(k, sources)
    length = len(runs[sources[0]])
    rebuilt = {}
    for index in wanted:
        total = 0
        for source, factor in zip(sources, matrix[index]):
            if factor:  # one big integer is the fastest exclusive or that the standard library has
                total ^= int.from_bytes(runs[source].translate(products(factor)), "little")
        rebuilt[index] = total.to_bytes(length, "little")
    return rebuilt


# ==== drives ==========================================================================================================

SEALED = re.compile(rb"ecfs ([a-z]+) ([0-9]{1,4}) ([0-9a-f]{64})")
MAX_BLOB = 16 << 20
MAX_DRIVES = 32
MAX_PAYLOAD = 1 << 28
"""Bytes of a stripe, far above any: a bound against lengths that would fill the memory."""
BLOCK = 65536
DATA_OFFSET = 4096


@dataclass(eq=False)
class Drive:
    """A directory that says it is a drive. state, epoch, nonce: of its identity; nonce is "" if that is damaged."""

    path: str
    root: int
    pool_id: str = ""
    drive_id: str = ""
    slot: int = -1
    k: int = 0
    m: int = 0
    state: str = "member"
    epoch: int = 0
    nonce: str = ""
    superblock: dict[str, Any] | None = None

    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes | None:
        """A range of a file, shorter where the file ends; None if it can't be opened. What the disk can't read
        comes as zeros: every byte is verified by who asked."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(name, flags, dir_fd=self.root)
        except OSError:
            return None
        try:
            found = os.fstat(file)
            end = found.st_size if length < 0 else min(found.st_size, offset + length)
            return _read_range(file, offset, end) if stat.S_ISREG(found.st_mode) else None
        except OSError:
            return None
        finally:
            os.close(file)

    def names(self, directory: str) -> list[str]:
        """What lies in a directory of the drive."""
        try:
            held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root)
        except OSError:
            return []
        try:
            return sorted(os.listdir(held))
        except OSError:
            return []
        finally:
            os.close(held)


def _read_range(file: int, offset: int, end: int) -> bytes:
    try:
        return _read_exactly(file, offset, end)
    except OSError:
        edges = [offset, *range(offset - offset % BLOCK + DATA_OFFSET, end, BLOCK), end]
        edges = sorted({edge for edge in edges if offset <= edge <= end})
        return b"".join(_read_or_zeros(file, *piece) for piece in zip(edges, edges[1:]))


def _read_exactly(file: int, offset: int, end: int) -> bytes:
    pieces = []
    while offset < end:
        piece = os.pread(file, end - offset, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def _read_or_zeros(file: int, offset: int, end: int) -> bytes:
    try:
        return _read_exactly(file, offset, end)
    except OSError:
        return bytes(end - offset)


def unseal(kind: str, data: bytes | None) -> dict[str, Any] | None:
    """The object in a sealed text; None if it is missing or damaged."""
    first, _, rest = (data or b"").partition(b"\n")
    match = SEALED.fullmatch(first)
    if match is None or match[1] != kind.encode() or rest[-1:] != b"\n":
        return None
    number = int(match[2])
    head = match[1] if number == 1 else b"%s %d" % (match[1], number)  # format 1 does not cover its number
    if blake2b(head + b"\n" + rest[:-1]).hex().encode() != match[3]:
        return None
    if number != 1:
        raise Refused(f"a drive's {kind} has format {number}: use the rescue.py that lies on that drive")
    try:
        value = json.loads(rest.decode())
    except (ValueError, RecursionError):  # a hash that is right proves no author: anybody can compute it
        return None
    return value if isinstance(value, dict) else None


def is_number(value: Any, least: int = 0, most: int = (1 << 63) - 1) -> bool:
    return type(value) is int and least <= value <= most


def is_hex(value: Any, digits: int) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def says_who(value: Mapping[str, Any]) -> bool:
    """Whether it names a drive of a pool that can be."""
    k: Any = value.get("k")
    m: Any = value.get("m")
    return (
        is_hex(value.get("pool_id"), 32)
        and isinstance(value.get("drive_id"), str)
        and is_number(value.get("slot"), -MAX_DRIVES, MAX_DRIVES)
        and is_number(k, 1, MAX_DRIVES)
        and is_number(m, 1, MAX_DRIVES)
        and m < k <= MAX_DRIVES - m
    )


def is_identity(value: Mapping[str, Any]) -> bool:
    texts = isinstance(value.get("state"), str) and isinstance(value.get("nonce"), str)
    return says_who(value) and texts and is_number(value.get("epoch"))


def is_superblock(value: Mapping[str, Any]) -> bool:
    written, checkpoints = value.get("written"), value.get("checkpoints")
    if not says_who(value) or not isinstance(written, list) or not isinstance(checkpoints, list):
        return False
    return len(written) == 2 and all(map(is_number, written)) and all(map(_is_checkpoint, checkpoints))


def _is_checkpoint(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("stripes"), list):
        return False
    numbers = all(is_number(value.get(name)) for name in ("epoch", "seq", "length"))
    return numbers and is_hex(value.get("record"), 64) and all(map(_is_stripe, value["stripes"]))


def _is_stripe(row: Any) -> bool:
    """Whether a row is a stripe of a checkpoint: id, bytes of its payload, hash, slots."""
    if not isinstance(row, list) or len(row) != 4:
        return False
    return is_number(row[0], 1 << 32) and is_number(row[1], 1, MAX_PAYLOAD) and is_hex(row[2], 64)


MISTAKEN = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)
"""What is wrong with an argument, or with who gave it. Anything else is the disk's fault, and a drive less."""


def open_place(path: str) -> Drive | None:
    """The drive in a directory, locked against being mounted meanwhile. None if its disk fails. Raises Refused."""
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in MISTAKEN:
            return None
        raise Refused(f"{path}: {error.strerror}; give the directories of the drives, then OUTDIR") from error
    with suppress(OSError):  # a file system without locks; what changes while it is read fails its hash
        try:
            fcntl.flock(root, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(f"{path} is in use: unmount the pool first (ecfs umount, or kill its daemon)") from error
    return Drive(path, root)


def identify(drive: Drive) -> bool:
    """Fill in who the drive is, from its identity or else from its superblock; False if neither can be read."""
    identity = unseal("identity", drive.read("identity", length=MAX_BLOB))
    if identity is not None and not is_identity(identity):
        identity = None
    superblock = unseal("superblock", drive.read("superblock", length=MAX_BLOB))
    if superblock is not None and not is_superblock(superblock):
        superblock = None
    drive.superblock = superblock
    source = identity or superblock
    if source is None:
        return False
    for name in ("pool_id", "drive_id", "slot", "k", "m"):
        setattr(drive, name, source[name])
    if superblock is not None:
        if superblock["pool_id"] != drive.pool_id:
            drive.superblock = None
        drive.epoch = superblock["written"][0]
    if identity is not None:
        drive.state, drive.epoch, drive.nonce = identity["state"], identity["epoch"], identity["nonce"]
    return True


@dataclass
class Pool:
    """The drives of one pool, for each slot the newest first. notes: what is odd, one line each."""

    pool_id: bytes
    k: int
    m: int
    slots: dict[int, list[Drive]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def drives(self) -> list[Drive]:
        return [drive for slot in sorted(self.slots) for drive in self.slots[slot]]

    def absent(self) -> str:
        slots = [str(slot) for slot in range(self.k + self.m) if slot not in self.slots]
        return f"give drive {' or '.join(slots)}, too" if slots else "all drives are given: their copies are damaged"


def find_pool(places: Sequence[str], accept_loss: bool) -> Pool:
    """The pool that most of these directories belong to. Raises Refused if fewer than k of its drives are there."""
    notes: list[str] = []
    drives: list[Drive] = []
    for place in dict.fromkeys(places):
        drive = open_place(place)
        if drive is None:
            notes.append(f"{place} is left out: its disk can't be read")
        elif identify(drive):
            drives.append(drive)
        else:
            notes.append(f"{drive.path} is left out: it says nowhere which drive it is")
    pools = Counter(drive.pool_id for drive in drives).most_common(2)
    if not pools:
        raise Refused(f"none of these {len(places)} directories is a drive of an ecfs pool", MISSING_DRIVES)
    if len(pools) > 1 and pools[0][1] == pools[1][1]:
        raise Refused("these are drives of different pools: give those of one")
    return _one_pool(pools[0][0], drives, notes, accept_loss)


def _one_pool(pool_id: str, drives: list[Drive], notes: list[str], accept_loss: bool) -> Pool:
    shape = Counter((drive.k, drive.m) for drive in drives if drive.pool_id == pool_id).most_common(1)[0][0]
    pool = Pool(bytes.fromhex(pool_id), *shape, notes=notes)
    for drive in sorted(drives, key=lambda drive: -drive.epoch):
        if drive.pool_id != pool_id:
            notes.append(f"{drive.path} is left out: it belongs to another pool ({drive.pool_id[:8]})")
        elif not 0 <= drive.slot < pool.k + pool.m:
            notes.append(f"{drive.path} is left out: it says it is drive {drive.slot} of {pool.k + pool.m}")
        else:
            pool.slots.setdefault(drive.slot, []).append(drive)
    for slot, copies in pool.slots.items():
        if len(copies) > 1:
            paths = ", ".join(drive.path for drive in copies)
            notes.append(f"several are drive {slot}, the newest comes first: {paths}")
    # A drive that was still joining may lack the newest commits: it can give shards, but not vouch for them (R7).
    members = {drive.slot for drive in pool.drives if drive.state == "member" or accept_loss}
    if len(members) < pool.k:
        raise Refused(
            f"only {len(members)} of {pool.k + pool.m} drives are here, {pool.k} are needed: {pool.absent()}",
            MISSING_DRIVES,
        )
    return pool


# ==== stripes: FORMAT.md, "Shard" =====================================================================================

HEADER = struct.Struct("<8sHHI16scBBBIQQII32s16sII")
HEADER_HASHED = 3984
HEADER_LENGTH = 4016
MAX_FRAGMENT = (HEADER_HASHED - HEADER.size) // 4 * BLOCK
"""Bytes of shard data whose checksums a header has room for."""


class Fact(NamedTuple):
    """What is known of a stripe. space: "s" or "c"; length: payload bytes; hash: its content hash."""

    space: str
    id: int
    k: int
    m: int
    length: int
    hash: bytes

    @property
    def fragment(self) -> int:
        """Bytes of each shard's data."""
        return -(-self.length // self.k)

    def slot_of(self, index: int) -> int:
        """Which drive has this shard: it rotates with the stripe's counter."""
        return (index + (self.id & 0xFFFFFFFF)) % (self.k + self.m)

    @property
    def key(self) -> str:
        epoch, counter = self.id >> 32, self.id & 0xFFFFFFFF
        return f"{self.space}/{epoch:08x}{'/' if self.space == 's' else '.'}{counter:08x}"


@dataclass
class Shard:
    """One shard. crcs: of its blocks, by its verified header; bad: numbers of the blocks that don't fit theirs."""

    data: bytes
    crcs: tuple[int, ...]
    bad: set[int]


@dataclass
class Payload:
    """A decoded stripe; what lies in `lost` ranges (start, end) is not known."""

    data: bytes
    lost: list[tuple[int, int]]


class Stripes:
    """Decodes stripes of a pool and keeps the last few."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept: OrderedDict[int, Payload] = OrderedDict()
        self.flawed: dict[str, int] = {}
        """Shards per drive that were missing or damaged."""
        self.rebuilt = 0

    def get(self, fact: Fact) -> Payload:
        payload = self._kept.pop(fact.id, None)
        if payload is None:
            payload = self.decode(fact)
        self._kept[fact.id] = payload
        while len(self._kept) > 1 and sum(len(kept.data) for kept in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return payload

    def decode(self, fact: Fact) -> Payload:
        """Data shards as they are; where one is missing or damaged, it is rebuilt from any k good ones."""
        shards = {index: self._shard(fact, index) for index in range(fact.k)}
        if all(shard is not None and not shard.bad for shard in shards.values()):
            crcs = [shard.crcs for shard in shards.values() if shard is not None]
            data = b"".join(shard.data for shard in shards.values() if shard is not None)
            payload = self._proven(fact, data, crcs)
            if not payload.lost:
                return payload
        shards.update({index: self._shard(fact, index) for index in range(fact.k, fact.k + fact.m)})
        self.rebuilt += 1
        return self._without_false(fact, {index: shard for index, shard in shards.items() if shard is not None})

    def _without_false(self, fact: Fact, shards: dict[int, Shard]) -> Payload:
        """A shard may be right in itself and not be what was stored (a rebuild from bad ones, a bit that flipped before
        its checksum was made). Then the content hash fails for any set that has it: sets without it are tried."""
        whole = self._repaired(fact, shards)
        if whole.lost != [(0, fact.length)]:
            return whole
        fewer = (itertools.combinations(sorted(shards), away) for away in range(1, len(shards) - fact.k + 1))
        for left_out in itertools.islice(itertools.chain.from_iterable(fewer), MAX_SETS):
            payload = self._repaired(fact, {index: shards[index] for index in shards if index not in left_out})
            if not payload.lost:
                for index in left_out:
                    path = self._pool.slots[fact.slot_of(index)][0].path
                    self.flawed[path] = self.flawed.get(path, 0) + 1
                return payload
        return whole

    def _repaired(self, fact: Fact, shards: dict[int, Shard]) -> Payload:
        """Row by row of blocks, since bad sectors in different places leave k good blocks in every row."""
        if not shards:
            return Payload(b"", [(0, fact.length)])  # nothing says that the stripe is not larger than the memory
        data = [bytearray(fact.fragment) for _ in range(fact.k)]
        lost: list[tuple[int, int]] = []

        def good(row: int) -> tuple[int, ...]:
            return tuple(sorted(index for index, shard in shards.items() if row not in shard.bad))

        for indexes, rows in itertools.groupby(range(-(-fact.fragment // BLOCK)), good):
            run = list(rows)
            start, end = run[0] * BLOCK, min((run[-1] + 1) * BLOCK, fact.fragment)
            runs = {index: shards[index].data[start:end] for index in indexes}
            wanted = [index for index in range(fact.k) if index not in runs]
            if len(runs) >= fact.k:
                runs.update(rebuild(fact.k, {index: runs[index] for index in indexes[: fact.k]}, wanted))
            else:
                lost += [(index * fact.fragment + start, index * fact.fragment + end) for index in wanted]
            for index in range(fact.k):
                data[index][start:end] = runs.get(index, bytes(end - start))
        if lost:
            return Payload(b"".join(data)[: fact.length], lost)
        return self._proven(fact, b"".join(data), [block_crcs(each) for each in data])

    def _proven(self, fact: Fact, data: bytes, crcs: Iterable[Sequence[int]]) -> Payload:
        """The payload, if the content hash holds over all data shards; else all of it counts as lost."""
        digest = hashlib.blake2b(b"ecfs stripe 1" + struct.pack("<QI", fact.length, fact.k), digest_size=32)
        for each in crcs:
            digest.update(struct.pack(f"<{len(each)}I", *each))
        if digest.digest() != fact.hash:
            return Payload(data[: fact.length], [(0, fact.length)])
        return Payload(data[: fact.length], [])

    def _shard(self, fact: Fact, index: int) -> Shard | None:
        """The shard as far as the copies of its drive verify; None if none does."""
        merged: Shard | None = None
        for drive in self._pool.slots.get(fact.slot_of(index), ()):
            shard = read_shard(drive, self._pool.pool_id, fact, index)
            if shard is None or shard.bad:
                self.flawed[drive.path] = self.flawed.get(drive.path, 0) + 1
            if shard is not None:
                merged = shard if merged is None else _merged(merged, shard)
            if merged is not None and not merged.bad:
                break
        return merged


def read_shard(drive: Drive, pool_id: bytes, fact: Fact, index: int) -> Shard | None:
    """A shard with a valid header of this very stripe; None if there is none on the drive."""
    if fact.fragment > MAX_FRAGMENT:
        return None
    content = drive.read(fact.key, length=DATA_OFFSET + fact.fragment)
    if content is None or len(content) < HEADER_LENGTH:
        return None
    crcs = header_crcs(content[:HEADER_LENGTH], pool_id, fact, index)
    if crcs is None:
        return None
    data = content[DATA_OFFSET:]
    bad = set(range(len(crcs)))
    bad -= {row for row, (crc, own) in enumerate(zip(block_crcs(data), crcs)) if crc == own}
    if len(data) < fact.fragment:
        bad.update(range(len(data) // BLOCK, len(crcs)))
        data = data.ljust(fact.fragment, b"\0")
    return Shard(data, crcs, bad)


def header_crcs(header: bytes, pool_id: bytes, fact: Fact, index: int) -> tuple[int, ...] | None:
    """The block checksums in a shard's header; None unless it is that of this shard of this stripe."""
    if blake2b(header[:HEADER_HASHED]) != header[HEADER_HASHED:]:
        return None
    (magic, version, flags, length, pool, space, own, k, m, _, stripe, payload, fragment, block, content, code, _,
     blocks) = HEADER.unpack_from(header)  # fmt: skip
    if (magic, version, flags, length, block) != (b"ECFSHARD", 1, 0, HEADER_LENGTH, BLOCK):
        return None
    if code.rstrip(b"\0") != b"isa_l_rs_cauchy":
        return None
    if (pool, space.decode("latin-1"), own, k, m) != (pool_id, fact.space, index, fact.k, fact.m):
        return None
    if (stripe, payload, fragment, content) != (fact.id, fact.length, fact.fragment, fact.hash):
        return None
    if blocks != -(-fragment // BLOCK) or HEADER.size + 4 * blocks > HEADER_HASHED:
        return None
    return struct.unpack_from(f"<{blocks}I", header, HEADER.size)


def block_crcs(data: bytes | bytearray) -> tuple[int, ...]:
    view = memoryview(data)
    return tuple(zlib.crc32(view[start : start + BLOCK]) for start in range(0, len(view), BLOCK))


def _merged(shard: Shard, other: Shard) -> Shard:
    """What two copies of one shard have together."""
    data = bytearray(shard.data)
    for row in shard.bad - other.bad:
        data[row * BLOCK : (row + 1) * BLOCK] = other.data[row * BLOCK : (row + 1) * BLOCK]
    return Shard(bytes(data), shard.crcs, shard.bad & other.bad)


# ==== journal: FORMAT.md, "Journal record" ============================================================================

PART = struct.Struct("<8sHHI16sQQ16s32s32sQIIIIQQ16s")
PART_LENGTH = 256
PART_HASHED = 224
MAX_PART = 1 << 20
MAX_RECORD = 256 << 20
MAX_SEGMENT = (16 << 20) + MAX_RECORD + MAX_RECORD // MAX_PART * PART_LENGTH
"""Bytes of a segment that got a record of the greatest length when it was nearly full; others are far shorter."""
MAGIC = b"ECFSRECD"
SEGMENT = re.compile(r"([0-9a-f]{8})\.[0-9a-f]{6,}")


class Part(NamedTuple):
    """A verified header of one part of a record. common: its bytes that all parts of the record share."""

    epoch: int
    seq: int
    prev: bytes
    hash: bytes
    number: int
    parts: int
    length: int
    crc: int
    patchset: int
    outcome: int
    schema: bytes
    pool_id: bytes
    common: bytes
    nonce: str


@dataclass
class Record:
    """A valid record's place in the chain, and every place on the drives where it lies."""

    part: Part
    length: int
    places: list[tuple[Drive, str, int]] = field(default_factory=list)

    @property
    def position(self) -> tuple[int, int]:
        return (self.part.epoch, self.part.seq)


def part_at(data: bytes, offset: int) -> Part | None:
    header = data[offset : offset + PART_LENGTH]
    if len(header) < PART_LENGTH or header[:8] != MAGIC or blake2b(header[:PART_HASHED]) != header[PART_HASHED:]:
        return None
    (_, version, kind, header_length, pool_id, epoch, seq, _, prev, hash_, _, number, parts, length, crc,
     patchset, outcome, schema) = PART.unpack_from(header)  # fmt: skip
    if version > 1:
        raise Refused(f"the journal has records of format {version}: use the rescue.py that lies on the newest drive")
    total = patchset + outcome
    if version != 1 or kind not in (1, 2) or header_length != PART_LENGTH or any(header[PART.size : PART_HASHED]):
        return None
    if total > MAX_RECORD or parts != max(1, -(-total // MAX_PART)) or number >= parts:
        return None
    if length != min(MAX_PART, total - number * MAX_PART):
        return None
    common = header[8:96] + header[128:136] + header[152:184]
    nonce = header[48:64].hex()
    return Part(epoch, seq, prev, hash_, number, parts, length, crc, patchset, outcome, schema, pool_id, common, nonce)


def record_at(data: bytes, offset: int) -> tuple[int, Part | None, bytes]:
    """How far to go on from here, and head and payload of the record if a whole valid one starts here."""
    first = part_at(data, offset)
    if first is None:
        following = data.find(MAGIC, offset + 1)
        return (len(data) if following < 0 else following) - offset, None, b""
    if first.number:
        return PART_LENGTH + first.length, None, b""
    bodies, at, whole = [], offset, True
    for number in range(first.parts):
        part = part_at(data, at)
        if part is None or (part.common, part.hash, part.number) != (first.common, first.hash, number):
            return at - offset, None, b""
        bodies.append(data[at + PART_LENGTH : at + PART_LENGTH + part.length])
        whole = whole and len(bodies[-1]) == part.length and zlib.crc32(bodies[-1]) == part.crc
        at += PART_LENGTH + part.length
    payload = b"".join(bodies)
    if not whole or blake2b(b"ecfs record 1" + first.common + payload) != first.hash:
        return at - offset, None, b""
    return at - offset, first, payload


def collect_records(pool: Pool) -> dict[bytes, Record]:
    """Every valid record on any drive, by its hash. A damaged one never hides those after it (R9)."""
    records: dict[bytes, Record] = {}
    for drive in pool.drives:
        for name in drive.names("j"):
            match = SEGMENT.fullmatch(name)
            data = drive.read(f"j/{name}", length=MAX_SEGMENT) if match else None
            offset = 0
            while match and data and offset < len(data):
                length, part, _ = record_at(data, offset)
                if part is not None and part.pool_id == pool.pool_id and part.epoch <= int(match[1], 16):
                    record = records.setdefault(part.hash, Record(part, length))
                    record.places.append((drive, f"j/{name}", offset))
                offset += length
    return records


def unsupported_epochs(pool: Pool, records: dict[bytes, Record]) -> set[tuple[int, str]]:
    """Epochs (with nonce) that too few drives know, of those not older than the newest that enough know (R11).

    An epoch is opened with k copies of its first record, so of r drives k + r - n show a record or an identity of it.
    One that fewer show is the private life of a drive that was copied and used apart from its pool.
    """
    traces: dict[int, set[tuple[int, str]]] = {slot: set() for slot in pool.slots}
    for record in records.values():
        for drive, _, _ in record.places:
            traces[drive.slot].add((record.part.epoch, record.part.nonce))
    for drive in pool.drives:
        if drive.nonce and drive.epoch:
            traces[drive.slot].add((drive.epoch, drive.nonce))
    needed = max(1, pool.k + len(traces) - (pool.k + pool.m))
    seen = Counter(trace for of_one in traces.values() for trace in of_one)
    newest = max((epoch for (epoch, _), drives in seen.items() if drives >= needed), default=0)
    return {trace for trace, drives in seen.items() if drives < needed and trace[0] >= newest}


def payload_of(record: Record) -> tuple[bytes, bytes]:
    """Patchset and outcome, verified again."""
    for drive, name, offset in record.places:
        data = drive.read(name, offset, record.length)
        _, part, payload = record_at(data, 0) if data else (0, None, b"")
        if part is not None and part.hash == record.part.hash:
            return payload[: part.patchset], payload[part.patchset :]
    raise Refused(f"commit {record.part.seq} could be read a moment ago, and now on no drive")


# ==== history: which checkpoint, and which records after it ===========================================================


@dataclass(frozen=True)
class Checkpoint:
    """A database image in stripes. record: hash of the last record whose outcome is contained."""

    epoch: int
    seq: int
    record: bytes
    length: int
    stripes: tuple[Fact, ...]

    @property
    def position(self) -> tuple[int, int]:
        return (self.epoch, self.seq)


def checkpoints_of(pool: Pool) -> list[Checkpoint]:
    """Every checkpoint that any superblock names, newest first."""
    found: set[Checkpoint] = set()
    for drive in pool.drives:
        for each in (drive.superblock or {}).get("checkpoints", ()):
            facts = [
                Fact("c", id_, pool.k, pool.m, size, bytes.fromhex(hash_)) for id_, size, hash_, _ in each["stripes"]
            ]
            found.add(
                Checkpoint(each["epoch"], each["seq"], bytes.fromhex(each["record"]), each["length"], tuple(facts))
            )
    return sorted(found, key=lambda checkpoint: checkpoint.position, reverse=True)


class End(NamedTuple):
    """A state that may be restored: everything up to this record (or checkpoint)."""

    position: tuple[int, int]
    hash: bytes


class History:
    """Finds the newest state that can be restored: an image, and the records to apply to it, oldest first."""

    def __init__(self, pool: Pool, stripes: Stripes, scratch: str) -> None:
        self._pool = pool
        self._stripes = stripes
        self._scratch = scratch
        records = collect_records(pool)
        self._apart = unsupported_epochs(pool, records)
        self._records = {h: r for h, r in records.items() if (r.part.epoch, r.part.nonce) not in self._apart}
        kept = {record.part.epoch for record in self._records.values()}
        self._void = {epoch for epoch, _ in self._apart} - kept
        self._checkpoints = [each for each in checkpoints_of(pool) if each.epoch not in self._void]
        self._images: dict[Checkpoint, str] = {}
        self._undecodable: dict[Checkpoint, str] = {}
        self.notes: list[str] = []

    def newest(self, accept_loss: bool) -> tuple[str, list[Record], End]:
        """Path of an image, the records after it, and where they end. Raises Refused."""
        if not self._checkpoints:
            raise Refused(f"no drive here has a readable superblock: {self._pool.absent()}", MISSING_DRIVES)
        ends = {End(record.position, hash_) for hash_, record in self._records.items()}
        ends |= {End(checkpoint.position, checkpoint.record) for checkpoint in self._checkpoints}
        in_order = sorted(ends, reverse=True)
        try:
            return self._newest_whole(in_order[0])
        except Refused as error:
            if not accept_loss:
                raise Refused(f"{error} (or see --accept-loss)", error.status) from error
            self.notes.append(f"going back, because {error}")
        return self._newest_complete(in_order)

    def _newest_whole(self, end: End) -> tuple[str, list[Record], End]:
        """The state at the tail, the greatest (epoch, seq) anywhere (R1); nothing may prove a newer one (R9)."""
        checkpoint, chain = self._trace(end, may_run_ahead=True)
        image = self._images[checkpoint]
        ahead = patched_up_to(image)
        proven = max((self._written(drive) for drive in self._pool.drives), default=())
        opened = max(drive.epoch for drive in self._pool.drives if drive.epoch not in self._void)
        if ahead > end.position[1] or proven > end.position or opened > end.position[0]:
            raise Refused(f"commits after {end.position[1]} existed and no drive here has them: {self._pool.absent()}")
        return image, chain, end

    def _written(self, drive: Drive) -> tuple[int, ...]:
        """The commit that its superblock proves; none if that is damaged, or of a life apart from the pool's."""
        written = tuple(drive.superblock["written"]) if drive.superblock else ()
        return () if not written or written[0] in self._void else written

    def _newest_complete(self, ends: Sequence[End]) -> tuple[str, list[Record], End]:
        """The newest end from which the chain leads back to an image; one that runs ahead of it only if need be."""
        for may_run_ahead in (False, True):
            broken: set[bytes] = set()
            for end in ends:
                if end.hash in broken:
                    continue
                try:
                    checkpoint, chain = self._trace(end, may_run_ahead, broken)
                except Refused:
                    continue
                return self._images[checkpoint], chain, end
        raise Refused("no state of the pool is complete", MISSING_DRIVES)

    def _trace(
        self, end: End, may_run_ahead: bool, broken: set[bytes] | None = None
    ) -> tuple[Checkpoint, list[Record]]:
        """Go back from `end` to the first checkpoint whose image can be decoded. Raises Refused; adds to `broken`."""
        chain: list[Record] = []
        at, walked = end.hash, {end.hash}
        while True:
            for checkpoint in self._checkpoints:
                if checkpoint.record == at and self._is_base(checkpoint, end, may_run_ahead):
                    return checkpoint, chain[::-1]
            record = self._records.get(at)
            if record is None:
                if broken is not None:
                    broken |= walked
                raise self._gap(chain, end)
            chain.append(record)
            at = record.part.prev
            walked.add(at)

    def _is_base(self, checkpoint: Checkpoint, end: End, may_run_ahead: bool) -> bool:
        """An image may contain the patchset of the commit after it, whose outcome is then in the journal only."""
        return self._load(checkpoint) and (may_run_ahead or patched_up_to(self._images[checkpoint]) <= end.position[1])

    def _gap(self, chain: list[Record], end: End) -> Refused:
        if self._undecodable:
            return Refused("; ".join(self._undecodable.values()) + f": {self._pool.absent()}", MISSING_DRIVES)
        missing = chain[-1].part.seq - 1 if chain else end.position[1]
        return Refused(
            f"commit {missing} is missing on every drive here, but commit {end.position[1]} proves that it existed: "
            f"{self._pool.absent()}"
        )

    def _load(self, checkpoint: Checkpoint) -> bool:
        """Decode a checkpoint's image into a file, once; False if that is not possible."""
        if checkpoint in self._undecodable:
            return False
        if checkpoint not in self._images:
            path = os.path.join(self._scratch, f"image-{len(self._images)}")
            flaw = self._write_image(checkpoint, path)
            if flaw:
                self._undecodable[checkpoint] = f"the checkpoint at commit {checkpoint.seq} can't be decoded ({flaw})"
                return False
            self._images[checkpoint] = path
        return True

    def _write_image(self, checkpoint: Checkpoint, path: str) -> str:
        """What was wrong; "" if the image was written."""
        if sum(fact.length for fact in checkpoint.stripes) != checkpoint.length:
            return "its stripes don't add up to its length"
        with open(path, "wb") as file:
            for fact in checkpoint.stripes:
                payload = self._stripes.decode(fact)
                if payload.lost:
                    return f"fewer than {fact.k} good shards of {fact.key}"
                file.write(payload.data)
        return ""


def patched_up_to(image: str) -> int:
    """The newest record whose patchset an image contains; may be one more than its checkpoint says."""
    connection = sqlite3.connect(image)
    try:
        return int(connection.execute("SELECT value FROM progress WHERE name = 'patch_seq'").fetchone()[0])
    except sqlite3.Error as error:
        raise Refused(f"the checkpoint's image is no metadata database: {error}") from error
    finally:
        connection.close()


# ==== metadata: FORMAT.md, "Metadata database, patchset and outcome" ==================================================

SECTION, DELETE, INSERT, UPDATE = 0x50, 9, 18, 23
INTEGER, FLOAT = struct.Struct(">q"), struct.Struct(">d")


class Change(NamedTuple):
    """One change of a patchset. keys: per column its place in the primary key, or 0; values: by column."""

    table: str
    operation: int
    keys: bytes
    values: dict[int, Any]


def changes(data: bytes) -> Iterator[Change]:
    """What a patchset says, change by change. Raises ValueError at the first byte that makes no sense."""
    at, table, keys = 0, "", b""
    try:
        while at < len(data):
            operation = data[at]
            if operation == SECTION:
                count, at = varint(data, at + 1)
                keys = data[at : at + count]
                end = data.index(b"\0", at + count)
                table = data[at + count : end].decode()
                at = end + 1
                continue
            if operation not in (DELETE, INSERT, UPDATE):
                raise ValueError(f"no such operation: {operation}")
            at += 2
            values: dict[int, Any] = {}
            for column, key in enumerate(keys):
                if operation == DELETE and not key:
                    continue
                kind = data[at]
                at += 1
                if kind:
                    values[column], at = value_at(data, at, kind)
            yield Change(table, operation, keys, values)
    except (IndexError, struct.error) as error:
        raise ValueError("the patchset ends in the middle") from error


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A SQLite varint and where it ends."""
    value = 0
    for place in range(8):
        byte = data[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    return value << 8 | data[at + 8], at + 9


def value_at(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    """A value and where it ends."""
    if kind == 1:
        return INTEGER.unpack_from(data, at)[0], at + 8
    if kind == 2:
        return FLOAT.unpack_from(data, at)[0], at + 8
    if kind == 5:
        return None, at
    if kind not in (3, 4):
        raise ValueError(f"no such type: {kind}")
    length, at = varint(data, at)
    piece = data[at : at + length]
    if len(piece) != length:
        raise ValueError("the patchset ends in the middle")
    return (piece.decode() if kind == 3 else piece), at + length


class Metadata:
    """The metadata database: an image, brought up to date in place."""

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = OFF")
        self.db.execute("PRAGMA synchronous = OFF")
        if self.db.execute("PRAGMA application_id").fetchone()[0] != 0x65636673:
            raise Refused("the checkpoint's image is no metadata database of ecfs")
        if self.db.execute("PRAGMA user_version").fetchone()[0] != 1:
            raise Refused("the metadata has another version: use the rescue.py that lies on the newest drive")
        ddl = [sql for (sql,) in self.db.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY rowid")]
        self.schema = blake2b("\n".join(ddl).encode())[:16]
        self._columns: dict[str, list[tuple[str, int]]] = {}

    def replay(self, chain: Iterable[Record]) -> None:
        """Apply what the image does not contain yet. Raises Refused if a record does not fit."""
        progress = dict(self.db.execute("SELECT name, value FROM progress"))
        self.db.execute("BEGIN")
        for record in chain:
            seq = record.part.seq
            if record.part.schema != self.schema:
                raise Refused(f"commit {seq} was written with another schema of the metadata than its checkpoint")
            patchset, outcome = payload_of(record)
            try:
                if patchset and seq > progress["patch_seq"]:
                    self.apply_patchset(patchset)
                if seq > progress["outcome_seq"]:
                    self.apply_outcome(json.loads(outcome))
            except (ValueError, KeyError, TypeError, sqlite3.Error) as error:
                raise Refused(f"commit {seq} does not fit the metadata before it: {error}") from error
        self.db.execute("COMMIT")

    def apply_patchset(self, patchset: bytes) -> None:
        """Raises ValueError if it was made on another state than this."""
        before = self._counters()["chain"]
        for change in changes(patchset):
            self._apply(change)
        counters = self._counters()
        told = "".join(f" {name}={value}" for name, value in sorted(counters.items()) if name != "chain")
        digest = hashlib.blake2b(f"chain={before}{told}".encode(), digest_size=8).digest()
        if counters["chain"] != int.from_bytes(digest, "big") >> 1:
            raise ValueError("it was made on another state")

    def _counters(self) -> dict[str, int]:
        return dict(self.db.execute("SELECT name, value FROM counter"))

    def _apply(self, change: Change) -> None:
        columns = self._table(change.table, change.keys)
        values = change.values
        where = " AND ".join(f"{columns[at]} = ?" for at, key in enumerate(change.keys) if key)
        key_values = [values[at] for at, key in enumerate(change.keys) if key]
        if change.operation == INSERT:
            marks = ", ".join("?" * len(columns))
            sql, parameters = f"INSERT INTO {change.table} VALUES ({marks})", [values[at] for at in range(len(columns))]
        elif change.operation == DELETE:
            sql, parameters = f"DELETE FROM {change.table} WHERE {where}", key_values
        else:
            new = [at for at in values if not change.keys[at]]
            names = ", ".join(f"{columns[at]} = ?" for at in new)
            sql, parameters = (
                f"UPDATE {change.table} SET {names} WHERE {where}",
                [values[at] for at in new] + key_values,
            )
        if self.db.execute(sql, parameters).rowcount != 1:
            raise ValueError(f"no such row in {change.table}")

    def _table(self, table: str, keys: bytes) -> list[str]:
        """The columns of a table that must look as the patchset says."""
        if table not in self._columns:
            rows = self.db.execute("SELECT name, pk FROM pragma_table_info(?)", (table,)).fetchall()
            self._columns[table] = rows
        found = self._columns[table]
        if not found or [key for _, key in found] != list(keys):
            raise ValueError(f"there is no such table {table}")
        return [name for name, _ in found]

    def apply_outcome(self, outcome: Mapping[str, Any]) -> None:
        """Only what a rescue needs: what stripes are, and which drives belong to the pool."""
        run = self.db.execute
        for row in outcome.get("geometries", ()):
            run("INSERT OR REPLACE INTO geometry VALUES (?, ?, ?, ?)", row)
        for id_, geometry, length, digest, _ in outcome.get("stripes", ()):
            run("INSERT OR REPLACE INTO stripe VALUES (?, ?, ?, ?)", (id_, geometry, length, bytes.fromhex(digest)))
        for id_ in outcome.get("removed", ()):
            run("DELETE FROM stripe WHERE id = ?", (id_,))
        for drive in outcome.get("drives", ()):
            run("DELETE FROM drive WHERE slot = ?", (drive["slot"],))
            run("INSERT INTO drive VALUES (?, ?, '', '', 0, '', 0, 0, '', 0)", (drive["slot"], drive["drive_id"]))
        if outcome.get("epoch") is not None:
            run("INSERT OR REPLACE INTO epoch VALUES (?, ?, ?)", outcome["epoch"])

    def fact(self, stripe: int) -> Fact:
        """Raises Damaged if the stripe is not known."""
        row = self.db.execute(
            "SELECT g.k, g.m, s.length, s.hash FROM stripe s JOIN geometry g ON g.id = s.geometry WHERE s.id = ?",
            (stripe,),
        ).fetchone()
        if row is None:
            raise Damaged(f"stripe {stripe:016x} is not known")
        return Fact("s", stripe, *row)

    def strangers(self, drives: Iterable[Drive]) -> dict[Drive, str]:
        """Drives that don't belong to this history, and why: they could not vouch for its newest commits (R7, R11)."""
        ids = dict(self.db.execute("SELECT slot, drive_id FROM drive"))
        nonces = dict(self.db.execute("SELECT epoch, nonce FROM epoch"))
        why: dict[Drive, str] = {}
        for drive in drives:
            if drive.state != "member":
                why[drive] = "was still joining"
            elif ids.get(drive.slot) != drive.drive_id:
                why[drive] = "was replaced"
            elif drive.nonce and drive.epoch and nonces.get(drive.epoch) != drive.nonce:
                why[drive] = "diverged: it was mounted elsewhere, apart from this pool"
        return why


# ==== the tree ========================================================================================================

CANT_GO_ON = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of OUTDIR after which every other file would fail, too."""


class Inode(NamedTuple):
    """A row of the table; times in ns."""

    ino: int
    mode: int
    uid: int
    gid: int
    size: int
    rdev: int
    atime: int
    mtime: int


INODE = "SELECT ino, mode, uid, gid, size, rdev, atime_ns, mtime_ns FROM inode"
# Files by where their first bytes lie, so that each stripe is decoded about once.
IN_ORDER = f"""{INODE} AS i WHERE mode & 61440 != 16384
    ORDER BY (SELECT source FROM extent WHERE ino = i.ino ORDER BY offset LIMIT 1), ino"""
FOLDERS = """SELECT d.name, i.ino FROM dirent d JOIN inode i ON i.ino = d.ino
    WHERE d.parent = ? AND i.mode & 61440 = 16384 ORDER BY d.name"""


class Restorer:
    """Makes the tree below OUTDIR. Files are made in the scratch directory and get their names when complete."""

    def __init__(self, metadata: Metadata, stripes: Stripes, out: int, scratch: int) -> None:
        self._metadata = metadata
        self._db = metadata.db
        self._stripes = stripes
        self._out = out
        self._scratch = scratch
        self._folders: dict[int, tuple[int, bytes]] = {1: (0, b".")}
        self._held: tuple[int, int] = (0, -1)
        self._root = os.geteuid() == 0
        self.damaged: list[str] = []
        self.unmade: list[str] = []
        self.foreign = 0
        self.files = self.bytes = 0

    def run(self, tidy: Callable[[], None]) -> None:
        """tidy: removes what is only needed meanwhile, before folders get their times."""
        self._make_folders()
        self._make_files()
        tidy()
        for ino in reversed(list(self._folders)):  # the deepest first: a folder may forbid its owner to enter it
            self._finish_folder(ino)
        self._close_held()

    # ---- folders

    def _make_folders(self) -> None:
        queue = [1]
        for parent in queue:
            for name, ino in self._db.execute(FOLDERS, (parent,)).fetchall():
                if ino in self._folders or not self._is_name(name, parent):
                    continue
                try:
                    os.mkdir(name, 0o700, dir_fd=self._folder(parent))
                except OSError as error:
                    self._cant_make(error, self._path(parent, name))
                    continue
                self._folders[ino] = (parent, name)
                queue.append(ino)

    def _is_name(self, name: bytes, parent: int) -> bool:
        if name and name not in (b".", b"..") and b"/" not in name and b"\0" not in name:
            return True
        self.damaged.append(f"{self._path(parent, name)}: not a possible name")
        return False

    def _finish_folder(self, ino: int) -> None:
        parent, name = self._folders[ino]
        row = self._db.execute(f"{INODE} WHERE ino = ?", (ino,)).fetchone()
        if row is None:
            self.damaged.append(f"{self._path(ino)}: nothing is known of this folder")
            return
        self._set_attributes(self._folder(parent) if parent else self._out, name, Inode(*row), self._path(ino))

    def _folder(self, ino: int) -> int:
        """A descriptor of a folder, valid until the next call. By steps, since a path may be longer than PATH_MAX."""
        if self._held[0] != ino or self._held[1] < 0:
            self._close_held()
            descriptor = os.dup(self._out)
            for name in self._names(ino):
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            self._held = (ino, descriptor)
        return self._held[1]

    def _close_held(self) -> None:
        if self._held[1] >= 0:
            os.close(self._held[1])
        self._held = (0, -1)

    def _names(self, ino: int) -> list[bytes]:
        names = []
        while ino != 1:
            ino, name = self._folders[ino]
            names.append(name)
        return names[::-1]

    def _path(self, parent: int, *names: bytes) -> str:
        """A path to show."""
        return shown(b"/".join([*self._names(parent), *names]) or b".")

    # ---- everything else

    def _make_files(self) -> None:
        many, size = self._db.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM inode WHERE mode & 61440 != 16384"
        ).fetchone()
        said = time.monotonic()
        for row in self._db.execute(IN_ORDER):
            self._make_entry(Inode(*row))
            if time.monotonic() - said > 2:
                said = time.monotonic()
                say(f"{self.files:,} of {many:,} files, {self.bytes / 2**20:,.0f} of {size / 2**20:,.0f} MiB")

    def _make_entry(self, inode: Inode) -> None:
        """One inode under all its names, or under none."""
        entries = self._db.execute("SELECT parent, name FROM dirent WHERE ino = ?", (inode.ino,)).fetchall()
        entries = [entry for entry in entries if entry[0] in self._folders and self._is_name(entry[1], entry[0])]
        if not entries:
            return  # unlinked while it was open
        paths = [self._path(*entry) for entry in entries]
        temporary = b"%d" % inode.ino
        try:
            self._make_node(inode, temporary)
            self._set_attributes(self._scratch, temporary, inode, paths[0])
            self._give_names(temporary, entries, paths)
            self.files += 1
            self.bytes += inode.size
        except Damaged as error:
            self.damaged += [f"{path}: {error}" for path in paths]
        except OSError as error:
            self._cant_make(error, *paths)
        except (ValueError, TypeError, ArithmeticError) as error:  # numbers out of range, NUL in a text
            self.damaged += [f"{path}: what is known of it makes no sense ({error})" for path in paths]
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._scratch)

    def _cant_make(self, error: OSError, *paths: str) -> None:
        if error.errno in CANT_GO_ON:
            raise Refused(f"OUTDIR: {error.strerror}, after {self.files:,} files") from error
        self.unmade += [f"{path}: {error.strerror}" for path in paths]

    def _give_names(self, temporary: bytes, entries: Sequence[tuple[int, bytes]], paths: Sequence[str]) -> None:
        """Hard links first; the last name by renaming, so that file systems without links work, too."""
        for (parent, name), path in zip(entries[1:], paths[1:]):
            try:
                os.link(
                    temporary, name, src_dir_fd=self._scratch, dst_dir_fd=self._folder(parent), follow_symlinks=False
                )
            except OSError as error:
                self._cant_make(error, path)
        parent, name = entries[0]
        folder = self._folder(parent)
        if self._exists(name, folder):
            raise OSError(errno.EEXIST, "taken by a file whose name differs in a way that OUTDIR ignores")
        os.rename(temporary, name, src_dir_fd=self._scratch, dst_dir_fd=folder)

    @staticmethod
    def _exists(name: bytes, folder: int) -> bool:
        try:
            os.lstat(name, dir_fd=folder)
        except FileNotFoundError:
            return False
        return True

    def _make_node(self, inode: Inode, name: bytes) -> None:
        kind = stat.S_IFMT(inode.mode)
        if kind == stat.S_IFREG:
            self._make_file(inode, name)
        elif kind == stat.S_IFLNK:
            row = self._db.execute("SELECT target FROM symlink WHERE ino = ?", (inode.ino,)).fetchone()
            if row is None:
                raise Damaged("where the symbolic link leads is not known")
            os.symlink(row[0], name, dir_fd=self._scratch)
        else:
            os.mknod(name, kind | 0o600, inode.rdev, dir_fd=self._scratch)

    def _make_file(self, inode: Inode, name: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=self._scratch)
        try:
            os.ftruncate(file, inode.size)  # what no extent covers is a hole
            rows = self._db.execute(
                "SELECT offset, length, source, source_offset FROM extent WHERE ino = ? ORDER BY offset", (inode.ino,)
            )
            for offset, length, source, start in rows:
                length = min(length, inode.size - offset)
                if length > 0:
                    _write_all(file, offset, self._bytes_of(source, start, length))
        finally:
            os.close(file)

    def _bytes_of(self, source: int, start: int, length: int) -> memoryview:
        """Verified bytes of a stripe (source > 0) or of an inline blob. Raises Damaged."""
        if source > 0:
            fact = self._metadata.fact(source)
            payload = self._stripes.get(fact)
            if any(lo < start + length and start < hi for lo, hi in payload.lost):
                raise Damaged(f"fewer than {fact.k} good shards of {fact.key}")
            data = payload.data
        else:
            row = self._db.execute("SELECT crc, data FROM inline WHERE id = ?", (-source,)).fetchone()
            if row is None or zlib.crc32(row[1]) != row[0]:
                raise Damaged("bytes in the metadata fail their checksum")
            data = row[1]
        if start + length > len(data):
            raise Damaged("its bytes lie beyond the end of where they are kept")
        return memoryview(data)[start : start + length]

    # ---- attributes

    def _set_attributes(self, folder: int, name: bytes, inode: Inode, path: str) -> None:
        """Owner, extended attributes, mode and times, in the order in which they don't undo each other."""
        mode = stat.S_IMODE(inode.mode)
        with self._noted(f"{path}: owner"):
            if self._root:
                os.chown(name, inode.uid, inode.gid, dir_fd=folder, follow_symlinks=False)
        found = os.lstat(name, dir_fd=folder)
        if (found.st_uid, found.st_gid) != (inode.uid, inode.gid):
            self.foreign += 1
            mode &= ~(stat.S_ISUID | stat.S_ISGID)  # it would lend the rights of somebody else than it was meant to
        for key, value in self._db.execute("SELECT name, value FROM xattr WHERE ino = ?", (inode.ino,)).fetchall():
            with self._noted(f"{path}: attribute {shown(key)}"):
                os.setxattr(b"/proc/self/fd/%d/%s" % (folder, name), key, value, follow_symlinks=False)
        with self._noted(f"{path}: mode"):
            if not stat.S_ISLNK(inode.mode):
                os.chmod(name, mode, dir_fd=folder)
        with self._noted(f"{path}: times"):
            os.utime(name, ns=(inode.atime, inode.mtime), dir_fd=folder, follow_symlinks=False)

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """A file without one of its attributes is better than none."""
        try:
            yield
        except OSError as error:
            self.unmade.append(f"{what}: {error.strerror}")


def _write_all(file: int, offset: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


# ==== the command =====================================================================================================


def say(text: str) -> None:
    print(text, flush=True)


def shown(name: bytes) -> str:
    """A name of any bytes, on one line."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def say_each(title: str, lines: Collection[str]) -> None:
    if lines:
        say(f"{title}:")
    for line in lines:
        say(f"  {line}")


@contextmanager
def made_outdir(path: str) -> Iterator[tuple[int, str]]:
    """OUTDIR's descriptor and a scratch directory in it, which is gone at the end. Removes OUTDIR if it stays empty."""
    try:
        is_new = not os.path.isdir(path)
        if is_new:
            os.mkdir(path, 0o700)
        if os.listdir(path):
            raise Refused(f"{path} is not empty: give a new or empty directory as OUTDIR")
        out = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        scratch = tempfile.mkdtemp(prefix=".ecfs-rescue-", dir=path)
    except OSError as error:
        raise Refused(f"{path} can't be used as OUTDIR: {error.strerror}") from error
    try:
        yield out, scratch
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # something was restored already
                os.rmdir(path)
        raise
    finally:
        os.close(out)


def check_outdir(out: str, drives: Iterable[Drive]) -> None:
    """OUTDIR must not lie in a drive, nor a drive in it."""
    place = os.path.realpath(out)
    for drive in drives:
        other = os.path.realpath(drive.path)
        if os.path.commonpath([place, other]) in (place, other):
            raise Refused(f"OUTDIR {out} and drive {drive.path} lie within each other: give another OUTDIR")


def check_members(pool: Pool, metadata: Metadata, accept_loss: bool) -> None:
    """Fewer than k drives that belong to this history might all lack its newest commits."""
    strangers = metadata.strangers(pool.drives)
    pool.notes += [f"{drive.path} {why}: only its shards are used" for drive, why in strangers.items()]
    members = {drive.slot for drive in pool.drives if drive not in strangers}
    if len(members) < pool.k and not accept_loss:
        odd = "; ".join(f"{drive.path} {why}" for drive, why in strangers.items())
        text = f"only {len(members)} drives belong to the pool, {pool.k} are needed ({odd}); or see --accept-loss"
        raise Refused(text, MISSING_DRIVES)


def rescue(places: Sequence[str], out: str, accept_loss: bool) -> int:
    """Returns the exit status."""
    began = time.monotonic()
    pool = find_pool(places, accept_loss)
    check_outdir(out, pool.drives)
    slots = ", ".join(map(str, sorted(pool.slots)))
    say(f"pool {pool.pool_id.hex()[:8]}, {pool.k} data + {pool.m} parity: drives {slots}")
    with made_outdir(out) as (descriptor, scratch):
        stripes = Stripes(pool)
        history = History(pool, stripes, scratch)
        image, chain, end = history.newest(accept_loss)
        metadata = Metadata(image)
        metadata.replay(chain)
        check_members(pool, metadata, accept_loss)
        say_each("note", pool.notes + history.notes)
        say(f"restoring commit {end.position[1]} of epoch {end.position[0]} ({len(chain)} replayed)")
        restorer = restore(metadata, stripes, descriptor, scratch)
    return summary(restorer, stripes, time.monotonic() - began)


def restore(metadata: Metadata, stripes: Stripes, out: int, scratch: str) -> Restorer:
    files = os.path.join(scratch, "files")
    os.mkdir(files, 0o700)
    held = os.open(files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        restorer = Restorer(metadata, stripes, out, held)
        restorer.run(lambda: shutil.rmtree(scratch, ignore_errors=True))
    finally:
        os.close(held)
        metadata.db.close()
    return restorer


def summary(restorer: Restorer, stripes: Stripes, seconds: float) -> int:
    speed = restorer.bytes / 2**20 / max(seconds, 0.001)
    say(f"restored {restorer.files:,} files, {restorer.bytes:,} bytes in {seconds:.1f} s ({speed:.0f} MiB/s)")
    for path, count in sorted(stripes.flawed.items()):
        say(f"{path}: {count} shards were missing or damaged")
    if restorer.foreign:
        say(f"{restorer.foreign:,} files belonged to others: as root, owners are restored, too")
    say_each("could not be made in OUTDIR", restorer.unmade)
    say_each("LOST, left out", restorer.damaged)
    if restorer.damaged:
        return MISSING_DRIVES
    return INCOMPLETE if restorer.unmade else 0


class Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message}; usage: rescue.py [--accept-loss] DRIVE... OUTDIR")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="rescue.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept-loss", action="store_true", help="go back to the newest state that is complete")
    parser.add_argument("places", nargs="+", metavar="DRIVE... OUTDIR")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    os.umask(0o077)
    try:
        options = parser.parse_args(arguments)
        if len(options.places) < 2:
            parser.error("give the drives and OUTDIR")
        return rescue(options.places[:-1], options.places[-1], options.accept_loss)
    except Refused as error:
        print(f"rescue.py: {error}", file=sys.stderr)
        return error.status
    except (OSError, sqlite3.Error) as error:
        print(f"rescue.py: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("rescue.py: interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # made up by somebody, or a mistake here: a person in need gets a line, not a page
        text = f"unexpected {type(error).__name__}: {error}; try without the drives that you trust least"
        print(f"rescue.py: {text}", file=sys.stderr)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
