"""A process that serves a file system over data in memory: ``python -m tests.mount.fuse_child MOUNTPOINT SCRATCH``.

It prints "ready" once mounted, and takes commands on standard input, one line each, answered by one line.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import trio

from ecfs.clock import SystemClock
from ecfs.errors import StalledError
from ecfs.fs.filesystem import FileSystem, add_root
from ecfs.fuse import REQUESTS, EcfsOperations, fuse_options, mount_fuse, run_fuse, stop_fuse, unmount_fuse
from ecfs.geometry import Geometry
from ecfs.meta import Database
from tests.unit.fs.fake_data import FakeData


class Commands:
    """What the test can make happen inside the daemon."""

    def __init__(self, fs: FileSystem, db: Database, data: FakeData) -> None:
        self._fs, self._db, self._data = fs, db, data

    def fail_commit(self) -> str:
        self._data.failures += 1
        return "done"

    def stall(self) -> str:
        self._data.refuse = self._data.sync_error = StalledError("no drive answers")
        return "done"

    def recover(self) -> str:
        self._data.refuse = self._data.sync_error = None
        return "done"

    def fall_behind(self) -> str:
        """There is much to be won back, and nothing is."""
        self._data.backlog.measured(1000, 100)
        return "done"

    def break_reads(self) -> str:
        self._data.read_error = RuntimeError("a bug")  # type: ignore[assignment]
        return "done"

    def mend_reads(self) -> str:
        self._data.read_error = None
        return "done"

    def handles(self) -> str:
        return str(self._fs.handles.open_count)

    def inodes(self) -> str:
        return str(self._db.names.counts()[0])

    def asked(self) -> str:
        """How often the kernel asked for an extended attribute."""
        return str(REQUESTS["getxattr"].count)

    def stop(self) -> str:
        stop_fuse()
        return "done"


async def serve(commands: Commands) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(obey, commands)
        await run_fuse()
        nursery.cancel_scope.cancel()


async def obey(commands: Commands) -> None:
    lines = trio.lowlevel.FdStream(os.dup(0))
    pending = b""
    async for chunk in lines:
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            print(getattr(commands, line.decode())(), flush=True)


def main(mountpoint: str, scratch: str, *options: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    db = Database.create(Path(scratch), Geometry(1, 4, 2))
    data = FakeData()
    add_root(db, SystemClock(), uid=os.getuid(), gid=os.getgid())
    fs = FileSystem(db, data, SystemClock())
    root = os.getuid() == 0
    operations = EcfsOperations(fs, writeback="writeback" in options)
    extra = [option for option in options if option != "writeback"]
    mount_fuse(operations, mountpoint, fuse_options(allow_other=root, suid=root, dev=root, extra=extra))
    print("ready", flush=True)
    try:
        trio.run(serve, Commands(fs, db, data))
    finally:
        unmount_fuse()
        db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
