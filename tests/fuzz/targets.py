"""Everything that reads bytes which others may have written: what a drive says, what a socket says, what a user wrote.

A target takes any bytes. It may refuse them with an error of ours; it must not raise anything else, and must not take
bytes whose checksums do not hold: what it takes, it checks again by other means (`Wrong` if that fails). `reseal` makes
checksums right again, so that what lies behind them is reached, too.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecfs.control.protocol import error_line, line, read_answer, read_request
from ecfs.drive import fence
from ecfs.drive.base import Writer
from ecfs.drive.belonging import pool_named_in
from ecfs.errors import CorruptError, EcfsError, FormatTooNewError, UsageError
from ecfs.geometry import Geometry
from ecfs.journal import record
from ecfs.journal.segments import segment_position
from ecfs.journal.superblock import Checkpoint, DriveEntry, Superblock, decode_superblock, encode_superblock
from ecfs.meta import Database, Outcome, cross_check, outcome_from_json, outcome_to_json
from ecfs.pool.identity import Identity, decode_identity, encode_identity
from ecfs.pool.poolfile import default_pool_file, read_pool_file, render_pool_file
from ecfs.pool.sealed import seal_body
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc import frames
from ecfs.shard import DATA_OFFSET, HEADER_LENGTH, parse_header, parse_key, verify_shard
from ecfs.stripes.writer import encode_stripe
from tests.unit.meta.helpers import add_file, add_root, row

GEOMETRY = Geometry(1, 4, 2)
POOL = bytes(range(16))


class Wrong(Exception):
    """Something was taken that should have been refused."""


@dataclass(frozen=True)
class Target:
    """seeds: valid inputs to start from. refuses: the errors that it may raise, no others."""

    name: str
    seeds: Sequence[bytes]
    parse: Callable[[bytes], None]
    refuses: tuple[type[Exception], ...] = (CorruptError, FormatTooNewError)
    reseal: Callable[[bytes], bytes] = bytes


def expect(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


def blake(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


# ---- shards -----------------------------------------------------------------------------------------------------


def shards() -> list[bytes]:
    found = []
    for size in (1, 1000, 300_000):
        stripe = encode_stripe(POOL, 1 << 32 | size, "s", GEOMETRY, bytes(i % 251 for i in range(size)))
        found += [b"".join(map(bytes, stripe.buffers(index))) for index in (0, 5)]
    return found


def read_shard(data: bytes) -> None:
    parse_header(data)
    header = verify_shard(data)
    expect(data[3984:HEADER_LENGTH] == blake(data[:3984]), "a header whose hash is wrong")
    expect(len(data) == DATA_OFFSET + header.fragment_length, "a shard of another length")
    body = data[DATA_OFFSET:]
    crcs = tuple(zlib.crc32(body[at : at + 65536]) for at in range(0, len(body), 65536))
    expect(crcs == header.block_crcs, "a block whose checksum is wrong")


def seal_shard(data: bytes) -> bytes:
    return data[:3984] + blake(data[:3984]) + data[HEADER_LENGTH:] if len(data) >= HEADER_LENGTH else data


# ---- journal ----------------------------------------------------------------------------------------------------


def records() -> list[bytes]:
    prev, found = record.GENESIS, []
    for seq, size in ((1, 0), (2, 500), (3, record.MAX_PART + 100)):
        made = record.compose(record.COMMIT, POOL, 1, seq, POOL, prev, seq - 1, POOL, bytes(size), b"{}")
        prev = made.head.hash
        found.append(record.frame(made))
    return [*found, found[0] + found[1]]


def read_segment(data: bytes) -> None:
    end = 0
    for found in record.scan(data, POOL, 1):
        expect(found.offset >= end, "records that overlap")
        if isinstance(found, record.Flaw):
            expect(found.offset < found.end <= len(data), "a flaw outside of the segment")
            end = found.end
            continue
        end = found.offset + found.head.framed_length
        whole = record.parse_record(data[found.offset : end], found.head)
        expect(
            end <= len(data) and record.frame(whole) == data[found.offset : end], "a record that is not what it says"
        )
        check_record_hash(data[found.offset : end], whole)
    part = record.parse_part(data[: record.HEADER_LENGTH])
    record.parse_record(data, part.head)


def check_record_hash(framed: bytes, whole: record.Record) -> None:
    digest = hashlib.blake2b(b"ecfs record 1", digest_size=32)
    head = framed[:256]
    digest.update(head[8:96] + head[128:136] + head[152:184] + whole.patchset + whole.outcome)
    expect(digest.digest() == whole.head.hash, "a record whose hash is wrong")


def seal_record(data: bytes) -> bytes:
    """The first frame's hash and body checksum."""
    if len(data) < 256:
        return data
    length = min(struct.unpack_from("<I", data, 144)[0], len(data) - 256)
    head = data[:148] + struct.pack("<I", zlib.crc32(data[256 : 256 + length])) + data[152:224]
    return head + blake(head) + data[256:]


