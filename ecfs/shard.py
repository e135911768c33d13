"""The bytes of one shard: building, parsing and checking; pure, no I/O.

A shard is a header, the fragment header of the erasure library and the fragment's data (integers little-endian)::

    offset  size  field
         0     8  magic "ECFSHARD"
         8     2  format, 1
        10     2  flags, 0 (reserved: compression, encryption)
        12     4  header length, 4016
        16    16  pool id
        32     1  key space: "s" (stripes) or "c" (checkpoints)
        33     1  shard index, 0 … n-1
        34     1  k
        35     1  m
        36     4  geometry id
        40     8  stripe id: epoch << 32 | counter
        48     8  payload length of the stripe
        56     4  fragment length f = ceil(payload length / k)
        60     4  block size, 65536
        64    32  content hash of the stripe
        96    16  name of the code, "isa_l_rs_cauchy", zero-padded
       112     4  crc32 of the 80-byte fragment header
       116     4  number of blocks B = ceil(f / 65536), at most 966
       120   4*B  crc32 of each block of the fragment's data
         …     …  zeros
      3984    32  blake2b-256 of bytes 0 … 3983
      4016    80  fragment header as the erasure library wrote it
      4096     f  fragment data; the file ends here

The checks raise `CorruptError` for whatever bytes they are given. One exception: a header that a newer ecfs wrote
(magic and hash hold, format is greater) raises `FormatTooNewError`, so that healing never "repairs" it away. Since
the hash must hold, a rotten format field is damage like any other; later formats must keep magic, format and hash
where they are.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isal import isal_zlib

from ecfs.errors import CorruptError, FormatTooNewError
from ecfs.geometry import (
    BLOCK_SIZE,
    COUNTER_BITS,
    FRAGMENT_HEADER,
    MAX_DRIVES,
    block_count,
    counter_of,
    epoch_of,
    stripe_id,
)

MAGIC = b"ECFSHARD"
FORMAT = 1
CODE_NAME = b"isa_l_rs_cauchy".ljust(16, b"\0")
HEADER_LENGTH = 4016
DATA_OFFSET = 4096
HASH_LENGTH = 32
MAX_BLOCKS = 966
"""Blocks of one fragment; their checksums just fill the header. 60 MiB of fragment, 15 times what a pool uses."""

SPACES = ("s", "c")
Buffer = bytes | bytearray | memoryview

_FIXED = struct.Struct("<8sHHI16scBBBIQQII32s16sII")
_HASHED = HEADER_LENGTH - HASH_LENGTH
_KEY = re.compile(r"(?:(s)/([0-9a-f]{8})/|(c)/([0-9a-f]{8})\.)([0-9a-f]{8})", re.ASCII)
_CONTENT_MAGIC = b"ecfs stripe 1"

if not (HEADER_LENGTH + FRAGMENT_HEADER == DATA_OFFSET and _FIXED.size + 4 * MAX_BLOCKS == _HASHED):
    raise RuntimeError("the shard's layout does not add up")


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says about itself.

    pool_id: 16 bytes. space: "s" or "c". index: which of the k + m shards. payload_length, fragment_length: bytes.
    content_hash: 32 bytes, the same in all shards of the stripe. block_crcs: one CRC-32 per 64 KiB of data.
    """

    pool_id: bytes
    space: str
    index: int
    k: int
    m: int
    geometry_id: int
    stripe_id: int
    payload_length: int
    fragment_length: int
    content_hash: bytes
    fragment_header_crc: int
    block_crcs: tuple[int, ...]

    def block_length(self, number: int) -> int:
        """Bytes of block `number`; only the last one may be shorter than 64 KiB."""
        return min(BLOCK_SIZE, self.fragment_length - number * BLOCK_SIZE)

    @property
    def file_length(self) -> int:
        """Bytes of the whole shard."""
        return DATA_OFFSET + self.fragment_length


def crc32(data: Buffer) -> int:
    """The CRC-32 of zlib, four times as fast."""
    return isal_zlib.crc32(data)


