"""A bad network: late, half-open, flapping, slow. Everything ends in time and nothing counts that did not happen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trio.testing

from ecfs.clock import SystemClock
from ecfs.drive.base import Drive
from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.node import NodeDrive
from ecfs.drive.node_link import CALLS, SPOKEN
from ecfs.drive.registry import open_drive
from ecfs.errors import DriveError, DriveTimeoutError, DriveUnreachableError
from ecfs.rpc.limits import MIB
from tests.contract.test_shards import a_shard
from tests.node.conftest import made
from tests.nodes import ProcessNode, ThreadNode
from tests.relay import Relay

KEY = "s/00000002/0000000a"


@pytest.fixture
async def relay(node: ThreadNode) -> AsyncIterator[Relay]:
    relay = Relay(node.port)
    yield relay
    await trio.to_thread.run_sync(relay.stop)


@pytest.fixture
async def far(relay: Relay) -> AsyncIterator[NodeDrive]:
    """A drive behind the relay, with a shard on it."""
    drive = await made(NodeDrive(relay.address, SystemClock(), slot=3, deadline_s=1.0))
    await drive.put(KEY, [a_shard()])
    await drive.sync()
    yield drive
    relay.frozen, relay.delay_s = False, 0.0
    await drive.close()


async def again(drive: Drive) -> float:
    """Attach as soon as it works; seconds it took."""
    began = trio.current_time()
    with trio.fail_after(15):
        while True:
            try:
                await drive.attach(exclusive=True)
                return trio.current_time() - began
            except DriveError:
                await trio.sleep(0.05)


async def sync_for_ever(drive: Drive) -> NoReturn:
    while True:
        await drive.sync()


async def test_a_half_open_connection_is_noticed_within_seconds(relay: Relay, far: NodeDrive) -> None:
    """The cable is out, nobody says so. Reads end by their deadline, writes when the keepalive gives up."""
    relay.frozen = True
    began = trio.current_time()
    with pytest.raises(DriveTimeoutError):
        await DeadlineDrive(far).read(KEY, [(0, 10)])
    assert trio.current_time() - began < 2
    with pytest.raises(DriveUnreachableError):
        await far.put("s/00000002/0000000b", [b"data"])
    assert trio.current_time() - began < 8
    relay.frozen = False
    assert await again(far) < 6
    await far.put("s/00000002/0000000c", [b"data"])
    await far.sync()


async def test_a_narrow_link_is_no_reason_to_give_up_reads(relay: Relay, node: ThreadNode) -> None:
    """As 100 Mbit/s are for six nodes: eight shards at a time take four seconds."""
    near = await made(node.drive())
    await near.put(KEY, [bytes(MIB)])
    await near.close()
    relay.rate = 2.0 * MIB
    narrow = open_drive(relay.address, slot=3, clock=SystemClock())
    await narrow.attach(exclusive=True)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(narrow.read, KEY, [(0, MIB)])
    await narrow.close()


async def test_a_call_that_waits_while_the_drive_is_closed_fails_as_a_drive_does(process: ProcessNode) -> None:
    """A node falls silent with as many reads on their way as may be; the delete behind them ended the mount."""
    drive = await made(process.drive())
    process.pause()
    reads: list[BaseException] = []
    errors: list[BaseException] = []

    async def call(work: Callable[[], Awaitable[object]], failed: list[BaseException]) -> None:
        try:
            await work()
        except Exception as error:
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(CALLS + SPOKEN["Reads"]):
            nursery.start_soon(call, lambda: drive.read(KEY, [(0, 1)]), reads)
        await trio.testing.wait_all_tasks_blocked(0.1)
        nursery.start_soon(call, lambda: drive.delete(KEY), errors)
        nursery.start_soon(call, drive.sync, errors)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert not errors
        await drive.close()
        await trio.testing.wait_all_tasks_blocked(0.1)
        nursery.cancel_scope.cancel()  # some reads are asked again
    assert {type(error) for error in [*reads, *errors]} == {DriveUnreachableError}
    assert len(errors) == 2


async def test_a_late_answer_is_a_timeout_and_the_next_call_works(relay: Relay, far: NodeDrive) -> None:
    relay.delay_s = 1.5
    with pytest.raises(DriveTimeoutError):
        await far.alive()
    relay.delay_s = 0.0
    await trio.sleep(2)
    await far.alive()
    assert (await far.verify(KEY)).index == 1


async def test_a_flapping_connection_costs_the_attachment_and_nothing_else(relay: Relay, far: NodeDrive) -> None:
    for number in range(5):
        await far.put(f"s/00000002/{number:08x}", [b"data"])
        await trio.to_thread.run_sync(relay.cut)
        # A sync may still come before the node hears of the cut, and is then a true one. After that the put may be
        # lost: it must not count.
        with pytest.raises(DriveUnreachableError), trio.fail_after(10):
            await sync_for_ever(far)
        await again(far)
        await far.put(f"s/00000002/{number:08x}", [b"again"], replace=True)
        await far.sync()
    assert [await far.get(f"s/00000002/{number:08x}") for number in range(5)] == [b"again"] * 5


async def test_a_reader_survives_a_broken_connection(relay: Relay, far: NodeDrive) -> None:
    """Only the exclusive attachment ends with its connection: a look at a pool goes on."""
    reader = NodeDrive(relay.address, SystemClock(), slot=3, deadline_s=2.0)
    await reader.attach(exclusive=False)
    await trio.to_thread.run_sync(relay.cut)
    assert await reader.get(KEY) == a_shard()
    await reader.close()


async def test_verify_moves_a_header_not_the_shard(relay: Relay, far: NodeDrive) -> None:
    before = relay.sent + relay.received
    for _ in range(10):
        await far.verify(KEY)
    assert relay.sent + relay.received - before < 10 * 5000
    assert len(a_shard()) > 150_000


async def test_an_idle_drive_sends_next_to_nothing(relay: Relay, far: NodeDrive) -> None:
    before = relay.sent + relay.received
    await trio.sleep(3)
    assert relay.sent + relay.received - before < 500


async def test_a_cancelled_call_is_given_up_over_there(relay: Relay, far: NodeDrive, tmp_path: Path) -> None:
    relay.delay_s = 0.3
    with trio.move_on_after(0.1):
        await far.put("s/00000002/0000000b", [b"data"])
    relay.delay_s = 0.0
    await trio.sleep(1)
    await far.put("s/00000002/0000000c", [b"data"])
    await far.sync()
    assert far.abandoned == 0


async def test_no_node_at_all_is_said_quickly() -> None:
    drive = NodeDrive("127.0.0.1:1", SystemClock(), slot=3)
    began = trio.current_time()
    with pytest.raises(DriveUnreachableError, match="not reachable"):
        await drive.attach(exclusive=True)
    assert trio.current_time() - began < 2.5
    await drive.close()
