"""Every error of ecfs has an errno that somebody decided about."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from ecfs import errors
from ecfs.fs.errors import _ERRNO, FsError, Use, errno_of


def tree(root: type[errors.EcfsError]) -> Iterator[type[errors.EcfsError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


@pytest.mark.parametrize("kind", list(tree(errors.EcfsError)), ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_is_decided_for_every_use(kind: type[errors.EcfsError]) -> None:
    assert kind in _ERRNO, f"say in fs/errors.py what {kind.__name__} means to a program"
    assert set(_ERRNO[kind]) == set(Use)
    assert all(number in errno.errorcode for number in _ERRNO[kind].values())


def test_no_answer_makes_the_kernel_stop_asking() -> None:
    """ENOSYS would switch a request off for good; 0 would be success."""
    answers = {number for answer in _ERRNO.values() for number in answer.values()}
    assert not answers & {errno.ENOSYS, 0}


@pytest.mark.parametrize(
    ("error", "read", "change", "sync"),
    [
        (errors.PoolFullError("full"), errno.EIO, errno.ENOSPC, errno.ENOSPC),
        (errors.StalledError("stalled"), errno.EIO, errno.EROFS, errno.EIO),
        (errors.NoRoomError("full"), errno.EIO, errno.ENOSPC, errno.ENOSPC),
        (errors.FencedError("fenced"), errno.EIO, errno.EROFS, errno.EIO),
        (errors.NotEnoughDrivesError("three"), errno.EIO, errno.EROFS, errno.EIO),
        (errors.StripeLostError(1, {0: "gone"}), errno.EIO, errno.EIO, errno.EIO),
        (errors.CorruptError("rotten"), errno.EIO, errno.EIO, errno.EIO),
    ],
)
def test_the_answers_that_the_rules_name(error: errors.EcfsError, read: int, change: int, sync: int) -> None:
    assert [errno_of(error, use) for use in (Use.READ, Use.CHANGE, Use.SYNC)] == [read, change, sync]


def test_an_unknown_subclass_is_eio() -> None:
    class Surprise(errors.PoolFullError):
        pass

    assert errno_of(Surprise("?"), Use.CHANGE) == errno.EIO


def test_text_names_the_errno() -> None:
    assert str(FsError(errno.ENOENT)) == "ENOENT: No such file or directory"
    assert str(FsError(errno.EINVAL, "why")) == "EINVAL: why"
