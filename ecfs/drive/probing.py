"""`ecfs probe`: one test chunk to a node, checked there, back, and away again. Touches no drive and needs none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from ecfs.clock import Clock
from ecfs.drive.node_link import Link
from ecfs.errors import ShardCorruptError, ShardMissingError
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.limits import data_deadline_s
from ecfs.rpc.methods import PROBE
from ecfs.rpc.tls import TlsFiles
from ecfs.shard import crc32

T = TypeVar("T")

DEADLINE_S = 5.0


@dataclass(frozen=True)
class Step:
    """What was done, in the past tense, and how long it took."""

    name: str
    seconds: float


async def probe_node(address: str, tls: TlsFiles | None, clock: Clock, size: int) -> list[Step]:
    """Raises DriveError; ShardCorruptError if the chunk does not come back as it was."""
    link = Link(address, clock, tls, DEADLINE_S)
    steps: list[Step] = []

    async def timed(name: str, call: Callable[[], Awaitable[T]]) -> T:
        began = clock.monotonic()
        result = await call()
        steps.append(Step(name, clock.monotonic() - began))
        return result

    data = clock.token(size)
    try:
        await timed("connected", lambda: _connect(link))
        store = pb.StoreRequest(length=size)
        timeout_s = data_deadline_s(DEADLINE_S, size)
        name = (await timed("stored", lambda: link.send(PROBE["Store"], store, [data], timeout_s))).name
        try:
            check = await timed("verified", lambda: link.ask(PROBE["Check"], pb.CheckRequest(name=name)))
            _, back = await timed(
                "fetched", lambda: link.fetch(PROBE["Fetch"], pb.FetchRequest(name=name), size, timeout_s)
            )
        finally:
            with trio.CancelScope(shield=True):
                await timed("deleted", lambda: link.change(PROBE["Remove"], pb.RemoveRequest(name=name)))
    finally:
        link.close()
    if check.crc32 != crc32(data) or b"".join(back) != data:
        raise ShardCorruptError("the test chunk came back changed: do not trust this node")
    return steps


async def _connect(link: Link) -> None:
    """One call that the node is sure to refuse, so that the others are timed on a connection that is there."""
    try:
        await link.ask(PROBE["Check"], pb.CheckRequest(name=f".tmp-{0:016x}"))
    except ShardMissingError:
        return
