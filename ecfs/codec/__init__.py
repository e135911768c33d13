"""The erasure code: k data fragments, m parity fragments, any k of them give back all. The only importer of pyeclib.

Stripes are encoded by `cut`, which gives views of the payload and computes parity by the library below (`isa_l`).

What the library does not do, and who does it instead (each was measured, `tests/unit/test_codec.py` repeats it):

* It returns wrong data without an error when a fragment is damaged. So every input of `rebuild` must have been
  verified by the caller, and exactly k are used: surplus fragments would only hide which ones counted.
* It aborts the process on a memoryview. So only `bytes` are passed on.
* It wants its own 80-byte header before each fragment. The code itself works byte by byte: byte i of a fragment
  depends on byte i of k others and nothing else. So `rebuild` works on any run of bytes cut out of k fragments at the
  same offset; the headers it needs are taken from an encoding of as many zeros.

Fragment data is ``ceil(L / k)`` bytes, systematic and contiguous: data fragment i is payload[i*f : (i+1)*f], the last
one padded with zeros. `self_test` proves all this before a pool is opened. Calls hold the GIL, that of `isa_l` aside,
and share one library instance per (k, m) and process, so threads may call at any time but gain nothing.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from pyeclib.ec_iface import ECDriver, ECDriverError

from ecfs.codec import isa_l
from ecfs.errors import EcfsError
from ecfs.geometry import FRAGMENT_HEADER

CODE_NAME = "isa_l_rs_cauchy"
Buffer = bytes | bytearray | memoryview

CUT = 64 * 1024
"""A payload of a multiple of k * so many bytes is cut where it lies. Few lengths only, since each needs headers of its
own, which are made by encoding as many zeros."""

_GOLDEN_LENGTH = 1013
"""Bytes of the known payload: not a multiple of 2, 4 or 8, so that padding is part of the proof."""

_GOLDEN = {
    (2, 1): "61482e3ee94b6f53f9a7b2654448e1fa",
    (4, 2): "7b78046f89c4b4290f1f100e73f2ffe5",
    (8, 3): "4d2acdef2de720320e3f31ac160c2e11",
}
"""blake2b-128 of all fragments' data of the known payload."""


class Fragment(NamedTuple):
    """One fragment. header: the library's 80 bytes. data: ``ceil(L / k)`` bytes."""

    header: bytes
    data: Buffer


