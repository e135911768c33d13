"""A call that stays open, below gRPC's public interface: a message and the wait for its answer are one operation.

The public interface gives each call of that kind a thread that sends, one that hears and one that hands over between
them. A round of small messages to six nodes took 0.75 ms that way, 0.55 ms with gRPC's asyncio calls and 0.40 ms here,
with a third of the processor time. What is used is what gRPC's own calls are made of (`grpc._cython.cygrpc`), and
nothing else in ecfs knows of it; whoever raises grpcio's version runs the tests of conversations.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import _channel as inside
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from ecfs.clock import deadline_from_now

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class Ended:
    """How a call ended: what `status.error_of` makes an error of."""

    code: grpc.StatusCode
    text: str
    metadata: Sequence[tuple[str, str | bytes]]


class Exchange:
    """One call of the method at `path`; it ends by itself after timeout_s. Raises ValueError if the channel is closed.

    ended: set before `answers` ends.
    """

    def __init__(self, channel: grpc.Channel, path: str, timeout_s: float) -> None:
        self.ended = Ended(grpc.StatusCode.UNKNOWN, "", ())
        self._guard = threading.Lock()
        opening = [
            (cygrpc.SendInitialMetadataOperation((), 0),),
            (cygrpc.ReceiveInitialMetadataOperation(0),),
            (cygrpc.ReceiveStatusOnClientOperation(0),),
        ]
        self._due = len(opening)
        inner: Any = channel
        self._call = inner._channel.segregated_call(
            cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
            path.encode(),
            None,  # the host is the channel's
            deadline_from_now(timeout_s),
            None,  # no metadata
            None,  # the credentials are the channel's
            [(operations, None) for operations in opening],
            None,
            None,
        )

    def send(self, frame: bytes) -> bool:
        """From any thread: send a message, of which `answers` gives the answer. False if the call is over."""
        return self._do(cygrpc.SendMessageOperation(frame, 0), cygrpc.ReceiveMessageOperation(0))

    def finish(self) -> None:
        """From any thread: say that no more messages will come, whereupon the other side ends the call."""
        self._do(cygrpc.SendCloseFromClientOperation(0))

    def cancel(self) -> None:
        """From any thread: end it at once."""
        self._call.cancel(cygrpc.StatusCode.cancelled, "nobody waits for it any more")

    def _do(self, *operations: Any) -> bool:
        with self._guard:
            begun = bool(self._call.operate(operations, None))
            self._due += begun
        return begun

    def answers(self) -> Iterator[bytes]:
        """In one thread: wait for answers until the call has ended. A message without an answer has ended it."""
        while self._due:
            answer = self._next()
            if answer is not None:
                yield answer
            del answer  # it has some MiB, and the next one may be long in coming

    def _next(self) -> bytes | None:
        answer: bytes | None = None
        event = self._call.next_event()
        with self._guard:
            self._due -= 1
        for operation in event.batch_operations:
            kind = operation.type()
            if kind == cygrpc.OperationType.receive_message:
                answer = operation.message()
            elif kind == cygrpc.OperationType.receive_status_on_client:
                self.ended = _ended(operation)
        return answer


def lacks_its_thread(error: RuntimeError) -> bool:
    """Has a call been begun, and no thread be had for the channel, which is what ends its calls?

    gRPC believes from then on that the channel has one: no call on it ends, and closing it waits for them for ever.
    """
    return any(at.name == inside._run_channel_spin_thread.__name__ for at in traceback.extract_tb(error.__traceback__))


def give_thread(channel: grpc.Channel) -> None:
    """What such a channel lacks. Raises RuntimeError if there still is none to be had."""
    inner: Any = channel
    inside._run_channel_spin_thread(inner._call_state)


def _ended(status: Any) -> Ended:
    code = _CODES.get(status.code(), grpc.StatusCode.UNKNOWN)
    return Ended(code, status.details() or "", tuple(status.trailing_metadata() or ()))
