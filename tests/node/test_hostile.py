"""Clients that misbehave: refused, in one line, and the node lives."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecfs.clock import SystemClock
from ecfs.drive.begun import Gathering
from ecfs.drive.node import NodeDrive
from ecfs.errors import DriveUnreachableError, DriveWrongError, UsageError
from ecfs.node.certs import make_certs
from ecfs.node.guard import CALLS_PER_CLIENT, CALLS_PER_WINDOW, Guard, OverloadedError
from ecfs.node.listen import check_listen, is_loopback, parse_listen
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc import frames
from ecfs.rpc.limits import MAX_DATA, MAX_MESSAGE, MIB
from ecfs.rpc.methods import DRIVE, PROBE, Method
from ecfs.rpc.status import MARK
from ecfs.rpc.tls import TlsFiles, client_files, node_files
from tests.node.conftest import made
from tests.nodes import ThreadNode

KEY = "s/00000002/00000000"
BAD_KEYS = ["", "../identity", "s/../identity", "/etc/passwd", "identity", "s/00000002/0000000a\0", "j/..", "c/../x"]


@pytest.fixture
async def alive(node: ThreadNode) -> AsyncIterator[None]:
    """Whatever the test does, the node answers a new client afterwards, and has logged no traceback."""
    yield
    drive = node.drive()
    assert isinstance(await drive.is_vacant(), bool)
    await drive.close()


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Any:
    yield
    assert [record for record in caplog.records if record.exc_info] == []


class Raw:
    """A client that sends whatever it likes."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.channel: Any = grpc.insecure_channel(address, options=options)

    def call(self, method: Method, *frames: bytes, timeout: float | None = 5) -> tuple[grpc.StatusCode, str, str]:
        """(status, our mark, text)."""
        try:
            if method.server_streams:
                list(self.channel.unary_stream(method.path)(frames[0], timeout=timeout))
            elif method.client_streams:
                self.channel.stream_unary(method.path)(iter(frames), timeout=timeout)
            else:
                self.channel.unary_unary(method.path)(frames[0], timeout=timeout)
        except grpc.RpcError as error:
            marks: dict[str, Any] = dict(error.trailing_metadata() or ())  # type: ignore[arg-type]
            return error.code(), str(marks.get(MARK, "")), error.details() or ""
        return grpc.StatusCode.OK, "", ""


@pytest.fixture
def raw(node: ThreadNode) -> Any:
    raw = Raw(node.address)
    yield raw
    raw.channel.close()


async def caller_of(drive: NodeDrive) -> pb.Caller:
    return drive._by(drive._attachment)


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_no_key_leads_out_of_the_directory(
    node: ThreadNode, drive: NodeDrive, raw: Raw, alive: None, key: str
) -> None:
    caller = await caller_of(drive)
    calls = [
        (DRIVE["Put"], frames.join(pb.PutRequest(caller=caller, key=key, length=4), [b"evil"])),
        (DRIVE["Append"], frames.join(pb.AppendRequest(caller=caller, segment=key, length=4), [b"evil"])),
        (DRIVE["WriteBlob"], frames.join(pb.WriteBlobRequest(caller=caller, name=f"x{key}", length=4), [b"evil"])),
        (DRIVE["Read"], pb.ReadRequest(caller=caller, key=key).SerializeToString()),
        (DRIVE["ReadBlob"], pb.ReadBlobRequest(caller=caller, name=f"../{key}").SerializeToString()),
        (DRIVE["Delete"], pb.DeleteRequest(caller=caller, key=key).SerializeToString()),
        (DRIVE["Verify"], pb.VerifyRequest(caller=caller, key=key).SerializeToString()),
        (DRIVE["List"], pb.ListRequest(caller=caller, prefix=f"{key}/").SerializeToString()),
        (PROBE["Fetch"], pb.FetchRequest(name=key).SerializeToString()),
        (PROBE["Remove"], pb.RemoveRequest(name=key).SerializeToString()),
    ]
    for method, frame in calls:
        status, mark, _ = await trio.to_thread.run_sync(raw.call, method, frame)
        assert (method.name, status, mark) == (method.name, grpc.StatusCode.INVALID_ARGUMENT, "UsageError")


