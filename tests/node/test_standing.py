"""A node that is asked to end, and calls that stay open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ecfs.node.guard import Guard
from ecfs.node.service import Service
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc import frames
from ecfs.rpc.methods import DRIVE


class Target:
    """A drive that takes any append."""

    @contextmanager
    def changing(self, caller: pb.Caller) -> Iterator[None]:
        yield

    def append(self, request: pb.AppendRequest, buffers: object) -> None:
        return None


class Context:
    """Of a call of gRPC's."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def time_remaining(self) -> float:
        return 10.0

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


def test_an_answer_on_its_way_is_not_broken_off() -> None:
    """The append is made, and its client would take it for failed."""
    token: Any = None
    service, context = Service(Target(), {"Appends": DRIVE["Appends"]}, Guard(), token), Context()
    request = pb.AppendRequest(segment="j/00000002.000000", offset=0, length=6)
    answers = service._conversing(DRIVE["Appends"], Target().append)(iter([frames.join(request, [b"record"])]), context)
    assert DRIVE["Appends"].reply.FromString(next(answers)) == pb.AppendsReply(end=6)
    service.standing.end()
    assert not context.cancelled
    assert list(answers) == []
