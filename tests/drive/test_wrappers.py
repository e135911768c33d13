"""Deadline and health: what they add, and that they forward everything else."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
import trio
import trio.testing

from ecfs.clock import SystemClock
from ecfs.drive.base import Capabilities, Drive, Entry, Writer
from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.health import WINDOW, HealthDrive, Latencies, health_of
from ecfs.drive.memory import MemoryDrive
from ecfs.drive.wrapper import DriveWrapper
from ecfs.errors import (
    DriveTimeoutError,
    DriveUnreachableError,
    EcfsError,
    FormatTooNewError,
    ShardMissingError,
    UsageError,
)
from ecfs.shard import ShardHeader

KEY = "s/00000002/00000000"
BYTES_PER_S, LENGTH = 1000, 3000


class Narrow(MemoryDrive):
    """Behind a link of `BYTES_PER_S`, which all reads share. Its blocks are `LENGTH` bytes."""

    on_their_way = 0

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, bytes_per_s=BYTES_PER_S)

    async def read(self, key: str, ranges: object) -> list[bytes]:
        self.on_their_way += 1
        left = float(LENGTH)
        while left > 0:
            await trio.sleep(0.1)
            left -= BYTES_PER_S * 0.1 / self.on_their_way
        self.on_their_way -= 1
        return [b""]


class SlowDrive(MemoryDrive):
    """Answers reads and liveness after `delay` seconds."""

    delay = 0.0
    abandoned = 7

    async def alive(self) -> None:
        await trio.sleep(self.delay)
        await super().alive()

    async def read(self, key: str, ranges: object) -> list[bytes]:
        await trio.sleep(self.delay)
        return await super().read(key, ranges)  # type: ignore[arg-type]

    async def list(self, prefix: str) -> AsyncGenerator[Entry, None]:
        for number in range(3):
            await trio.sleep(self.delay)
            yield Entry(f"s/00000002/{number:08x}", 0)


async def slow_drive() -> SlowDrive:
    drive = SlowDrive(slot=4)
    await drive.create({"identity": b"who"})
    await drive.fence(Writer(2, "a" * 32))
    await drive.prepare([2])
    await drive.put(KEY, [b"data"])
    return drive


def test_the_wrapper_forwards_every_method_of_the_contract() -> None:
    methods = {
        name for name, member in vars(Drive).items() if inspect.isfunction(member) or isinstance(member, property)
    }
    # get is made of read. A wrapper that does not know begin_put or begin_append has all of them go through its own.
    assert methods - set(vars(DriveWrapper)) == {"get", "begin_put", "begin_append", "read_shards"}


async def test_wrappers_show_the_inner_drive() -> None:
    inner = await slow_drive()
    drive = HealthDrive(DeadlineDrive(inner), SystemClock())
    assert (drive.slot, drive.url, drive.capabilities, drive.abandoned) == (4, inner.url, inner.capabilities, 7)
    drive.slot = 5
    assert inner.slot == 5


# ---- deadline -------------------------------------------------------------------------------------------------------


async def test_late_is_a_timeout_with_slot_and_key(autojump_clock: trio.testing.MockClock) -> None:
    inner = await slow_drive()
    drive = DeadlineDrive(inner)
    inner.delay = drive.seconds - 1
    assert await drive.get(KEY) == b"data"
    inner.delay = drive.seconds + 1
    with pytest.raises(DriveTimeoutError, match="no answer to read within 2 s") as caught:
        await drive.get(KEY)
    assert (caught.value.slot, caught.value.key) == (4, KEY)
    with pytest.raises(DriveTimeoutError, match="no answer to alive"):
        await drive.alive()


async def test_reads_get_time_for_all_the_data_that_is_on_its_way(autojump_clock: trio.testing.MockClock) -> None:
    """Also for what is asked after them: over a link of 100 Mbit/s a file that was read in order gave EIO."""
    drive = DeadlineDrive(Narrow())
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(drive.read, KEY, [(0, LENGTH)])
            await trio.sleep(0.5)
    assert trio.current_time() < 30


async def test_a_drive_that_says_nothing_gets_time_for_its_data_only(autojump_clock: trio.testing.MockClock) -> None:
    drive = DeadlineDrive(Narrow())
    drive.inner.on_their_way = 1000  # type: ignore[attr-defined]
    for _ in range(2):
        began = trio.current_time()
        with pytest.raises(DriveTimeoutError, match="no answer to read within 5 s"):
            await drive.read(KEY, [(0, LENGTH)])
        assert trio.current_time() - began == pytest.approx(5)


async def test_a_listing_may_take_long_but_none_of_its_entries(autojump_clock: trio.testing.MockClock) -> None:
    inner = await slow_drive()
    drive = DeadlineDrive(inner, 5)
    inner.delay = 4
    assert len([entry async for entry in drive.list("s/")]) == 3
    inner.delay = 6
    with pytest.raises(DriveTimeoutError, match="no answer to list"):
        await anext(drive.list("s/"))


async def test_a_cancellation_from_outside_is_no_timeout(autojump_clock: trio.testing.MockClock) -> None:
    inner = await slow_drive()
    inner.delay = 60
    with trio.move_on_after(1) as scope:
        await DeadlineDrive(inner, 5).alive()
    assert scope.cancelled_caught


# ---- health ---------------------------------------------------------------------------------------------------------


async def test_latencies_are_kept_per_operation(autojump_clock: trio.testing.MockClock) -> None:
    inner = await slow_drive()
    drive = HealthDrive(inner, SystemClock())
    for delay in range(1, 21):
        inner.delay = delay
        await drive.get(KEY)
    latency = drive.health.latency("read")
    assert latency.p50 == pytest.approx(10)
    assert latency.p95 == pytest.approx(19)
    assert drive.health.latency("alive").p95 is None


def test_percentiles_of_a_bounded_window() -> None:
    latencies = Latencies()
    for number in range(10 * WINDOW):
        latencies.add(float(number))
    assert len(latencies) == WINDOW
    assert latencies.p50 == 10 * WINDOW - WINDOW / 2 - 1
    assert latencies.percentile(100) == 10 * WINDOW - 1
    assert latencies.percentile(0) == 10 * WINDOW - WINDOW


async def test_failures_are_counted_by_kind_and_in_a_row() -> None:
    inner = await slow_drive()
    drive = HealthDrive(inner, SystemClock())
    inner.vanish()
    for _ in range(3):
        with pytest.raises(DriveUnreachableError):
            await drive.alive()
    await drive.location()
    assert drive.health.errors == {"DriveUnreachableError": 3}
    assert drive.health.consecutive_failures == 3
    assert drive.health.last_error == "drive 4: unplugged"
    inner.come_back()
    with pytest.raises(ShardMissingError):
        await drive.get("s/00000002/00000009")
    assert drive.health.consecutive_failures == 0
    assert drive.health.errors["ShardMissingError"] == 1


async def test_timeouts_are_failures_and_what_is_on_its_way_is_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = await slow_drive()
    inner.delay = 60
    drive = HealthDrive(DeadlineDrive(inner, 5), SystemClock())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive.close)
        nursery.start_soon(times_out, drive)
        await trio.sleep(1)
        assert drive.health.in_flight == 1
    assert drive.health.in_flight == 0
    assert drive.health.errors == {"DriveTimeoutError": 1}
    assert drive.health.consecutive_failures == 1


async def times_out(drive: Drive) -> None:
    with pytest.raises(DriveTimeoutError):
        await drive.get(KEY)


async def test_health_counts_bytes_that_were_answered() -> None:
    inner = await slow_drive()
    drive = HealthDrive(DeadlineDrive(inner), SystemClock())
    await drive.put("s/00000002/00000001", [b"four", memoryview(b"and five")])
    await drive.append("j/0000000000000002-0000000000000001-00", 0, b"record")
    await drive.read(KEY, [(0, 2), (1, 3)])
    with pytest.raises(ShardMissingError):
        await drive.get("s/00000002/00000009")
    assert health_of(drive) is drive.health
    assert health_of(inner) is None
    assert (drive.health.bytes_written, drive.health.bytes_read) == (18, 5)
    assert drive.health.latency("put").all.count == 1
    assert drive.health.latency("read").all.count == 1


@pytest.mark.parametrize("kind", [UsageError, FormatTooNewError])
async def test_what_a_drive_may_not_answer_is_a_failure_of_that_drive(kind: type[EcfsError]) -> None:
    """A node can name any error. The readers, the watch and the reaper are ready for a DriveError only."""

    class OddDrive(MemoryDrive):
        async def alive(self) -> None:
            raise kind("a call needs a deadline")

        async def read(self, key: str, ranges: object) -> list[bytes]:
            raise kind("a call needs a deadline")

        async def delete(self, key: str) -> None:
            raise kind("a call needs a deadline")

        async def verify(self, key: str) -> ShardHeader:
            raise FormatTooNewError("format 9")

    drive = DeadlineDrive(OddDrive(slot=4))
    for call in (drive.alive(), drive.read(KEY, [(0, 1)]), drive.delete(KEY)):
        with pytest.raises(DriveUnreachableError, match="no sense here: a call needs a deadline") as error:
            await call
        assert error.value.slot == 4
    assert isinstance((await drive.read_shards([(KEY, [(0, 1)])]))[0], DriveUnreachableError)
    with pytest.raises(FormatTooNewError):  # a shard of a newer ecfs is not damaged
        await drive.verify(KEY)