async def test_a_call_without_end_is_refused(node: ThreadNode, drive: NodeDrive, raw: Raw, alive: None) -> None:
    frame = pb.AliveRequest(caller=await caller_of(drive)).SerializeToString()
    for timeout in (None, 3600.0):
        status, _, text = await trio.to_thread.run_sync(partial(raw.call, DRIVE["Alive"], frame, timeout=timeout))
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert "deadline" in text


async def test_data_that_was_not_announced_is_refused(drive: NodeDrive, raw: Raw, alive: None, tmp_path: Path) -> None:
    caller = await caller_of(drive)

    def put(length: int, *data: bytes) -> tuple[grpc.StatusCode, str, str]:
        first = frames.join(pb.PutRequest(caller=caller, key=KEY, length=length), [data[0]])
        return raw.call(DRIVE["Put"], first, *(frames.join(pb.PutRequest(), [more]) for more in data[1:]))

    refused = [(3, "four"), (5, "four"), (8, "four fours"), (9, "four four"), (8, "four  four")]
    for length, data in refused:
        status, _, _ = await trio.to_thread.run_sync(put, length, *data.encode().split(b" "))
        assert status is grpc.StatusCode.INVALID_ARGUMENT
    status, mark, _ = await trio.to_thread.run_sync(put, MAX_DATA + 1, b"four")
    assert (status, mark) == (grpc.StatusCode.INVALID_ARGUMENT, "UsageError")
    assert list((tmp_path / "drive" / "s" / "00000002").iterdir()) == []


async def test_a_message_too_large_is_never_read(drive: NodeDrive, raw: Raw, alive: None) -> None:
    status, mark, _ = await trio.to_thread.run_sync(raw.call, DRIVE["Put"], bytes(MAX_MESSAGE + 1))
    assert (status, mark) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "")


async def test_a_header_of_ten_gibibytes_is_no_reason_to_wait(node: ThreadNode, alive: None) -> None:
    """A gRPC message announces its length in 5 bytes, at most 4 GiB; a frame of HTTP/2 in 3. More can't be said."""
    for claim in (b"\x00\xff\xff\xff\xff", b"\xff" * 9):
        with socket.create_connection(("127.0.0.1", node.port)) as client:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + claim * 1000)
            client.settimeout(10)
            while await trio.to_thread.run_sync(receive, client):
                pass


def receive(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(10_000), b"\xff" * 100_000, b"\x16\x03\x01\x02\x00"]
)
async def test_garbage_on_the_port(node: ThreadNode, alive: None, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", node.port)) as client:
        client.sendall(garbage)


@pytest.mark.parametrize("name", sorted([*DRIVE, *PROBE]))
async def test_any_bytes_as_a_message(node: ThreadNode, raw: Raw, alive: None, name: str) -> None:
    method = DRIVE.get(name) or PROBE[name]

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=300))
    def send(frame: bytes) -> None:
        status, _, text = raw.call(method, frame)
        assert "Traceback" not in text
        assert status is not grpc.StatusCode.INTERNAL
        if status is grpc.StatusCode.UNKNOWN:
            raise AssertionError(text)

    await trio.to_thread.run_sync(send)


async def test_a_drive_answers_its_own_pool_only(node: ThreadNode) -> None:
    ours, theirs = "a" * 32, "b" * 32
    owner = node.drive(pool_id=ours)
    await owner.create({"identity": b"ecfs identity 1 hash\n" + json.dumps({"pool_id": ours}).encode() + b"\n"})
    await owner.close()
    stranger = node.drive(pool_id=theirs)
    for exclusive in (True, False):
        with pytest.raises(DriveWrongError, match="another pool"):
            await stranger.attach(exclusive=exclusive)
    anonymous = node.drive()
    await anonymous.attach(exclusive=False)
    with pytest.raises(DriveWrongError):
        await anonymous.space()
    await anonymous.read_blob("identity")
    await anonymous.space()  # now it knows whose drive this is
    await owner.attach(exclusive=True)
    await owner.space()
    for drive in (owner, stranger, anonymous):
        await drive.close()