def block_crcs(fragment_data: Buffer) -> tuple[int, ...]:
    """CRC-32 of each 64 KiB block of a fragment's data (without the 80-byte fragment header)."""
    view = memoryview(fragment_data)
    return tuple(crc32(view[start : start + BLOCK_SIZE]) for start in range(0, len(view), BLOCK_SIZE))


def content_hash(payload_length: int, k: int, data_crcs: Iterable[Sequence[int]]) -> bytes:
    """Hash that names a stripe's content: over its length and the block CRCs of data shards 0 … k-1, in order."""
    digest = hashlib.blake2b(_CONTENT_MAGIC, digest_size=HASH_LENGTH)
    digest.update(struct.pack("<QI", payload_length, k))
    for crcs in data_crcs:
        digest.update(struct.pack(f"<{len(crcs)}I", *crcs))
    return digest.digest()


def build_header(header: ShardHeader) -> bytes:
    """The 4016 bytes of a header. Raises ValueError if `header` could not be parsed again: that is a bug."""
    flaw = _flaw(header)
    if flaw:
        raise ValueError(f"not a possible shard: {flaw}")
    body = _FIXED.pack(
        MAGIC,
        FORMAT,
        0,
        HEADER_LENGTH,
        header.pool_id,
        header.space.encode(),
        header.index,
        header.k,
        header.m,
        header.geometry_id,
        header.stripe_id,
        header.payload_length,
        header.fragment_length,
        BLOCK_SIZE,
        header.content_hash,
        CODE_NAME,
        header.fragment_header_crc,
        len(header.block_crcs),
    )
    body += struct.pack(f"<{len(header.block_crcs)}I", *header.block_crcs)
    body = body.ljust(_HASHED, b"\0")
    return body + _hash(body)


def parse_header(buffer: Buffer) -> ShardHeader:
    """The header at the start of `buffer`, which must hold at least its 4016 bytes; all of it is checked.

    Raises CorruptError; FormatTooNewError for a valid header of a newer format.
    """
    view = memoryview(buffer)[:HEADER_LENGTH]
    if len(view) < HEADER_LENGTH:
        raise CorruptError(f"shard header is cut off after {len(view)} of {HEADER_LENGTH} bytes")
    if view[:8] != MAGIC:
        raise CorruptError("not a shard: wrong magic")
    if _hash(view[:_HASHED]) != view[_HASHED:]:
        raise CorruptError("shard header fails its hash")
    header = _parse_fields(view)
    flaw = _flaw(header)
    if flaw:
        raise CorruptError(f"shard header contradicts itself: {flaw}")
    return header


def _parse_fields(view: memoryview) -> ShardHeader:
    """The fields of a header whose magic and hash hold. Checks what is constant in this format."""
    (_, version, flags, length, pool_id, space, index, k, m, geometry_id, stripe, payload_length, fragment_length,
     block_size, content, code, fragment_crc, blocks) = _FIXED.unpack_from(view)  # fmt: skip
    if version > FORMAT:
        raise FormatTooNewError(f"a shard has format {version}, this ecfs knows {FORMAT}: use a newer ecfs")
    if (version, flags, length, block_size, code) != (FORMAT, 0, HEADER_LENGTH, BLOCK_SIZE, CODE_NAME):
        raise CorruptError("shard header has an impossible format, flag, length, block size or code")
    if blocks > MAX_BLOCKS or any(view[_FIXED.size + 4 * blocks : _HASHED]):
        raise CorruptError("shard header has too many blocks or reserved bytes that are not zero")
    crcs = struct.unpack_from(f"<{blocks}I", view, _FIXED.size)
    return ShardHeader(
        pool_id, space.decode("latin-1"), index, k, m, geometry_id, stripe, payload_length, fragment_length,
        content, fragment_crc, crcs,
    )  # fmt: skip


