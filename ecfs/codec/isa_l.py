"""Parity computed where the payload lies: ISA-L, the library below pyeclib, called by itself and without the GIL.

pyeclib copies a payload into fragments and the fragments into Python's bytes, with the GIL held: of 4 MiB 10 MiB, four
times as long as the parity takes. The functions are those of ISA-L's `erasure_code.h`, the code is `isa_l_rs_cauchy`'s:
parity row i over column j is 1 / (i xor j) in GF(2^8).
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from ecfs.errors import EcfsError

_TABLE = 32
"""Bytes of tables for each coefficient."""
_Pointers = ctypes.POINTER(ctypes.c_void_p)


class Parity:
    """Computes the m parity fragments of one k + m."""

    def __init__(self, library: ctypes.CDLL, k: int, m: int) -> None:
        self._k, self._m = k, m
        matrix = ctypes.create_string_buffer((k + m) * k)
        self._tables = ctypes.create_string_buffer(_TABLE * k * m)
        library.gf_gen_cauchy1_matrix.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        library.ec_init_tables.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        library.gf_gen_cauchy1_matrix(matrix, k + m, k)
        library.ec_init_tables(k, m, ctypes.byref(matrix, k * k), self._tables)
        self._encode = library.ec_encode_data
        self._encode.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, _Pointers, _Pointers]

    def of(self, payload: bytes) -> list[bytearray]:
        """payload: k fragments one behind the other, none of them padded."""
        size = len(payload) // self._k
        if size * self._k != len(payload):
            raise ValueError(f"{len(payload)} bytes can't be cut into {self._k} pieces of the same length")
        start = ctypes.cast(ctypes.c_char_p(payload), ctypes.c_void_p).value or 0
        parity = [bytearray(size) for _ in range(self._m)]
        sources = (ctypes.c_void_p * self._k)(*(start + index * size for index in range(self._k)))
        targets = (ctypes.c_void_p * self._m)(
            *(ctypes.addressof((ctypes.c_char * size).from_buffer(each)) for each in parity)
        )
        self._encode(size, self._k, self._m, self._tables, sources, targets)
        return parity


@functools.cache
def parity(k: int, m: int) -> Parity | None:
    """None where pyeclib has not loaded the library, or one without these functions."""
    path = _loaded()
    if path is None:
        return None
    try:
        return Parity(ctypes.CDLL(path), k, m)
    except (OSError, AttributeError):
        return None


def _loaded() -> str | None:
    """The very file that pyeclib uses, whether it came with its wheel or with the system."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError as error:
        raise EcfsError(f"/proc/self/maps can't be read: {error.strerror}") from error
    return next((line.split(maxsplit=5)[5] for line in lines if "/libisal" in line), None)