async def test_a_writer_that_never_fenced_changes_nothing_that_is_promised(node: ThreadNode) -> None:
    first = await made(node.drive())
    await first.close()
    second = node.drive()
    await second.attach(exclusive=True)
    with pytest.raises(Exception, match="fence it first"):
        await second.write_blob("superblock", b"mine")
    await second.close()


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_one_client_can_not_have_all_calls() -> None:
    guard = Guard()
    running = [guard.call("greedy", 1.0) for _ in range(CALLS_PER_CLIENT)]
    for call in running:
        call.__enter__()
    with pytest.raises(OverloadedError), guard.call("greedy", 1.0):
        pass
    with guard.call("modest", 1.0):
        pass
    running[0].__exit__(None, None, None)
    with guard.call("greedy", 1.0):
        pass


async def test_one_client_can_not_begin_any_number_of_calls() -> None:
    guard = Guard()
    for _ in range(CALLS_PER_WINDOW):
        with guard.call("greedy", 1.0):
            pass
    with pytest.raises(OverloadedError, match="per second"), guard.call("greedy", 1.0):
        pass
    async with trio.open_nursery() as nursery:
        nursery.start_soon(guard.run)
        await trio.sleep(0.4)
        nursery.cancel_scope.cancel()
    with guard.call("greedy", 1.0):
        pass