def _flaw(header: ShardHeader) -> str | None:
    """Why no stripe can have this shard, or None. The bounds are those of `geometry`."""
    k, m = header.k, header.m
    if header.space not in SPACES or len(header.pool_id) != 16 or len(header.content_hash) != HASH_LENGTH:
        return "key space, pool id or hash"
    if not (1 <= m < k and k + m <= MAX_DRIVES and 0 <= header.index < k + m):
        return f"shard {header.index} of {k}+{m}"
    if not (0 < epoch_of(header.stripe_id) < 1 << 31):
        return "stripe id"
    if header.payload_length < 1 or header.fragment_length != -(-header.payload_length // k):
        return f"fragments of {header.fragment_length} bytes for a payload of {header.payload_length}"
    if not len(header.block_crcs) == block_count(header.fragment_length) <= MAX_BLOCKS:
        return f"{len(header.block_crcs)} blocks in a fragment of {header.fragment_length} bytes"
    return None


def _hash(data: Buffer) -> bytes:
    return hashlib.blake2b(data, digest_size=HASH_LENGTH).digest()


def check_fragment_header(header: ShardHeader, data: Buffer) -> None:
    """Check the 80 bytes that the erasure library wrote. Raises CorruptError."""
    if len(data) != FRAGMENT_HEADER or crc32(data) != header.fragment_header_crc:
        raise CorruptError("the erasure library's fragment header fails its checksum")


def check_block(header: ShardHeader, number: int, data: Buffer) -> None:
    """Check that `data` is the whole block `number` of this shard. Raises CorruptError."""
    if not 0 <= number < len(header.block_crcs):
        raise CorruptError(f"there is no block {number} in a shard of {len(header.block_crcs)}")
    if len(data) != header.block_length(number):
        raise CorruptError(f"block {number} has {len(data)} bytes instead of {header.block_length(number)}")
    if crc32(data) != header.block_crcs[number]:
        raise CorruptError(f"block {number} fails its checksum")


def verify_shard(data: Buffer) -> ShardHeader:
    """Check every byte of a whole shard and return its header. Raises CorruptError or FormatTooNewError."""
    view = memoryview(data)
    header = parse_header(view)
    if len(view) != header.file_length:
        raise CorruptError(f"shard has {len(view)} bytes instead of {header.file_length}")
    check_fragment(header, view[HEADER_LENGTH:])
    return header


def check_fragment(header: ShardHeader, fragment: Buffer) -> None:
    """Check all that stands behind the header of a shard. Raises CorruptError."""
    view = memoryview(fragment)
    if len(view) != header.file_length - HEADER_LENGTH:
        raise CorruptError(f"fragment has {len(view)} bytes instead of {header.file_length - HEADER_LENGTH}")
    check_fragment_header(header, view[:FRAGMENT_HEADER])
    for number in range(len(header.block_crcs)):
        start = FRAGMENT_HEADER + number * BLOCK_SIZE
        check_block(header, number, view[start : start + BLOCK_SIZE])


def shard_key(space: str, stripe: int) -> str:
    """The key under which every drive keeps its shard of a stripe: s/EEEEEEEE/CCCCCCCC or c/EEEEEEEE.CCCCCCCC."""
    if space not in SPACES:
        raise ValueError(f"no such key space: {space!r}")
    epoch, counter = epoch_of(stripe), counter_of(stripe)
    stripe_id(epoch, counter)  # refuses what is out of range
    return f"{space}/{epoch:08x}{'/' if space == 's' else '.'}{counter:08x}"


def parse_key(key: str) -> tuple[str, int]:
    """(space, stripe id) of a shard's key; inverse of `shard_key`. Raises CorruptError for anything else."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise CorruptError(f"not the key of a shard: {key!r}")
    epoch = int(match[2] or match[4], 16)
    if not 0 < epoch < 1 << 31:
        raise CorruptError(f"no such epoch: {key!r}")
    return match[1] or match[3], epoch << COUNTER_BITS | int(match[5], 16)
