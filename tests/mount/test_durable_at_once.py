"""What is durable when it is answered, although nobody calls fsync: O_DSYNC, the options sync and dirsync, the end."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.real import Pool, mounted_pool
from tests.programs import wait_for_end

pytestmark = pytest.mark.mount

LIBC = ctypes.CDLL(None, use_errno=True)
IO_SETUP, IO_SUBMIT, IO_GETEVENTS = 206, 209, 208
"""Numbers of the system calls, x86_64."""
PWRITE, RWF_DSYNC = 1, 2
PAGE = 4096


class Iocb(ctypes.Structure):
    """struct iocb of linux/aio_abi.h."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("event", ctypes.c_uint32),
    )


class Event(ctypes.Structure):
    """struct io_event."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("iocb", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("second", ctypes.c_int64),
    )


def system_call(*arguments: object) -> int:
    result: int = LIBC.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def write_asynchronously(fd: int, memory: mmap.mmap, flags: int) -> None:
    """As libaio does. Returns when the kernel says that it is done."""
    context = ctypes.c_ulong(0)
    system_call(IO_SETUP, 1, ctypes.byref(context))
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    control = Iocb(opcode=PWRITE, rw_flags=flags, fd=fd, buffer=address, length=len(memory))
    system_call(IO_SUBMIT, context, ctypes.c_long(1), ctypes.byref(ctypes.pointer(control)))
    event = Event()
    assert system_call(IO_GETEVENTS, context, ctypes.c_long(1), ctypes.c_long(1), ctypes.byref(event), None) == 1
    assert event.result == len(memory)


def close_quietly(fd: int) -> None:
    """Its mount is gone."""
    with contextlib.suppress(OSError):
        os.close(fd)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="knows the numbers of x86_64's system calls only")
@pytest.mark.parametrize("options", ["rw", "rw,nopoll"])
@pytest.mark.parametrize("how", ["pwrite", "asynchronous", "asynchronous, RWF_DSYNC"])
def test_a_direct_write_with_o_dsync(tmp_path: Path, how: str, options: str) -> None:
    """libaio's writes, and io_uring's, go another way through the kernel than pwrite(2); databases use them."""
    with mounted_pool(tmp_path, options) as pool:
        synced = 0 if "RWF_DSYNC" in how else os.O_DSYNC
        fd = os.open(pool.mnt / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT | synced, 0o600)
        memory = mmap.mmap(-1, PAGE)
        memory[:] = b"a" * PAGE
        os.pwritev(fd, [memory], 0)
        os.fsync(fd)
        memory[:] = b"b" * PAGE
        if how == "pwrite":
            os.pwritev(fd, [memory], 0)
        else:
            write_asynchronously(fd, memory, 0 if synced else RWF_DSYNC)
        pool.kill()
        close_quietly(fd)
        pool.mount()
        assert (pool.mnt / "f").read_bytes() == b"b" * PAGE


CHANGES: dict[str, Callable[[Path], object]] = {
    "mkdir": lambda folder: (folder / "new").mkdir(),
    "create": lambda folder: os.close(os.open(folder / "new", os.O_CREAT | os.O_WRONLY)),
    "link": lambda folder: (folder / "new").hardlink_to(folder / "old"),
    "symlink": lambda folder: (folder / "new").symlink_to("old"),
    "rename": lambda folder: (folder / "old").rename(folder / "new"),
}


@pytest.fixture(params=["sync", "dirsync"])
def synchronous(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    with mounted_pool(tmp_path, f"rw,{request.param}") as pool:
        yield pool


def test_names_with_the_options_sync_and_dirsync(synchronous: Pool) -> None:
    folders = {change: synchronous.mnt / change for change in CHANGES}
    for folder in folders.values():
        folder.mkdir()
        (folder / "old").write_bytes(b"")
    (synchronous.mnt / "unlinked").write_bytes(b"")
    time.sleep(1)
    for change, folder in folders.items():
        CHANGES[change](folder)
        synchronous.kill()
        synchronous.mount()
        assert os.path.lexists(folder / "new"), change
    (synchronous.mnt / "unlinked").unlink()
    synchronous.kill()
    synchronous.mount()
    assert not (synchronous.mnt / "unlinked").exists()


@pytest.mark.parametrize("options", ["rw", "rw,writeback"])
def test_an_end_in_order_stores_what_the_kernel_still_has(tmp_path: Path, options: str) -> None:
    """SIGTERM, as systemd sends it, while a program uses the folder."""
    with mounted_pool(tmp_path, options) as pool:
        fd = os.open(pool.mnt / "f", os.O_CREAT | os.O_RDWR)
        os.write(fd, b"a" * PAGE)
        os.fsync(fd)
        if "writeback" in options:
            os.pwrite(fd, b"b" * PAGE, 0)
        else:
            memory = mmap.mmap(fd, PAGE)
            memory[:] = b"b" * PAGE
        pid = pool.place.pid()
        os.kill(pid, signal.SIGTERM)
        assert wait_for_end(pid)
        close_quietly(fd)
        pool.mount()
        assert (pool.mnt / "f").read_bytes() == b"b" * PAGE