# ---- sealed text ------------------------------------------------------------------------------------------------


def superblocks() -> list[bytes]:
    point = Checkpoint(1, 5, "ab" * 32, 5000, [(1 << 32 | 7, 5000, "cd" * 32, [0, 1, 2, 3, 4, 5])])
    drives = [DriveEntry(slot, f"/d{slot}", f"{slot:032x}") for slot in range(6)]
    return [encode_superblock(Superblock("00" * 16, "11" * 16, 0, 4, 2, "isa_l_rs_cauchy", (1, 5), drives, [point]))]


def read_superblock(data: bytes) -> None:
    superblock = decode_superblock(data)
    check_seal(data)
    for each in superblock.checkpoints:
        bytes.fromhex(each.record)
        for fact in each.facts(GEOMETRY):
            expect(fact.length > 0 and fact.fragment_length > 0, "a checkpoint's stripe of no length")
            parse_key(fact.key)


def read_identity(data: bytes) -> None:
    pool_named_in(data)
    identity = decode_identity(data)
    check_seal(data)
    bytes.fromhex(identity.pool_id)


def check_seal(data: bytes) -> None:
    first, _, rest = data.partition(b"\n")
    name = first.split(b" ")[1]
    expect(first.endswith(blake(name + b"\n" + rest[:-1]).hex().encode()), "sealed text whose hash is wrong")


def seal_text(data: bytes) -> bytes:
    first, _, rest = data.partition(b"\n")
    words = first.split(b" ")
    if len(words) != 4 or not words[2].isdigit() or len(words[2]) > 4:
        return data
    return seal_body(words[1], int(words[2]), rest.rstrip(b"\n"))


# ---- fences -----------------------------------------------------------------------------------------------------


def read_fence(data: bytes) -> None:
    promise = fence.promised(data)
    expect(promise == fence.NOBODY or fence.encode(promise) in data, "a promise that nobody made")


def seal_fence(data: bytes) -> bytes:
    return b"".join(
        data[at : at + 32] + struct.pack("<I", zlib.crc32(data[at : at + 32])) + bytes(28)
        for at in range(0, len(data) - 63, 64)
    )


# ---- metadata ---------------------------------------------------------------------------------------------------


