"""The daemon: open, mount, serve, and one clean end whatever asked for it.

The order at the end is what makes it clean: first no more requests (the folder is unmounted), then the last commit and
the checkpoint, then the drives are let go, then whoever asked for the end is told how it went.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import trio

from ecfs.clock import Clock
from ecfs.control.runtime import LEAVING, MOUNTED, OPENING, Mounted, Registration
from ecfs.control.server import ControlServer
from ecfs.control.service import Service
from ecfs.errors import EcfsError, UsageError
from ecfs.fuse import INODES, NAMES, EcfsOperations, fuse_options, mount_fuse, run_fuse, stop_fuse, unmount_fuse
from ecfs.journal.opened import OpenedPool
from ecfs.memory import keep_memory, spare_collector
from ecfs.mount.alerts import Alerts, run_alerts
from ecfs.mount.locate import shown
from ecfs.mount.making import make_pool, restore_pool_file
from ecfs.mount.mountpoint import mount_on, raise_limits
from ecfs.mount.options import MountOptions
from ecfs.mount.page import Shown, serve_page
from ecfs.mount.patience import Tell, patiently
from ecfs.mount.scratch import scratch_directory
from ecfs.mount.unmount import unmount
from ecfs.mount.url_list import find_pool
from ecfs.mount.volume import Volume, open_patiently, run_volume
from ecfs.pool.members import Event
from ecfs.pool.poolfile import POOL_FILE, PoolFile
from ecfs.web.listen import Listen

_log = logging.getLogger(__name__)

RISKS_S = 2.0
"""How long a mount waits to hear which drives fail together."""


@dataclass
class Plan:
    """What to serve. create: make the pool first. say: tells the person who waits; ready: the mount works."""

    file: PoolFile
    point: str
    options: MountOptions
    clock: Clock
    create: bool
    say: Tell
    ready: Callable[[], None]
    log: str = ""
    page: Listen | None = None
    """Where the status page is served."""


async def serve(plan: Plan) -> bool:
    """Serve until the folder is unmounted or a signal asks to end. False if something could not be made durable."""
    keep_memory(arenas=2)
    spare_collector()
    file = await _make(plan) if plan.create else plan.file
    entry = Mounted(file.pool_id, str(file.path), plan.point, os.getpid(), OPENING, plan.log)

    async def register() -> Registration:
        return Registration(entry)

    registration = await patiently(file.pool_id, plan.say, register)
    try:
        daemon = Daemon(plan, file, registration)
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.watch_signals)
            clean = await daemon.run(nursery)
            nursery.cancel_scope.cancel()
        return clean
    finally:
        registration.release()


async def _make(plan: Plan) -> PoolFile:
    """The pool that is to be mounted where there is no pool file."""
    if plan.file.path.name != POOL_FILE:
        return await _find_or_make(plan)
    restored = await restore_pool_file(plan.file.path.parent, plan.clock)
    if restored is not None:
        plan.say(f"{shown(restored.path)} was missing; wrote it again from what the drives say")
        return restored
    file = await make_pool(plan.file, plan.clock)
    plan.say(f"made a new pool in {shown(file.path.parent)} ({file.k} data + {file.m} parity drives)")
    return file


async def _find_or_make(plan: Plan) -> PoolFile:
    """The pool of a list of drives that was never mounted here before."""
    plan.file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = await find_pool(plan.file, plan.clock)
    if found is not None:
        return found
    file = await make_pool(plan.file, plan.clock)
    plan.say(f"made a new pool ({file.k} data + {file.m} parity drives); its file: {file.path}")
    return file


class Daemon:
    """One mounted pool."""

    def __init__(self, plan: Plan, file: PoolFile, registration: Registration) -> None:
        self.plan = plan
        self.file = file
        self.registration = registration
        self._opening = trio.CancelScope()
        self._asked_to_end = trio.Event()
        self._serving = False

    # ---- the way in -------------------------------------------------------------------------------------

    async def run(self, nursery: trio.Nursery) -> bool:
        """From opening to the last commit."""
        with scratch_directory() as scratch:
            with self._opening:
                pool = await open_patiently(
                    self.file, scratch, clock=self.plan.clock, tell=self.plan.say,
                    read_only=self.plan.options.read_only,
                    accept_loss=self.plan.options.accept_loss,
                )  # fmt: skip
            if self._opening.cancelled_caught:
                raise EcfsError("interrupted while the pool was being opened; nothing was mounted")
            pool.members.listeners.append(_log_event)
            for note in pool.notes:
                _log.warning("opening: %s", note)
            async with run_alerts(self.file, source_of(self.file), self.plan.point, pool, self.plan.say) as alerts:
                return await self._run(pool, alerts, nursery)

    async def _run(self, pool: OpenedPool, alerts: Alerts | None, nursery: trio.Nursery) -> bool:
        """Serve an opened pool, to its last commit."""
        async with run_volume(self.file, pool, go_on=not pool.read_only) as volume:
            served = volume.served(self.plan.point, self.end, alerts.test if alerts else None)
            service = Service(served)
            server = ControlServer(service, self.registration.entry.socket)
            await nursery.start(server.run)
            if alerts is not None:
                alerts.status = service.status
            shown = Shown(volume, service, source_of(self.file), alerts.hook if alerts else None)
            async with serve_page(self.plan.page, shown, self.plan.say):
                await self._serve_folder(volume)
            self.registration.set_state(LEAVING)
            if alerts is not None:
                alerts.status = None  # from here on the pool is being closed
        _log.info("ended: %s", "everything is stored" if volume.clean else "not everything could be stored")
        await server.finish(clean=volume.clean)
        return volume.clean

    async def _serve_folder(self, volume: Volume) -> None:
        """Mount, serve, unmount. A signal or `ecfs umount` ends it as an unmount from outside does."""
        if not self.plan.options.read_only:
            await volume.fs.clean_orphans()
        options = self.plan.options
        operations = EcfsOperations(
            volume.fs, writeback=options.writeback, stored_at_once=handlers_stored_at_once(options)
        )
        mount_saying_why(operations, self.plan.point, self.plan.options, source_of(self.file))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._when_asked)
                nursery.start_soon(self._announce, volume)
                self._serving = True
                await _serve_until_unmounted(poll=self.plan.options.poll)
                nursery.cancel_scope.cancel()
        finally:
            self._serving = False
            unmount_fuse(mounted=mount_on(self.plan.point) is not None)

    async def _announce(self, volume: Volume) -> None:
        """The folder works when it answers; asked in a thread, because the answer comes from this one."""
        with suppress(OSError):  # an answer, too; or somebody unmounts it already
            await trio.to_thread.run_sync(os.statvfs, self.plan.point, abandon_on_cancel=True)
            await trio.to_thread.run_sync(raise_limits, self.plan.point, abandon_on_cancel=True)
        with trio.move_on_after(RISKS_S):
            await volume.look_for_risks()
        for risk in volume.risks:
            self.plan.say(f"warning: {risk}")
        self.registration.set_state(MOUNTED)
        _log.info("mounted on %s", self.plan.point)
        self.plan.ready()

    # ---- the way out ------------------------------------------------------------------------------------

    async def end(self, *, force: bool) -> None:
        """Unmount; the rest follows from that. Raises RefusedError if the folder is in use and not `force`."""
        await unmount(self.plan.point, force=force)
        # Only while it serves: libfuse would crash on a session that is closed, before the last commit.
        if force and self._serving:
            stop_fuse()  # programs that still use the folder would keep it, and us, alive

    async def watch_signals(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                _log.info("%s: ending", signal.Signals(number).name)
                self._opening.cancel()
                self._asked_to_end.set()
                self.registration.set_state(LEAVING)

    async def _when_asked(self) -> None:
        await self._asked_to_end.wait()
        await self.end(force=True)


def _log_event(event: Event) -> None:
    """What happens to drives is in the log, too: `status` shows what is, not when a drive began to come and go."""
    _log.info("%s: %s", "pool" if event.slot is None else f"drive {event.slot}", event.text)


async def _serve_until_unmounted(*, poll: bool) -> None:
    try:
        await run_fuse(poll=poll)
    except Exception:
        # Nothing more can be served, but everything answered so far must still be committed.
        _log.exception("serving requests ended with an error")


def handlers_stored_at_once(options: MountOptions) -> frozenset[str]:
    """For the kernel the mount options sync and dirsync say nothing of what a FUSE daemon does with names."""
    if "sync" in options.kernel:
        return NAMES | INODES
    return NAMES if "dirsync" in options.kernel else frozenset()


def source_of(file: PoolFile) -> str:
    """What is mounted, as people name it: the directory of a pool, or its file."""
    return str(file.path.parent if file.path.name == POOL_FILE else file.path)


def mount_saying_why(operations: EcfsOperations, point: str, options: MountOptions, source: str) -> None:
    """Mount. Raises UsageError with what libfuse wrote to standard error, the only place where it says why."""
    names = fuse_options(
        allow_other=options.allow_other, read_only=options.read_only, suid=options.suid, dev=options.dev,
        source=source, extra=options.kernel,
    )  # fmt: skip
    with _captured_stderr() as said:
        try:
            mount_fuse(operations, point, names)
            return
        except RuntimeError as error:
            reason = said() or str(error)
    raise UsageError(f"can't mount on {point}: {reason}")


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """What is written to descriptor 2 meanwhile, by C code too."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: " ".join(os.pread(file.fileno(), 2000, 0).decode(errors="replace").split())
        finally:
            os.dup2(kept, 2)
            os.close(kept)
