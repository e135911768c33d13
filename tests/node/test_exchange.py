"""What a conversation needs of gRPC below its public interface: whoever raises grpcio's version sees it here."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
import trio

from ecfs.drive.node import NodeDrive
from ecfs.rpc import served_exchange
from ecfs.rpc.exchange import Exchange
from ecfs.rpc.served_exchange import Hearing, ServedExchange

PATH = "/test.Talk/Say"


def talk(incoming: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for frame in incoming:
        if frame == b"leave":
            return
        if frame == b"fail":
            context.set_trailing_metadata((("why", "because"),))
            context.abort(grpc.StatusCode.DATA_LOSS, "lost")
        if frame == b"wait":
            next(incoming, None)
        yield frame + b"!"


@pytest.fixture
def address() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    handler: Any = grpc.stream_stream_rpc_method_handler(talk)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Talk", {"Say": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


def test_answers_come_in_order_until_we_have_finished(channel: grpc.Channel) -> None:
    exchange = Exchange(channel, PATH, 10)
    answers = exchange.answers()
    for number in range(100):
        assert exchange.send(b"%d" % number)
        assert next(answers) == b"%d!" % number
    exchange.finish()
    assert list(answers) == []
    assert exchange.ended.code is grpc.StatusCode.OK
    assert not exchange.send(b"too late")


def test_the_other_side_ends_it(channel: grpc.Channel) -> None:
    exchange = Exchange(channel, PATH, 10)
    exchange.send(b"leave")
    assert list(exchange.answers()) == []
    assert exchange.ended.code is grpc.StatusCode.OK


def test_the_other_side_fails(channel: grpc.Channel) -> None:
    exchange = Exchange(channel, PATH, 10)
    exchange.send(b"fail")
    assert list(exchange.answers()) == []
    assert (exchange.ended.code, exchange.ended.text) == (grpc.StatusCode.DATA_LOSS, "lost")
    assert dict(exchange.ended.metadata) == {"why": "because"}


def test_it_is_cancelled_while_an_answer_is_waited_for(channel: grpc.Channel) -> None:
    exchange = Exchange(channel, PATH, 10)
    exchange.send(b"wait")
    exchange.cancel()
    assert list(exchange.answers()) == []
    assert exchange.ended.code is grpc.StatusCode.CANCELLED


def test_its_time_is_over(channel: grpc.Channel) -> None:
    exchange = Exchange(channel, PATH, 0.2)
    exchange.send(b"wait")
    assert list(exchange.answers()) == []
    assert exchange.ended.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_channel_is_closed_under_it(address: str) -> None:
    channel = grpc.insecure_channel(address)
    exchange = Exchange(channel, PATH, 10)
    exchange.send(b"wait")
    channel.close()
    assert list(exchange.answers()) == []
    assert exchange.ended.code is grpc.StatusCode.CANCELLED
    with pytest.raises(ValueError, match="closed"):
        Exchange(channel, PATH, 10)


def test_nobody_is_there() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        exchange = Exchange(channel, PATH, 10)
        exchange.send(b"hello")
        assert list(exchange.answers()) == []
        assert exchange.ended.code is grpc.StatusCode.UNAVAILABLE


NO_THREAD = """
import sys

import trio
from grpc._cython import cygrpc

from ecfs.clock import SystemClock
from ecfs.drive.node import NodeDrive
from ecfs.errors import DriveUnreachableError


async def main():
    drive, start = NodeDrive(sys.argv[1], SystemClock()), cygrpc.ForkManagedThread.start

    def none_left(self):
        raise RuntimeError("can't start new thread")

    cygrpc.ForkManagedThread = type("None", (cygrpc.ForkManagedThread,), {"start": none_left})
    for _ in range(3):
        try:
            await drive.attach(exclusive=True)
            raise AssertionError
        except DriveUnreachableError as error:
            assert "no thread" in str(error)
    cygrpc.ForkManagedThread.start = start
    with trio.fail_after(10):
        await drive.attach(exclusive=True)
        await drive.alive()
        await drive.close()


trio.run(main)
"""


async def test_no_thread_for_a_moment_does_not_block_the_event_loop_for_ever(drive: NodeDrive) -> None:
    """In a process of its own, since it would never end."""
    await drive.close()
    with trio.fail_after(30):
        await trio.run_process([sys.executable, "-c", NO_THREAD, drive.url])


@pytest.mark.parametrize("where", ["in the call's thread", "where it is heard"])
def test_a_served_exchange_answers_each_message_and_the_server_stays(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each operation is due under the same name: one that is begun while another ends must not be taken for ended."""
    hearing: list[Hearing] = []

    class Slow(SimpleQueue[Any]):
        """Whoever takes something out goes on before who has put it in."""

        def put(self, *arguments: Any) -> None:
            super().put(*arguments)
            time.sleep(0.0005)

    monkeypatch.setattr(served_exchange, "SimpleQueue", Slow)

    def answer(incoming: Iterator[bytes], context: Any) -> Iterator[bytes]:
        ServedExchange(context, lambda message: message + b"!", hearing[0] if hearing else None).serve()
        yield from ()

    server = grpc.server(ThreadPoolExecutor(4))
    handler: Any = grpc.stream_stream_rpc_method_handler(answer)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Talk", {"Say": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    if where == "where it is heard":
        hearing.append(Hearing(server))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        exchanges = [Exchange(channel, PATH, 10) for _ in range(4)]
        answers = [exchange.answers() for exchange in exchanges]
        for number in range(200):
            for exchange in exchanges:
                assert exchange.send(b"%d" % number)
            assert [next(each) for each in answers] == [b"%d!" % number] * 4
        for exchange, each in zip(exchanges, answers, strict=True):
            exchange.finish()
            assert list(each) == []
            assert exchange.ended.code is grpc.StatusCode.OK
    for one in hearing:
        one.stop()
    assert server.stop(5).wait(10)
