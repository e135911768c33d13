"""The first part of the demo: one sentence through the real code and shard format, in a plain folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from ecfs.codec import Codec, self_test
from ecfs.errors import CorruptError
from ecfs.geometry import BLOCK_SIZE, Geometry, stripe_id
from ecfs.shard import DATA_OFFSET, verify_shard
from ecfs.stripes.writer import encode_stripe

SENTENCE = "Six drives keep this sentence; any two of them may vanish, and still not one letter of it is lost."
LOST = (0, 5)

Say = Callable[[str], None]


def tell_sentence(folder: Path, say: Say) -> bool:
    """Encode the sentence into six shard files, delete two, rebuild. Whether it came back."""
    self_test()
    geometry, payload = Geometry(1, 4, 2), SENTENCE.encode()
    write_shards(folder, geometry, payload)
    fragment = geometry.fragment_length(len(payload))
    say(f"a sentence of {len(payload)} bytes became 4 data + 2 parity shards of {fragment} bytes:")
    for index in range(geometry.n):
        say(f"  d{index}/shard  {_glimpse(folder, index)}")
    for index in LOST:
        (folder / f"d{index}" / "shard").unlink()
    say(f"deleted the shards on {' and '.join(f'd{index}' for index in LOST)}; the other four give back:")
    text = read_back(folder, geometry)
    say(f"  {text.decode()}")
    return text == payload


def write_shards(folder: Path, geometry: Geometry, payload: bytes) -> None:
    pool_id = hashlib.blake2b(b"demo", digest_size=16).digest()
    encoded = encode_stripe(pool_id, stripe_id(1, 0), "s", geometry, payload)
    for index in range(geometry.n):
        place = folder / f"d{index}"
        place.mkdir(mode=0o700)
        (place / "shard").write_bytes(b"".join(encoded.buffers(index)))


def _glimpse(folder: Path, index: int) -> str:
    data = (folder / f"d{index}" / "shard").read_bytes()[DATA_OFFSET:]
    if index < 4:
        return repr(data.rstrip(b"\0").decode())
    return f"{data[:12].hex(' ')} …  (parity)"


def read_back(folder: Path, geometry: Geometry) -> bytes:
    """The payload from whatever shards are there and hold their checks. Raises CorruptError if they are too few."""
    blocks: dict[int, bytes] = {}
    length = 0
    for path in sorted(folder.glob("d*/shard")):
        data = path.read_bytes()
        header = verify_shard(data)
        length = header.payload_length
        if len(blocks) < geometry.k:
            blocks[header.index] = data[DATA_OFFSET:]
    if len(blocks) < geometry.k:
        raise CorruptError(f"only {len(blocks)} shards are left, {geometry.k} are needed")
    fragment = geometry.fragment_length(length)
    if fragment > BLOCK_SIZE:
        raise CorruptError("the demo reads one block only")
    rebuilt = Codec(geometry.k, geometry.m).rebuild(blocks, fragment, range(geometry.k))
    return b"".join(rebuilt[index] for index in range(geometry.k))[:length]
