"""Clients that begin calls and then say or take nothing: what they occupy is little, and they don't keep it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import trio

from ecfs.drive.node import NodeDrive
from ecfs.node import service
from ecfs.node.guard import CALLS, COMERS, HOLDS, STANDING
from ecfs.node.reflecting import OTHERS
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.methods import DRIVE
from tests.node.conftest import made
from tests.nodes import ThreadNode

KEY = "s/00000002/00000000"
EVERY_THREAD = CALLS + STANDING + HOLDS + OTHERS
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Silent:
    """A client that sends no message in any of its calls, which have no deadline."""

    def __init__(self, address: str) -> None:
        self._end = threading.Event()
        self._channel: Any = grpc.insecure_channel(address)
        self.calls: list[Any] = []  # one that nobody refers to would be cancelled

    def begin(self, path: str, calls: int) -> None:
        self.calls += [self._channel.stream_stream(path)(self._nothing()) for _ in range(calls)]

    def _nothing(self) -> Iterator[bytes]:
        self._end.wait()
        yield from ()

    def close(self) -> None:
        self._end.set()
        self._channel.close()


@pytest.fixture
def silent(node: ThreadNode) -> Iterator[Silent]:
    silent = Silent(node.address)
    yield silent
    silent.close()


async def answers(drive: NodeDrive) -> None:
    """Once those that were refused are over, the owner is answered at once, again and again."""
    await trio.sleep(1)
    with trio.fail_after(5):
        for _ in range(5):
            await drive.space()


PATHS = [*(DRIVE[name].path for name in ("Alive", "Attach", "Create", "List", "Read", "Put")), HEALTH, REFLECTION]


@pytest.mark.parametrize("path", PATHS)
async def test_calls_without_a_message_keep_nobody_out(drive: NodeDrive, silent: Silent, path: str) -> None:
    silent.begin(path, EVERY_THREAD)
    await answers(drive)


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(service.HOLDING, "Attach", 1.5)


async def test_who_does_not_say_what_it_wants_makes_room_for_others(
    little_patience: None, node: ThreadNode, drive: NodeDrive, silent: Silent
) -> None:
    await drive.close()
    second = node.drive()
    silent.begin(DRIVE["Attach"].path, COMERS)
    await trio.sleep(0.5)
    with trio.fail_after(10):
        await second.attach(exclusive=True)
    assert not any(call.is_active() for call in silent.calls)
    await second.space()
    await second.close()


async def test_a_watch_of_the_health_is_refused(silent: Silent) -> None:
    silent.begin(WATCH, 1)
    code = await trio.to_thread.run_sync(silent.calls[0].code)
    assert code is grpc.StatusCode.UNIMPLEMENTED


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def headers(path: str) -> bytes:
    fields = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs)


def answer_pings(client: socket.socket) -> None:
    """All that a client does which is alive and takes no reply."""
    buffer = b""
    try:
        while data := client.recv(65536):
            buffer += data
            while len(buffer) >= 9 and len(buffer) >= (end := 9 + int.from_bytes(buffer[:3], "big")):
                if buffer[3] in (4, 6) and not buffer[4] & 1:
                    client.sendall(frame(buffer[3], 1, 0, buffer[9:end] if buffer[3] == 6 else b""))
                buffer = buffer[end:]
    except OSError:
        return


async def test_who_takes_no_reply_keeps_nobody_out(node: ThreadNode, drive: NodeDrive) -> None:
    body = pb.AttachRequest().SerializeToString()
    message = b"\0" + struct.pack("!I", len(body)) + body
    with socket.create_connection(("127.0.0.1", node.port)) as client:
        no_window = struct.pack("!HI", 4, 0)
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, no_window))
        threading.Thread(target=answer_pings, args=[client], daemon=True).start()
        await trio.sleep(0.3)
        for stream in range(1, 2 * EVERY_THREAD, 2):
            client.sendall(frame(1, 4, stream, headers(DRIVE["Attach"].path)) + frame(0, 1, stream, message))
        await answers(drive)


async def test_being_told_to_come_again_does_not_use_up_the_connection(
    node: ThreadNode, drive: NodeDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC keeps the stream of a call that is still referred to, by a log record for one: 64 of them, and all others
    would be refused."""
    monkeypatch.setattr("ecfs.node.guard.CALLS_PER_CLIENT", 0)
    monkeypatch.setattr("ecfs.drive.node_link.PAUSE_S", 0.005)

    async def put(number: int) -> None:
        await drive.put(f"s/00000002/{number:08x}", [b"data"])

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(put, number)
        await trio.sleep(1.5)
        monkeypatch.setattr("ecfs.node.guard.CALLS_PER_CLIENT", 40)
    assert len([entry async for entry in drive.list("s/")]) == 8


async def test_a_busy_node_is_asked_again_to_attach(node: ThreadNode, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await made(node.drive())).close()
    silent = Silent(node.address)
    silent.begin(DRIVE["Attach"].path, COMERS)
    await trio.sleep(0.5)
    drive = node.drive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: drive.attach(exclusive=True))
        await trio.sleep(0.5)
        silent.close()
    await drive.space()
    await drive.close()