class Metadata:
    """A small database: its image, and a patchset that follows it."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.scratch = Path(self.folder.name)
        db = Database.create(self.scratch, GEOMETRY)
        add_root(db)
        for number in range(20):
            add_file(db, b"file%d" % number)
        db.freeze(1)
        snapshot = db.snapshot()
        snapshot.copy_to(self.scratch / "image")
        snapshot.release()
        self.image = (self.scratch / "image").read_bytes()
        add_file(db, b"another")
        self.patchset = db.freeze(2)
        db.close()

    def load(self, data: bytes) -> None:
        db = Database.load(self.scratch, [data])
        try:
            list(cross_check(db))
            db.ledger.counts(frozenset())
            list(db.names.entries(1, 0, 100))
            db.drives.geometry()
        finally:
            db.close()

    def replay(self, data: bytes) -> None:
        db = Database.load(self.scratch, [self.image])
        try:
            db.replay(data, 2)  # bytes of other names are for the record's hash to notice
            list(db.names.entries(1, 0, 100))
        finally:
            db.close()


def read_outcome(data: bytes) -> None:
    outcome = outcome_from_json(data)
    expect(outcome_from_json(outcome_to_json(outcome)) == outcome, "an outcome that is not what it says")
    db = Database.create(METADATA.scratch, GEOMETRY)
    try:
        db.apply_outcome(outcome, 1)
        db.ledger.counts(frozenset())
        db.ledger.todo(10)
    finally:
        db.close()


OUTCOMES = [
    outcome_to_json(Outcome()),
    outcome_to_json(Outcome(stripes=[row(1), row(2, mask=3)], missing=[(1 << 32 | 1, 4)], settings={"scrub": {}})),
    outcome_to_json(Outcome(gaps={2: [(5, 9, "unknown"), (9, 12, "missing")]}, removed=[3], epoch=(1, "aa", 1))),
]


# ---- text from people and programs ------------------------------------------------------------------------------


def read_pool(data: bytes) -> None:
    path = METADATA.scratch / "pool.toml"
    path.write_bytes(data)
    read_pool_file(path)


def read_line(data: bytes) -> None:
    request = read_request(data)
    expect(request.ecfs == 1, "another version")


def read_keys(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    segment_position(text)
    parse_key(text)


def read_frame(data: bytes) -> None:
    for kind in (pb.PutRequest, pb.ReadReply, pb.AppendRequest):
        message, body = frames.split(kind, data)
        expect(len(body) <= len(data), "more data than there was")
        message.SerializeToString()


PROMISES = [Writer(9, "ab" * 16), Writer(10, "cd" * 16)]
METADATA = Metadata()
REQUESTS = [line("x", 1), b'{"ecfs": 1, "method": "scrub", "params": {"dry_run": true, "rate": 5.5}}\n']
ANSWERS = [line("result", {"state": "healthy"}), line("progress", [1, 2]), error_line(UsageError("no"))]
POOL_FILES = [render_pool_file(default_pool_file(Path("/p"), 4, 2)).encode()]

TARGETS = [
    Target("shard", shards(), read_shard, reseal=seal_shard),
    Target("record", records(), read_segment, reseal=seal_record),
    Target("superblock", superblocks(), read_superblock, reseal=seal_text),
    Target(
        "identity",
        [encode_identity(Identity("00" * 16, "11" * 16, 3, "member", 4, 2, 7, "22" * 16))],
        read_identity,
        reseal=seal_text,
    ),
    Target("fence", [b"".join(map(fence.encode, PROMISES))], read_fence, (), seal_fence),
    Target("image", [METADATA.image], METADATA.load, (EcfsError,)),
    Target("patchset", [METADATA.patchset], METADATA.replay),
    Target("outcome", OUTCOMES, read_outcome),
    Target("poolfile", POOL_FILES, read_pool, (UsageError,)),
    Target("request", REQUESTS, read_line, (UsageError,)),
    Target("answer", ANSWERS, lambda data: void(read_answer(data)), (EcfsError,)),
    Target("keys", [b"s/00000001/00000002", b"c/00000001.00000002", b"j/00000001.000002"], read_keys),
    Target(
        "frame",
        [frames.join(pb.PutRequest(key="s/1", length=9), [b"some data"]), pb.ReadReply(data=b"x").SerializeToString()],
        read_frame,
        (frames.FrameError,),
    ),
]


def void(value: object) -> None:
    """A target returns nothing."""
