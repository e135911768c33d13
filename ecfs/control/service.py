"""What a daemon can be asked, and what commands do that open a pool themselves. The rooms below do the work."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
import trio

from ecfs.commit.engine import Engine
from ecfs.control.protocol import Request
from ecfs.control.status import Healing, Status, build_status, event_json, file_json, progress_json
from ecfs.errors import RefusedError, UsageError
from ecfs.fs.health import examine
from ecfs.heal.healer import Healer
from ecfs.heal.report import ScrubProgress, ScrubReport
from ecfs.meta import ROOT_INO

Show = Callable[[Callable[[], object]], None]


class End(Protocol):
    """Begins the end of the mount; returns when the folder is unmounted."""

    async def __call__(self, *, force: bool) -> None: ...


@dataclass(frozen=True)
class Served:
    """What the service works on. mountpoint: "" for a command that has opened the pool itself.

    moved: called with (slot, old URL, new URL) when a drive was replaced. risks: drives that would fail together, a
    sentence each.
    """

    engine: Engine
    healer: Healer
    mountpoint: str
    end: End
    moved: Callable[[int, str, str], None]
    risks: Callable[[], list[str]] = list
    alert_test: Callable[[], Awaitable[str]] | None = None
    """Runs the on_event command with a test; why it failed, "" if it did not. None where there is no such command."""


class NoParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For methods that take none."""


class EventsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: int = 100


class FileParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """path: from the root of the pool."""

    path: str


class UmountParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    force: bool = False


class ScrubParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """rate: bytes of shards per second, None for as fast as it goes. background: answer as soon as it runs; that can't
    be a dry run, which would have nobody to tell."""

    dry_run: bool = False
    rate: float | None = None
    background: bool = False


class DrillParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """full: decode every stripe without each set of drives; restart: forget what an interrupted drill has done."""

    full: bool = False
    restart: bool = False
    rate: float | None = None


class ReplaceParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slot: int
    url: str


P = TypeVar("P", bound=msgspec.Struct)
ORDER_S = 2.0
"""How long a task may take to follow an order before it is answered as it is."""