async def test_a_busy_node_is_asked_again(node: ThreadNode, drive: NodeDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecfs.node.guard.CALLS_PER_CLIENT", 2)

    async def put(number: int) -> None:
        await drive.put(f"s/00000002/{number:08x}", [b"data"])

    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(put, number)
    assert len([entry async for entry in drive.list("s/")]) == 30


async def test_a_busy_node_is_asked_again_for_an_append_that_nobody_awaits(
    node: ThreadNode, drive: NodeDrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecfs.node.guard.CALLS_PER_CLIENT", 0)
    monkeypatch.setattr("ecfs.node.guard.STANDING_PER_CLIENT", 0)
    gathering = Gathering()
    begun = drive.begin_append("j/00000002.000000", 0, b"record", gathering)
    assert begun is not None
    await trio.sleep(0.3)
    assert begun.seconds is None
    monkeypatch.undo()
    with trio.fail_after(20):
        await gathering.wait()
    begun.result()
    assert await drive.get("j/00000002.000000") == b"record"


async def test_large_data_goes_in_pieces_both_ways(drive: NodeDrive) -> None:
    data = bytes(range(256)) * (9 * MIB // 256)
    await drive.put(KEY, [data[:100], data[100:]])
    assert await drive.get(KEY) == data
    assert await drive.read(KEY, [(1, 6 * MIB), (0, 0), (8 * MIB, MIB)]) == [
        data[1 : 6 * MIB + 1],
        b"",
        data[8 * MIB :],
    ]
    with pytest.raises(UsageError):
        await drive.put(KEY, [bytes(MAX_DATA + 1)])


# ---- where it listens, and TLS --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "loopback"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
    ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("nas1", False), ("localhost.example", False),
    ("", False),
])  # fmt: skip
def test_only_loopback_goes_without_certificates(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
    check_listen(host, tls=True, insecure=False)
    check_listen(host, tls=False, insecure=True)
    if loopback:
        check_listen(host, tls=False, insecure=False)
    else:
        with pytest.raises(UsageError, match="ecfs certs"):
            check_listen(host, tls=False, insecure=False)


@pytest.mark.parametrize("text", ["", "host", ":9001", "host:", "host:x", "host:70000", "host:-1"])
def test_what_is_no_address_to_listen_on(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_listen(text)
    assert parse_listen("[::1]:9001") == ("::1", 9001)


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    for name in ("ours", "theirs"):
        make_certs(folder / name, ["127.0.0.1", "other.example"], SystemClock())
    return folder


@pytest.fixture
def secure(tmp_path: Path, certs: Path) -> Any:
    node = ThreadNode(tmp_path / "drive", tls=node_files(certs / "ours" / "127.0.0.1"))
    yield node
    node.stop()


def with_files(node: ThreadNode, files: TlsFiles | None) -> NodeDrive:
    return NodeDrive(node.address, SystemClock(), slot=3, tls=files, deadline_s=5)


async def test_a_client_of_the_same_ca_is_let_in(secure: ThreadNode, certs: Path) -> None:
    drive = await made(with_files(secure, client_files(certs / "ours" / "client")))
    await drive.put(KEY, [b"secret"])
    assert await drive.get(KEY) == b"secret"
    for number in range(3):  # as a mount does it: by a call that stays open
        gathering = Gathering()
        begun = drive.begin_append("j/00000002.000000", 6 * number, b"record", gathering)
        assert begun is not None
        await gathering.wait()
        begun.result()
    assert await drive.get("j/00000002.000000") == b"record" * 3
    await drive.close()


STRANGERS: dict[str, Callable[[Path], TlsFiles | None]] = {
    "in the clear": lambda certs: None,
    "of another CA": lambda certs: client_files(certs / "theirs" / "client"),
    "of another CA that pretends to know ours": lambda certs: TlsFiles(
        str(certs / "ours" / "client" / "ca.crt"),
        *(str(certs / "theirs" / "client" / f"client.{x}") for x in ("crt", "key")),
    ),
    "with a node's certificate": lambda certs: node_files(certs / "ours" / "other.example"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_nobody_else_is_let_in(secure: ThreadNode, certs: Path, stranger: str) -> None:
    drive = with_files(secure, STRANGERS[stranger](certs))
    with pytest.raises(DriveUnreachableError):
        await drive.is_vacant()
    await drive.close()
    friend = with_files(secure, client_files(certs / "ours" / "client"))
    assert await friend.is_vacant()
    await friend.close()


async def test_a_node_with_a_certificate_for_another_host_is_not_believed(tmp_path: Path, certs: Path) -> None:
    node = ThreadNode(tmp_path / "drive", tls=node_files(certs / "ours" / "other.example"))
    drive = with_files(node, client_files(certs / "ours" / "client"))
    with pytest.raises(DriveUnreachableError):
        await drive.is_vacant()
    await drive.close()
    node.stop()


def test_certificates_are_private_and_hosts_can_be_added(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    made = make_certs(folder, ["nas1"], SystemClock())
    assert sorted(path.name for path in made) == ["client", "nas1"]
    before = (folder / "nas1" / "node.crt").read_bytes()
    assert [path.name for path in make_certs(folder, ["nas1", "10.0.0.7"], SystemClock())] == ["10.0.0.7"]
    assert (folder / "nas1" / "node.crt").read_bytes() == before
    assert {path.stat().st_mode & 0o77 for path in folder.rglob("*")} == {0}
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "10.0.0.7" / "node.crt", folder / "10.0.0.7" / "node.key")
    for host in ("../up", "client", "a/b", "", "-x"):
        with pytest.raises(UsageError, match="no host"):
            make_certs(folder, [host], SystemClock())
    (folder / "ca.key").write_text("rotten")
    with pytest.raises(UsageError, match="damaged"):
        make_certs(folder, ["nas2"], SystemClock())


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        node_files(tmp_path).read()
    (tmp_path / "ca.crt").write_text("hello")
    with pytest.raises(UsageError, match="holds no certificate"):
        node_files(tmp_path).read()
