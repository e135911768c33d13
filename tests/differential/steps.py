"""Steps as plain data: any list of them can be run, cut short, printed and read again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from random import Random

Argument = str | int
Step = tuple[Argument, ...]
"""(user, operation, arguments…)."""

PATHS = ("a", "b", "c", "d", "e", "d/a", "d/b", "d/e", "e/a", "e/f", "d/e/a", "n" * 255, "\udcff\udcfe \n", "none/a")
TARGETS = (*PATHS[:8], "../a", "loop", "")
SLOTS = 6
USERS = (0, 0, 0, 0, 1000)
"""Root mostly; somebody else to see that the rights are the same."""
OPEN_FLAGS = (0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_CREAT | os.O_TRUNC)
OPEN_MORE = (0, 0, 0, os.O_APPEND, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY)
ACCESS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR)
MODES = (0o644, 0o600, 0o755, 0o777, 0o4755, 0o2755, 0o1777, 0o000)
XATTRS = ("user.one", "user.two", "user.", "trusted.t", "nonsense")
ACL = "system.posix_acl_access"
DISASTERS = ("remount", "lose", "scrub")


def _offset(chance: Random) -> int:
    """Mostly within some pages, sometimes beyond a stripe."""
    return chance.randrange(chance.choice((10, 5000, 5000, 70_000, 70_000, 1 << 20, 11 << 20)))


def _length(chance: Random) -> int:
    return chance.randrange(chance.choice((2, 100, 100, 5000, 5000, 140_000, 2 << 20)))


def _path(chance: Random) -> str:
    return chance.choice(PATHS)


def _slot(chance: Random) -> int:
    return chance.randrange(SLOTS)


def _time(chance: Random) -> int:
    """Nanoseconds; -1 is UTIME_NOW, -2 UTIME_OMIT."""
    return chance.choice((-1, -2, 0, 1_000_000_007, 1_600_000_000_123_456_789))


def _seed(chance: Random) -> int:
    return chance.randrange(1 << 16)


def _one_of(*values: Argument) -> Callable[[Random], Argument]:
    return lambda chance: chance.choice(values)


def _open_flags(chance: Random) -> int:
    return chance.choice(ACCESS) | chance.choice(OPEN_FLAGS) | chance.choice(OPEN_MORE)


_mode = _one_of(*MODES)
_owner = _one_of(-1, 0, 1000, 1001)
_size = _offset

# Name of the operation: how often, and what makes its arguments.
OPERATIONS: dict[str, tuple[int, tuple[Callable[[Random], Argument], ...]]] = {
    "open": (14, (_slot, _path, _open_flags, _mode)),
    "close": (3, (_slot,)),
    "dup": (1, (_slot, _slot)),
    "pread": (6, (_slot, _offset, _length)),
    "pwrite": (12, (_slot, _offset, _length, _seed)),
    "read": (3, (_slot, _length)),
    "write": (8, (_slot, _length, _seed)),
    "seek": (2, (_slot, _offset, _one_of(os.SEEK_SET, os.SEEK_CUR, os.SEEK_END))),
    "ftruncate": (4, (_slot, _size)),
    "truncate": (3, (_path, _size)),
    "fsync": (2, (_slot,)),
    "fstat": (2, (_slot,)),
    "map_write": (4, (_slot, _offset, _length, _seed)),
    "map_read": (2, (_slot,)),
    "sendfile": (1, (_slot, _slot, _offset, _length)),
    "copy_range": (1, (_slot, _slot, _offset, _offset, _length)),
    "mkdir": (5, (_path, _mode)),
    "rmdir": (3, (_path,)),
    "unlink": (5, (_path,)),
    "rename": (8, (_path, _path, _one_of(0, 0, 0, 1, 2))),
    "link": (4, (_path, _path)),
    "symlink": (3, (_one_of(*TARGETS), _path)),
    "readlink": (1, (_path,)),
    "mkfifo": (1, (_path, _mode)),
    "chmod": (3, (_path, _mode)),
    "fchmod": (1, (_slot, _mode)),
    "chown": (3, (_path, _owner, _owner)),
    "utimens": (3, (_path, _time, _time)),
    "setxattr": (3, (_path, _one_of(*XATTRS), _seed, _one_of(0, 0, 1, 2))),
    "getxattr": (1, (_path, _one_of(*XATTRS))),
    "removexattr": (1, (_path, _one_of(*XATTRS))),
    "setacl": (1, (_path, _seed)),
    "listdir": (2, (_path,)),
    "churn": (1, (_path, _seed)),
    "together": (1, (_path, _length, _seed)),
}


def random_steps(chance: Random, count: int) -> list[Step]:
    names = list(OPERATIONS)
    weights = [weight for weight, _ in OPERATIONS.values()]
    return [_step(chance, name) for name in chance.choices(names, weights, k=count)]


def _step(chance: Random, name: str) -> Step:
    return (chance.choice(USERS), name, *(make(chance) for make in OPERATIONS[name][1]))


def with_disasters(steps: list[Step], chance: Random, every: int) -> list[Step]:
    """About one remount, loss of two drives or scrub per so many steps."""
    mixed: list[Step] = []
    for step in steps:
        if chance.random() * every < 1:
            mixed.append((0, chance.choice(DISASTERS), chance.randrange(15)))
        mixed.append(step)
    return mixed


def to_script(steps: Iterable[Step]) -> str:
    """One line per step."""
    return "".join(json.dumps(step) + "\n" for step in steps)


def from_script(text: str) -> list[Step]:
    return [tuple(json.loads(line)) for line in text.splitlines() if line.startswith("[")]
