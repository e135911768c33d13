"""What a daemon can be asked. Each method checks its parameters; the rooms below do the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
import trio

from ecfs.commit.engine import Engine
from ecfs.control.protocol import Request
from ecfs.control.status import SECOND, Status, build_status
from ecfs.errors import RefusedError, UsageError
from ecfs.journal.opened import OpenedPool

Show = Callable[[object], None]


class End(Protocol):
    """Begins the end of the mount; returns when the folder is unmounted."""

    async def __call__(self, *, force: bool) -> None: ...


class NoParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For methods that take none."""


class EventsParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: int = 100


class UmountParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    force: bool = False


P = TypeVar("P", bound=msgspec.Struct)


class Service:
    """The methods of one daemon."""

    def __init__(self, pool: OpenedPool, engine: Engine, mountpoint: str, end: End) -> None:
        self._pool = pool
        self._engine = engine
        self._mountpoint = mountpoint
        self._end = end
        self._clean: bool | None = None
        self._ended = trio.Event()
        self._methods: dict[str, Callable[[dict[str, Any], Show], Awaitable[Any]]] = {
            "status": self._status,
            "sync": self._sync,
            "events": self._events,
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

    async def _status(self, params: dict[str, Any], show: Show) -> Status:
        _read(params, NoParams)
        status = build_status(self._pool, usable=self._engine.usable(), engine=self._engine)
        status["pool"]["mountpoint"] = self._mountpoint
        return status

    async def _sync(self, params: dict[str, Any], show: Show) -> None:
        _read(params, NoParams)
        await self._engine.sync()

    async def _events(self, params: dict[str, Any], show: Show) -> list[Status]:
        """The newest `limit` events, oldest first."""
        limit = max(1, _read(params, EventsParams).limit)
        return [
            {"at": event.at_ns // SECOND, "slot": event.slot, "kind": event.kind, "text": event.text}
            for event in self._pool.members.events[-limit:]
        ]

    async def _umount(self, params: dict[str, Any], show: Show) -> dict[str, bool | None]:
        """Unmount, and answer when everything is stored and the drives are let go."""
        await self._end(force=_read(params, UmountParams).force)
        await self._ended.wait()
        return {"clean": self._clean}


def _read(params: dict[str, Any], shape: type[P]) -> P:
    try:
        return msgspec.convert(params, shape)
    except msgspec.ValidationError as error:
        raise UsageError(f"wrong parameters: {error}") from error
