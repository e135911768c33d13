"""The adapter: every handler is contained, and every error has its answer. Mounts nothing."""

from __future__ import annotations

import errno
import inspect
import logging

import pyfuse3
import pytest
import trio

from ecfs.errors import StalledError
from ecfs.fs.errors import FsError, Use
from ecfs.fuse import EcfsOperations, _handler, fuse_options

UNANSWERED = {"flush", "forget"}
"""flush answers ENOSYS and nothing else; forget has no answer and catches everything itself."""
LEFT_OUT = {"access", "poll"}
"""The kernel checks permissions (default_permissions); files are always ready."""
HANDLERS = {name for name, member in vars(pyfuse3.Operations).items() if inspect.iscoroutinefunction(member)}


def test_every_request_has_a_contained_handler() -> None:
    ours = {name for name in HANDLERS if name in vars(EcfsOperations)}
    assert ours == HANDLERS - LEFT_OUT
    assert all(hasattr(vars(EcfsOperations)[name], "__wrapped__") for name in ours - UNANSWERED)


class Raising(EcfsOperations):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    @_handler(Use.CHANGE)
    async def change(self) -> None:
        raise self.error

    @_handler(Use.SYNC)
    async def sync(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "change", "sync"),
    [
        (FsError(errno.ENOTEMPTY), errno.ENOTEMPTY, errno.ENOTEMPTY),
        (StalledError("stalled"), errno.EROFS, errno.EIO),
        (pyfuse3.FUSEError(errno.EXDEV), errno.EXDEV, errno.EXDEV),
        (KeyError("a bug"), errno.EIO, errno.EIO),
        (ExceptionGroup("bugs", [ValueError(), OSError(errno.ENOENT, "")]), errno.EIO, errno.EIO),
        (RecursionError(), errno.EIO, errno.EIO),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_errors_become_answers(error: Exception, change: int, sync: int) -> None:
    operations = Raising(error)
    for handler, number in ((operations.change, change), (operations.sync, sync)):
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await handler()
        assert caught.value.errno == number


async def test_a_bug_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(pyfuse3.FUSEError):
        await Raising(KeyError("a bug")).change()
    [record] = caplog.records
    assert record.exc_info is not None
    assert "change" in record.getMessage()


async def test_cancellation_passes() -> None:
    with trio.move_on_after(0) as scope:

        class Waiting(EcfsOperations):
            def __init__(self) -> None:
                pass

            @_handler(Use.READ)
            async def wait(self) -> None:
                await trio.sleep_forever()

        await Waiting().wait()
    assert scope.cancelled_caught


async def test_forget_survives_anything(caplog: pytest.LogCaptureFixture) -> None:
    operations = Raising(KeyError())  # it has no file system at all
    await operations.forget([(2, 1)])
    assert "forget" in caplog.text


def test_options() -> None:
    assert fuse_options() == {"fsname=ecfs", "subtype=ecfs", "default_permissions"}
    assert {"allow_other", "ro", "suid", "dev", "noatime"} < fuse_options(
        allow_other=True, read_only=True, suid=True, dev=True, extra=["noatime"]
    )


def test_a_source_with_commas_stays_one_option() -> None:
    assert "fsname=/pools/a\\,b\\\\c" in fuse_options(source="/pools/a,b\\c")