class Service:
    """The methods of one daemon."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._engine = served.engine
        self._pool = served.engine.pool
        self._clean: bool | None = None
        self._ended = trio.Event()
        self._methods: dict[str, Callable[[dict[str, Any], Show], Awaitable[Any]]] = {
            "status": self._status,
            "sync": self._sync,
            "scrub": self._scrub,
            "scrub_pause": self._scrub_pause,
            "scrub_resume": self._scrub_resume,
            "scrub_cancel": self._scrub_cancel,
            "replace": self._replace,
            "drill": self._drill,
            "events": self._events,
            "file": self._file,
            "alert_test": self._alert_test,
            "umount": self._umount,
        }

    async def call(self, request: Request, show: Show) -> Any:
        """The result of a request. Raises EcfsError."""
        method = self._methods.get(request.method)
        if method is None:
            raise UsageError(f"unknown method {request.method!r}: known are {', '.join(sorted(self._methods))}")
        if self._ended.is_set():
            raise RefusedError("the pool has just been unmounted")
        return await method(request.params, show)

    def finished(self, *, clean: bool) -> None:
        """The engine is closed; whoever asked for the end hears how it went."""
        self._clean = clean
        self._ended.set()

    def status(self) -> Status:
        healer = self._served.healer
        healing = Healing(
            healer.running, healer.kind, healer.repaired, healer.quick_pending, len(healer.set_aside),
            healer.scrubbing.kept(), healer.replacing,
        )  # fmt: skip
        status = build_status(self._pool, usable=self._engine.usable(), engine=self._engine, healing=healing)
        status["pool"]["mountpoint"] = self._served.mountpoint or None
        status["risks"] = self._served.risks()
        return status

    async def _status(self, params: dict[str, Any], show: Show) -> Status:
        _read(params, NoParams)
        return self.status()

    async def _sync(self, params: dict[str, Any], show: Show) -> None:
        _read(params, NoParams)
        await self._engine.sync()

    async def _events(self, params: dict[str, Any], show: Show) -> list[Status]:
        """The newest `limit` events, oldest first."""
        limit = max(1, _read(params, EventsParams).limit)
        return [event_json(event) for event in self._engine.committer.events.newest(limit)]

    async def _file(self, params: dict[str, Any], show: Show) -> Status:
        """How one file is kept; see docs/STATUS.md. Symbolic links are not followed."""
        path = _read(params, FileParams).path
        db, members = self._pool.db, self._pool.members
        ino = ROOT_INO
        for name in filter(None, os.fsencode(path).split(b"/")):
            found = db.names.lookup(ino, name)
            if found is None:
                raise UsageError(f"{path}: no such file in the pool")
            ino = found
        health = examine(db, ino, members.out_slots())
        return file_json(path, health, self._pool.geometry)

    async def _scrub(self, params: dict[str, Any], show: Show) -> Status:
        """The report, and the status after it; in the background, the status alone."""
        wanted = _read(params, ScrubParams)
        _check_rate(wanted.rate)
        if wanted.background:
            return await self._scrub_in_background(wanted)
        report = await self._served.healer.scrub(
            dry_run=wanted.dry_run, rate=wanted.rate, progress=lambda progress: _show(show, progress)
        )
        return {"report": report_json(report), "status": self.status()}

    async def _scrub_in_background(self, wanted: ScrubParams) -> Status:
        healer = self._served.healer
        if wanted.dry_run:
            raise UsageError("a scrub in the background can't be a dry run")
        if healer.running is not None:
            raise RefusedError("a scrub, replacement or drill is running already")
        healer.scrubbing.begin(wanted.rate)
        return await self._obeyed(running=True)

    async def _scrub_pause(self, params: dict[str, Any], show: Show) -> Status:
        """The status after it, as for the next two."""
        _read(params, NoParams)
        self._served.healer.scrubbing.pause()
        return await self._obeyed(running=False)

    async def _scrub_resume(self, params: dict[str, Any], show: Show) -> Status:
        """Goes on in the background."""
        _read(params, NoParams)
        self._served.healer.scrubbing.resume()
        return await self._obeyed(running=True)

    async def _scrub_cancel(self, params: dict[str, Any], show: Show) -> Status:
        _read(params, NoParams)
        self._served.healer.scrubbing.cancel()
        return await self._obeyed(running=False)

    async def _obeyed(self, *, running: bool) -> Status:
        """The status, once the scrub's task has followed an order."""
        with trio.move_on_after(ORDER_S):
            await self._served.healer.scrubbing.until(running=running)
        return {"status": self.status()}

    async def _drill(self, params: dict[str, Any], show: Show) -> Status:
        """As for scrub."""
        wanted = _read(params, DrillParams)
        _check_rate(wanted.rate)
        report = await self._served.healer.drill(
            full=wanted.full,
            restart=wanted.restart,
            rate=wanted.rate,
            progress=lambda progress: _show(show, progress),
        )
        return {"report": report_json(report), "status": self.status()}

    async def _replace(self, params: dict[str, Any], show: Show) -> Status:
        """As for scrub. The pool file is changed as soon as the new drive belongs to the pool."""
        wanted = _read(params, ReplaceParams)
        members = self._pool.members
        if not 0 <= wanted.slot < len(members):
            raise UsageError(f"there is no slot {wanted.slot}: this pool has 0 to {len(members) - 1}")
        old = members[wanted.slot].url
        try:
            report = await self._served.healer.replace(
                wanted.slot, wanted.url, progress=lambda progress: _show(show, progress)
            )
        finally:
            if members[wanted.slot].url != old:
                self._served.moved(wanted.slot, old, members[wanted.slot].url)
        return {"report": report_json(report), "status": self.status()}

    async def _alert_test(self, params: dict[str, Any], show: Show) -> dict[str, str]:
        """failure: why the command failed, "" if it did not."""
        _read(params, NoParams)
        if self._served.alert_test is None:
            raise RefusedError("the pool was mounted without [alerts] on_event: write it into pool.toml, mount again")
        return {"failure": await self._served.alert_test()}

    async def _umount(self, params: dict[str, Any], show: Show) -> dict[str, bool | None]:
        """Unmount, and answer when everything is stored and the drives are let go."""
        force = _read(params, UmountParams).force
        async with trio.open_nursery() as nursery:
            # Everything may be stored before the program that unmounts has ended: nobody waits for that.
            nursery.start_soon(partial(self._served.end, force=force))
            await self._ended.wait()
            nursery.cancel_scope.cancel()
        return {"clean": self._clean}


def report_json(report: ScrubReport) -> Status:
    """A scrub's report as JSON; `exit_status` says how it ended."""
    built: Status = msgspec.to_builtins(report, str_keys=True)
    return built | {"exit_status": report.exit_status}


def _check_rate(rate: float | None) -> None:
    if rate is not None and not rate > 0:
        raise UsageError("the rate must be more than 0 bytes per second")


def _show(show: Show, progress: ScrubProgress) -> None:
    show(lambda: progress_json(progress))  # asked for a few times per second, changed with each shard


def _read(params: dict[str, Any], shape: type[P]) -> P:
    try:
        return msgspec.convert(params, shape)
    except msgspec.ValidationError as error:
        raise UsageError(f"wrong parameters: {error}") from error
