"""What can go wrong with one operation of one drive. Each fault is a function from the call to its answer.

Loud ones raise; silent ones (lost, misdirected, rotten, misread, lied) answer as if all were well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import trio

from ecfs.drive.memory_store import File
from ecfs.errors import (
    DriveError,
    DriveFencedError,
    DriveFullError,
    DriveTimeoutError,
    DriveUnreachableError,
    ShardCorruptError,
    ShardMissingError,
)
from tests.sim.store import LateWrite

if TYPE_CHECKING:
    from tests.sim.drive import SimDrive

T = TypeVar("T")


@dataclass
class Call(Generic[T]):
    """One operation: `go` does it. data, offset: of a write."""

    operation: str
    key: str | None
    go: Callable[[], Awaitable[T]]
    data: bytes = b""
    offset: int = 0


Fault = Callable[["SimDrive", Call[Any]], Awaitable[Any]]


# ---- loud -----------------------------------------------------------------------------------------------------------


def _raising(kind: type[DriveError], text: str) -> Fault:
    async def fault(drive: SimDrive, call: Call[Any]) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise kind(text, slot=drive.slot, key=call.key)

    return fault


async def error_after(drive: SimDrive, call: Call[Any]) -> NoReturn:
    """It was done, and nobody will know."""
    await call.go()
    raise DriveUnreachableError("I/O error", slot=drive.slot, key=call.key)


async def failed_flush(drive: SimDrive, call: Call[Any]) -> Any:
    """fsync fails once and then succeeds, without having written what it failed for."""
    drive.fail_flush = True
    try:
        return await call.go()
    finally:
        drive.fail_flush = False


async def torn(drive: SimDrive, call: Call[Any]) -> NoReturn:
    """A part of the bytes is written, then the drive reports an error."""
    await call.go()
    file = _file(drive, call)
    if file is not None:
        kept = call.offset + drive.weather.chance.randrange(len(call.data) + 1)
        del file.data[kept:]
        file.durable = min(file.durable, kept)
    raise DriveUnreachableError("short write", slot=drive.slot, key=call.key)


# ---- slow -----------------------------------------------------------------------------------------------------------


async def latency(drive: SimDrive, call: Call[T]) -> T:
    """Slow, but within the deadline."""
    await trio.sleep(drive.weather.chance.uniform(0.01, 1.5))
    return await call.go()


async def hang(drive: SimDrive, call: Call[T]) -> T:
    """Beyond the deadline. Whoever gives up leaves behind a call that may yet do its work (R20)."""
    seconds = drive.weather.chance.choice([2.1, 3.0, 8.0, 40.0, 200.0])
    due, incarnation = trio.current_time() + seconds, drive.store.incarnation
    try:
        await trio.sleep(seconds)
    except trio.Cancelled:
        if call.operation in LATE and drive.store.incarnation == incarnation:  # else the process or the drive is dead
            drive.store.late.append(LateWrite(due, LATE[call.operation](drive, call)))
        raise
    return await call.go()


def _late_put(drive: SimDrive, call: Call[Any]) -> Callable[[], None]:
    store, incarnation, key, data = drive.store, drive.store.incarnation, call.key or "", call.data

    def do() -> None:
        if store.incarnation == incarnation and key not in store.names:
            store.write(key, data)

    return do


def _late_append(drive: SimDrive, call: Call[Any]) -> Callable[[], None]:
    store, incarnation, key = drive.store, drive.store.incarnation, call.key or ""

    def do() -> None:
        if store.incarnation != incarnation:
            return
        file = store.names.get(key)
        if call.offset == 0 and file is None:
            store.harden(store.write(key, call.data))
        elif file is not None and len(file.data) == call.offset:
            store.harden(store.extend(key, call.data))

    return do


def _late_sync(drive: SimDrive, call: Call[Any]) -> Callable[[], None]:
    store, voided = drive.store, drive.weather.chance.random() < 0.5

    def do() -> None:
        if voided:
            store.void()
        else:
            store.harden(store.awaiting_sync())

    return do


def _late_delete(drive: SimDrive, call: Call[Any]) -> Callable[[], None]:
    store, incarnation, key = drive.store, drive.store.incarnation, call.key or ""

    def do() -> None:
        if store.incarnation == incarnation:
            store.remove(key)

    return do


LATE = {"put": _late_put, "append": _late_append, "sync": _late_sync, "delete": _late_delete}


# ---- silent ---------------------------------------------------------------------------------------------------------


async def lost(drive: SimDrive, call: Call[Any]) -> Any:
    """Answered, and never written: zeros or, for a new file, nothing at all."""
    if call.operation == "delete":
        return await trio.lowlevel.checkpoint()
    before = _file(drive, call)
    result = await call.go()
    file = _file(drive, call)
    if call.operation == "write_blob" and before is not None and call.key is not None:
        drive.store.names[call.key] = drive.store.durable_names[call.key] = before
    elif call.operation == "put" and call.key is not None and drive.weather.chance.random() < 0.5:
        drive.store.drop(call.key)
    elif file is not None:
        file.data[call.offset : call.offset + len(call.data)] = bytes(len(call.data))
    return result


async def rotten(drive: SimDrive, call: Call[Any]) -> Any:
    """Written with one bit wrong."""
    result = await call.go()
    file = _file(drive, call)
    if file is not None and call.data:
        file.data[call.offset + drive.weather.chance.randrange(len(call.data))] ^= 1 << drive.weather.chance.randrange(
            8
        )
    return result


async def misdirected(drive: SimDrive, call: Call[Any]) -> Any:
    """Written over another shard of the same drive."""
    result = await call.go()
    others = sorted(key for key in drive.store.names if key.startswith(("s/", "c/")) and key != call.key)
    if others and call.key is not None:
        # Another object, as the bytes of the old one may be on their way to a reader, who keeps them.
        drive.store.names[drive.weather.chance.choice(others)].data = bytearray(call.data)
        drive.store.drop(call.key)
    return result


async def misread(drive: SimDrive, call: Call[Any]) -> Any:
    """What lies there is fine; what arrives is not."""
    result = await call.go()
    if isinstance(result, bytes):
        return _flipped(drive, result)
    if isinstance(result, list) and result:
        at = drive.weather.chance.randrange(len(result))
        return [_flipped(drive, each) if number == at else each for number, each in enumerate(result)]
    return result


def _flipped(drive: SimDrive, data: bytes) -> bytes:
    if not data:
        return data
    wrong = bytearray(data)
    wrong[drive.weather.chance.randrange(len(data))] ^= 1 << drive.weather.chance.randrange(8)
    return bytes(wrong)


async def lied(drive: SimDrive, call: Call[Any]) -> Any:
    """Answered before anything is durable; the next crash of the drive takes it."""
    drive.store.lies += 1
    try:
        return await call.go()
    finally:
        # Not below: who calmed the world meanwhile has ended all lies, and a drive at -1 never syncs anything again.
        drive.store.lies = max(0, drive.store.lies - 1)


def _file(drive: SimDrive, call: Call[Any]) -> File | None:
    return drive.store.names.get(call.key or "")


# ---- which fault can meet which operation ---------------------------------------------------------------------------

FAULTS: dict[str, Fault] = {
    "error": _raising(DriveUnreachableError, "I/O error"),
    "timeout": _raising(DriveTimeoutError, "no answer within 2 s"),
    "full": _raising(DriveFullError, "no space left"),
    "missing": _raising(ShardMissingError, "there is no such file on this drive"),
    "corrupt": _raising(ShardCorruptError, "shorter than asked"),
    "fenced": _raising(DriveFencedError, "a newer writer owns this drive"),
    "error-after": error_after,
    "failed-flush": failed_flush,
    "torn": torn,
    "latency": latency,
    "hang": hang,
    "lost": lost,
    "rotten": rotten,
    "misdirected": misdirected,
    "misread": misread,
    "lied": lied,
}

_ALWAYS = ("error", "latency", "hang")
_APT: dict[str, Sequence[str]] = {
    "put": (*_ALWAYS, "timeout", "error-after", "full", "torn", "lost", "rotten", "misdirected"),
    "append": (*_ALWAYS, "timeout", "error-after", "full", "torn", "lost", "rotten", "failed-flush", "lied"),
    "write_blob": (*_ALWAYS, "timeout", "error-after", "full", "lost", "rotten", "failed-flush", "lied"),
    "sync": (*_ALWAYS, "timeout", "full", "failed-flush", "lied"),
    "read": (*_ALWAYS, "timeout", "missing", "corrupt", "misread"),
    "verify": (*_ALWAYS, "timeout", "missing", "corrupt"),
    "read_blob": (*_ALWAYS, "timeout", "missing", "corrupt", "misread"),
    "delete": (*_ALWAYS, "timeout", "error-after", "lost"),
    "fence": (*_ALWAYS, "failed-flush", "lied"),
}


def apt(operation: str) -> Sequence[str]:
    """The faults that weather may send to an operation. "fenced" is none: drives don't forget or invent promises."""
    return _APT.get(operation, _ALWAYS)
