"""ISA-L, the library below pyeclib, called by itself: on the bytes where they lie, and without the GIL.

pyeclib copies a payload into fragments and the fragments into Python's bytes, with the GIL held: of 4 MiB 10 MiB, four
times as long as the parity takes. The functions are those of ISA-L's `erasure_code.h`, the code is that of
`isa_l_rs_cauchy`: below the identity, parity row i over column j is 1 / (i xor j) in GF(2^8).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

from ecfs.errors import EcfsError

_TABLE = 32
"""Bytes of tables for each coefficient."""
_int, _buffer, _pointers = ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
_ARGUMENTS = {
    "gf_gen_cauchy1_matrix": (_buffer, _int, _int),
    "gf_invert_matrix": (_buffer, _buffer, _int),
    "gf_mul": (ctypes.c_ubyte, ctypes.c_ubyte),
    "ec_init_tables": (_int, _int, _buffer, _buffer),
    "ec_encode_data": (_int, _int, _int, _buffer, _pointers, _pointers),
}


class Matrix:
    """Rows of k coefficients each, one row for each fragment that is to be computed."""

    def __init__(self, library: ctypes.CDLL, k: int, rows: bytes) -> None:
        self._k, self._count = k, len(rows) // k
        self._tables = ctypes.create_string_buffer(_TABLE * len(rows))
        self._encode = library.ec_encode_data
        library.ec_init_tables(k, self._count, ctypes.create_string_buffer(rows, len(rows)), self._tables)

    def apply(self, size: int, sources: Sequence[tuple[bytes, int]], targets: Sequence[tuple[bytearray, int]]) -> None:
        """Compute `size` bytes of each target from as many of the k sources: (buffer, offset in it)."""
        if len(sources) != self._k or len(targets) != self._count:
            raise ValueError(f"{self._count} rows of {self._k}: not {len(targets)} of {len(sources)}")
        if any(not 0 <= offset <= len(buffer) - size for buffer, offset in (*sources, *targets)):
            raise ValueError(f"a buffer is too short for {size} bytes")
        given = (ctypes.c_void_p * self._k)(*(_address(buffer) + offset for buffer, offset in sources))
        wanted = (ctypes.c_void_p * self._count)(
            *(ctypes.addressof(ctypes.c_char.from_buffer(buffer, offset)) for buffer, offset in targets)
        )
        self._encode(size, self._k, self._count, self._tables, given, wanted)


def _address(buffer: bytes) -> int:
    """Of what can neither change nor move. Raises TypeError for anything but bytes."""
    return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0


@functools.cache
def parity(k: int, m: int) -> Matrix | None:
    """The m parity fragments from the k data fragments. None where pyeclib has not loaded the library."""
    library = _library()
    return None if library is None else Matrix(library, k, _generator(library, k, m)[k * k :])


@functools.lru_cache(maxsize=1024)
def recovery(k: int, m: int, given: tuple[int, ...], lost: tuple[int, ...]) -> Matrix | None:
    """The `lost` fragments, one at least, from those of the k indexes `given`, in this order. None as for `parity`."""
    library = _library()
    if library is None:
        return None
    generator = _generator(library, k, m)
    rows = [generator[index * k : index * k + k] for index in range(k + m)]
    inverse = ctypes.create_string_buffer(k * k)
    if library.gf_invert_matrix(ctypes.create_string_buffer(b"".join(rows[i] for i in given), k * k), inverse, k):
        raise EcfsError(f"the fragments {list(given)} of {k}+{m} do not determine the others")

    def times_inverse(row: bytes) -> bytes:
        columns = [inverse.raw[column::k] for column in range(k)]
        products = ([library.gf_mul(*pair) & 0xFF for pair in zip(row, column, strict=True)] for column in columns)
        return bytes(functools.reduce(int.__xor__, each) for each in products)

    return Matrix(library, k, b"".join(times_inverse(rows[index]) for index in lost))


def _generator(library: ctypes.CDLL, k: int, m: int) -> bytes:
    matrix = ctypes.create_string_buffer((k + m) * k)
    library.gf_gen_cauchy1_matrix(matrix, k + m, k)
    return matrix.raw


@functools.cache
def _library() -> ctypes.CDLL | None:
    """None where it can't be found, or lacks these functions."""
    path = _loaded()
    if path is None:
        return None
    try:
        library = ctypes.CDLL(path)
        for name, arguments in _ARGUMENTS.items():
            getattr(library, name).argtypes = arguments
    except (OSError, AttributeError):
        return None
    return library


def _loaded() -> str | None:
    """The very file that pyeclib uses, whether it came with its wheel or with the system."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(maxsplit=5)[5] for line in lines if "/libisal" in line), None)
