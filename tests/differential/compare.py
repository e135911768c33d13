"""What two directories have to have in common, and the first thing they have not."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from tests.differential.actor import digest

GRANULE_NS = 20_000_000
"""Times of the plain directory may come from a clock that ticks only so often."""

Facts = dict[str, object]


@dataclass(frozen=True)
class Moment:
    """Facts by path, and (mtime, ctime) by path."""

    facts: dict[str, Facts]
    times: dict[str, tuple[int, int]]


def moment(base: str, *, contents: bool) -> Moment:
    """The whole tree below `base`; inode numbers are replaced by the first path that leads there."""
    facts: dict[str, Facts] = {}
    times: dict[str, tuple[int, int]] = {}
    first: dict[int, str] = {}
    for path in _walk(base):
        name = os.path.relpath(path, base)
        status = os.lstat(path)
        facts[name] = _facts(path, status, contents=contents)
        facts[name]["same as"] = first.setdefault(status.st_ino, name)
        if not stat.S_ISFIFO(status.st_mode):  # the kernel tells a FUSE daemon nothing of writes into one
            times[name] = status.st_mtime_ns, status.st_ctime_ns
    return Moment(facts, times)


def _walk(base: str) -> list[str]:
    found = [base]
    for folder, folders, files in os.walk(base):
        found += [os.path.join(folder, name) for name in (*folders, *files)]
    return sorted(found)


def _facts(path: str, status: os.stat_result, *, contents: bool) -> Facts:
    facts: Facts = {"mode": oct(status.st_mode), "nlink": status.st_nlink, "owner": (status.st_uid, status.st_gid)}
    if not stat.S_ISDIR(status.st_mode):
        facts["size"] = status.st_size
    if stat.S_ISLNK(status.st_mode):
        facts["target"] = os.readlink(path)
    facts["xattrs"] = {name: _xattr(path, name) for name in sorted(os.listxattr(path, follow_symlinks=False))}
    if contents and stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            facts["content"] = digest(file.read())
    return facts


def _xattr(path: str, name: str) -> str:
    try:
        return os.getxattr(path, name, follow_symlinks=False).hex()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def difference(plain: Moment, tested: Moment) -> str | None:
    """None if the trees are the same; times apart."""
    for name in sorted(plain.facts.keys() | tested.facts.keys()):
        one, other = plain.facts.get(name), tested.facts.get(name)
        if one is None or other is None:
            return f"{name!r} exists only {'there' if one is None else 'in the plain directory'}"
        for fact in one:
            if one[fact] != other[fact]:
                return f"{name!r}: {fact} is {other[fact]}, should be {one[fact]}"
    return None


def difference_of_times(
    before: tuple[Moment, Moment], after: tuple[Moment, Moment], *, ticking: bool = False
) -> str | None:
    """None if the same times moved in both trees during one step, as far as the plain one's clock can tell.

    ticking: the tested one's times come from the kernel too, so they may stay within one tick.
    """
    (plain0, tested0), (plain1, tested1) = before, after
    for name in plain0.times.keys() & plain1.times.keys() & tested0.times.keys() & tested1.times.keys():
        for index, which in enumerate(("mtime", "ctime")):
            should = plain0.times[name][index] != plain1.times[name][index]
            moved = tested0.times[name][index] != tested1.times[name][index]
            if should and not moved and not (ticking and _too_soon(plain1, tested1, name, index)):
                return f"{name!r}: {which} stayed, should have moved"
            if moved and not should and not _too_soon(plain1, tested1, name, index):
                return f"{name!r}: {which} moved, should have stayed"
    return None


def _too_soon(plain: Moment, tested: Moment, name: str, index: int) -> bool:
    """Whether a time may have moved within one tick, so that nobody can see it."""
    return abs(tested.times[name][index] - plain.times[name][index]) < GRANULE_NS