class Codec:
    """Encodes stripes and rebuilds runs of fragments of one k + m. Cheap to make; stateless."""

    def __init__(self, k: int, m: int) -> None:
        self.k = k
        self.m = m
        self.n = k + m
        self._driver = _driver(k, m)

    def encode(self, payload: bytes) -> list[bytes]:
        """The n fragments of a payload of at least one byte, each 80 header bytes + ceil(len / k) data bytes."""
        if not isinstance(payload, bytes):
            raise TypeError(f"payload must be bytes, not {type(payload).__name__}")
        if not payload:
            raise ValueError("an empty stripe can't be encoded")
        try:
            fragments: list[bytes] = self._driver.encode(payload)
        except ECDriverError as error:
            raise EcfsError(f"the erasure code failed to encode {len(payload)} bytes: {error}") from error
        size = FRAGMENT_HEADER - (-len(payload) // self.k)
        if len(fragments) != self.n or any(len(fragment) != size for fragment in fragments):
            # Offsets of everything stored follow from this size; going on would store what can't be found again.
            raise EcfsError(f"the erasure code gave {len(fragments)} fragments that are not all of {size} bytes")
        return fragments

    def cut(self, payload: bytes) -> list[Fragment]:
        """As `encode`, and without its copies where the payload can be cut into k pieces without padding: then the data
        are views of it. Raises as `encode`."""
        matrix = None if len(payload) % (self.k * CUT) else isa_l.parity(self.k, self.m)
        if matrix is None or not payload:
            return [
                Fragment(fragment[:FRAGMENT_HEADER], memoryview(fragment)[FRAGMENT_HEADER:])
                for fragment in self.encode(payload)
            ]
        size = len(payload) // self.k
        starts, parity = range(0, len(payload), size), [bytearray(size) for _ in range(self.m)]
        matrix.apply(size, [(payload, start) for start in starts], [(each, 0) for each in parity])
        data: list[Buffer] = [memoryview(payload)[start : start + size] for start in starts]
        return [Fragment(*pair) for pair in zip(self.fragment_headers(len(payload)), [*data, *parity], strict=True)]

    def rebuild(self, blocks: Mapping[int, Buffer], length: int, wanted: Sequence[int]) -> dict[int, bytes]:
        """The runs of the `wanted` fragments, from the same run of exactly k others.

        blocks: fragment index → `length` > 0 raw data bytes (no 80-byte header), already verified, all from the same
        offset of their fragments. wanted: indexes of data or parity. Wrong inputs give wrong output, silently.
        """
        if len(blocks) != self.k or length < 1 or any(len(run) != length for run in blocks.values()):
            raise ValueError(f"need {self.k} runs of {length} bytes, got {[len(run) for run in blocks.values()]}")
        self._check_indexes(blocks, wanted)
        lost = [index for index in dict.fromkeys(wanted) if index not in blocks]
        headers = self.fragment_headers(self.k * length)
        sources = {index: b"".join((headers[index], run)) for index, run in blocks.items()} if lost else {}
        rebuilt = self._reconstruct(sources, headers, lost)
        return {
            index: rebuilt[index][FRAGMENT_HEADER:] if index in rebuilt else bytes(blocks[index]) for index in wanted
        }

    def restore(self, fragments: Mapping[int, Buffer], payload_length: int, wanted: Sequence[int]) -> dict[int, Buffer]:
        """The `wanted` fragments of a payload as `encode` gave them, header included, from exactly k others.

        fragments: whole ones with any header of 80 bytes; their data must have been verified. Not copied where the
        header is that of our library.
        """
        headers = self.fragment_headers(payload_length)
        size = FRAGMENT_HEADER - (-payload_length // self.k)
        if len(fragments) != self.k or any(len(fragment) != size for fragment in fragments.values()):
            raise ValueError(f"need {self.k} fragments of {size} bytes, got {[*map(len, fragments.values())]}")
        self._check_indexes(fragments, wanted)
        own = {index: _with_header(headers[index], fragment) for index, fragment in fragments.items()}
        lost = [index for index in dict.fromkeys(wanted) if index not in own]
        rebuilt = self._restore(own, headers, lost)
        return {index: rebuilt[index] if index in rebuilt else own[index] for index in wanted}

    def _restore(
        self, fragments: Mapping[int, bytes], headers: Sequence[bytes], lost: Sequence[int]
    ) -> Mapping[int, Buffer]:
        matrix = isa_l.recovery(self.k, self.m, tuple(fragments), tuple(lost)) if lost else None
        if matrix is None:
            return self._reconstruct(fragments, headers, lost)
        size = len(next(iter(fragments.values())))
        rebuilt = {index: bytearray(size) for index in lost}
        for index, fragment in rebuilt.items():
            fragment[:FRAGMENT_HEADER] = headers[index]
        matrix.apply(
            size - FRAGMENT_HEADER,
            [(fragment, FRAGMENT_HEADER) for fragment in fragments.values()],
            [(fragment, FRAGMENT_HEADER) for fragment in rebuilt.values()],
        )
        return rebuilt

    def _check_indexes(self, given: Collection[int], wanted: Sequence[int]) -> None:
        if not all(0 <= index < self.n for index in (*given, *wanted)):
            raise ValueError(f"no such fragments in {self.k}+{self.m}: {sorted(given)} -> {list(wanted)}")

    def _reconstruct(
        self, fragments: Mapping[int, bytes], headers: Sequence[bytes], lost: Sequence[int]
    ) -> dict[int, bytes]:
        """The lost fragments from exactly k others, all with our own headers."""
        sources = [fragment for _, fragment in sorted(fragments.items())]
        return {index: self._reconstruct_one(sources, headers[index], index) for index in lost}

    def _reconstruct_one(self, sources: list[bytes], header: bytes, index: int) -> bytes:
        try:
            (fragment,) = self._driver.reconstruct(sources, [index])
        except ECDriverError as error:
            raise EcfsError(f"the erasure code failed to rebuild fragment {index}: {error}") from error
        if len(fragment) != len(sources[0]) or not fragment.startswith(header):
            raise EcfsError(f"the erasure code rebuilt something else than fragment {index}")
        return bytes(fragment)

    def fragment_headers(self, payload_length: int) -> tuple[bytes, ...]:
        """The library's 80-byte headers of all n fragments of any payload of that length (it has no checksum of
        the data in it)."""
        return _headers(self.k, self.m, payload_length)


def _with_header(header: bytes, fragment: Buffer) -> bytes:
    """Another build of the library, or a hostile drive, wrote another header; ours must not read it."""
    if isinstance(fragment, bytes) and fragment.startswith(header):
        return fragment
    return header + fragment[FRAGMENT_HEADER:]


@functools.cache
def _driver(k: int, m: int) -> ECDriver:
    """The library instance of a k + m; one per process, since each holds tables and a slot in a global list."""
    try:
        return ECDriver(k=k, m=m, ec_type=CODE_NAME, chksum_type="none")
    except Exception as error:  # the library's own errors, or whatever a missing shared object raises
        raise EcfsError(f"the erasure code {CODE_NAME} {k}+{m} is not available: {error}") from error


@functools.lru_cache(maxsize=256)
def _headers(k: int, m: int, payload_length: int) -> tuple[bytes, ...]:
    """See `Codec.fragment_headers`. 256 entries of n * 113 bytes: at most 1 MiB."""
    fragments = Codec(k, m).encode(bytes(payload_length))
    return tuple(fragment[:FRAGMENT_HEADER] for fragment in fragments)


def self_test() -> None:
    """Prove the library: known answers, the layout, and every pattern of up to m losses. Takes a few ms.

    Raises EcfsError. A library that computes another code would make every stored shard unreadable, and every
    new one unreadable for the right library: nothing may be opened with it.
    """
    for (k, m), golden in _GOLDEN.items():
        codec = Codec(k, m)
        fragments = [fragment[FRAGMENT_HEADER:] for fragment in codec.encode(golden_payload())]
        if hashlib.blake2b(b"".join(fragments), digest_size=16).hexdigest() != golden:
            raise EcfsError(f"the erasure code {CODE_NAME} {k}+{m} computes other parity than it must; not starting")
        if b"".join(fragments[:k])[:_GOLDEN_LENGTH] != golden_payload():
            raise EcfsError(f"the erasure code {CODE_NAME} {k}+{m} does not keep data as it is; not starting")
        _test_losses(codec, fragments)
        _test_cut(codec)


def _test_cut(codec: Codec) -> None:
    """What is computed without pyeclib must be the same, byte for byte."""
    payload = (golden_payload() * codec.k * (CUT // _GOLDEN_LENGTH + 1))[: codec.k * CUT]
    fragments = codec.encode(payload)
    if [b"".join(fragment) for fragment in codec.cut(payload)] != fragments:
        raise EcfsError(f"ISA-L computes other parity than {CODE_NAME} {codec.k}+{codec.m}; not starting")
    for lost in itertools.combinations(range(codec.n), codec.m):
        kept = {index: fragments[index] for index in range(codec.n) if index not in lost}
        restored = codec.restore(kept, len(payload), lost)
        if any(restored[index] != fragments[index] for index in lost):
            raise EcfsError(f"ISA-L can't restore {lost} of {CODE_NAME} {codec.k}+{codec.m}; not starting")


def golden_payload() -> bytes:
    """The known payload of the self-test: bytes that any program can make again."""
    return bytes((i * i + i // 256) % 251 for i in range(_GOLDEN_LENGTH))


def _test_losses(codec: Codec, fragments: list[bytes]) -> None:
    """Rebuild every m of the n fragments from every other k."""
    for lost in itertools.combinations(range(codec.n), codec.m):
        kept = {index: fragments[index] for index in range(codec.n) if index not in lost}
        rebuilt = codec.rebuild(kept, len(fragments[0]), lost)
        if any(rebuilt[index] != fragments[index] for index in lost):
            raise EcfsError(f"the erasure code {CODE_NAME} {codec.k}+{codec.m} can't rebuild {lost}; not starting")
