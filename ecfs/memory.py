"""How the C library hands memory back to the kernel, set once for a daemon that moves megabytes all the time.

By default glibc returns a freed stripe at once and faults every page of the next one in again: encoding 4 MiB took
4.9 ms instead of 1.5, reading 1 MiB 1.0 ms instead of 0.36. Keeping the memory costs nothing that the limits of
`pool.settings` and `node.guard` do not bound already, if few arenas do it: each keeps what was its own peak.
"""

from __future__ import annotations

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3)
_KEPT = 128 << 20
_OWN_MAPPING = 32 << 20
"""The most that glibc accepts."""


def spare_collector() -> None:
    """What was loaded until now stays for good: Python's garbage collector need not walk through it any more.

    A full collection of the modules alone holds up every request for 10 to 25 ms, whenever a quarter more objects live.
    """
    gc.collect()
    gc.freeze()


def keep_memory(arenas: int) -> bool:
    """Raise the thresholds, and let threads share so many arenas. Before the first threads are started, which would
    have arenas of their own. False on a C library without mallopt, where nothing is changed."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_TRIM_THRESHOLD, _KEPT), (_MMAP_THRESHOLD, _OWN_MAPPING), (_ARENA_MAX, arenas))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings)
