"""Small calls, one after the other, as messages on one call that stays open: for what every commit waits for.

Begun and not awaited, as `Channel.begin` does it. A call of its own for each would cost either side half as much again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import grpc

from ecfs.clock import monotonic_for_threads
from ecfs.errors import DriveUnreachableError
from ecfs.rpc.client import CLOSED, Channel, translated
from ecfs.rpc.limits import MAX_CALL_S
from ecfs.rpc.methods import Method
from ecfs.rpc.status import NodeBusyError, error_named

RENEW_S = 20.0
"""Age at which a call is replaced before the next message. It ends after `MAX_CALL_S` like any other, and what is said
last in it must have time for its answer."""
UNSAID = 0
"""In an answer of a node that is too old to say which message it answers."""


class Conversations:
    """Messages of `method` on one channel. Their call is made when it is first needed, and anew when it broke.

    Made in the event loop, whose clock it uses from then on.
    """

    def __init__(self, channel: Channel, method: Method) -> None:
        self._open = lambda frames: channel.converse(method, frames, MAX_CALL_S)
        self._now = monotonic_for_threads()
        self._guard = threading.Lock()
        self._newest: Conversation | None = None

    def say(self, frame: bytes, end: int, done: Callable[[Saying], object]) -> Saying | None:
        """From any thread: send it; done() is called in another one when it was answered, or can't be any more.

        end: what the answer must name. None, and nothing sent, while the message before has no answer yet.
        """
        with self._guard:
            if self._newest is None or self._newest.is_of_no_more_use():
                self._newest = Conversation(self._open, self._now)
            return self._newest.say(frame, end, done)


class Conversation:
    """One call, with a thread that hears the answers."""

    def __init__(self, open_call: Callable[[Iterator[bytes]], Any], now: Callable[[], float]) -> None:
        self._now = now
        self._began = self._now()
        self._guard = threading.Lock()
        self._saying: Saying | None = None
        self._over = False
        self._to_say: SimpleQueue[bytes | None] = SimpleQueue()
        self._call = open_call(iter(self._to_say.get, None))
        try:
            threading.Thread(target=self._listen, name="answers", daemon=True).start()
        except RuntimeError:
            self._call.cancel()  # nobody would hear the answers
            raise

    def say(self, frame: bytes, end: int, done: Callable[[Saying], object]) -> Saying | None:
        saying = Saying(self, end, done)
        with self._guard:
            if self._saying is not None or self._over:
                return None
            self._saying = saying
        self._to_say.put(frame)
        return saying

    def is_of_no_more_use(self) -> bool:
        """Ended, or so old that it ends now."""
        with self._guard:
            old = self._saying is None and self._now() - self._began > RENEW_S
            over = self._over
        if old:
            self._to_say.put(None)
        return old or over

    def cancel(self) -> None:
        """At once for whoever speaks next, however long the call takes to end."""
        with self._guard:
            self._over = True
        self._call.cancel()

    def _listen(self) -> None:
        error: Exception = DriveUnreachableError("the node ended the call")
        try:
            for answer in self._call:
                if not self._is_expected(answer):
                    # Nothing that this call still says can be believed: a record could count that no disk has.
                    error = DriveUnreachableError("the node's answer is not the one to what was asked")
                    self.cancel()
                    break
                self._answer(error_named(answer.error, answer.text) if answer.error else None)
        except grpc.FutureCancelledError:
            error = DriveUnreachableError(CLOSED)
        except grpc.RpcError as broken:
            error = translated(broken)
        with self._guard:
            self._over = True
        self._to_say.put(None)  # lets the thread go that gRPC reads messages with
        self._answer(error)

    def _is_expected(self, answer: Any) -> bool:
        with self._guard:
            saying = self._saying
        return saying is not None and answer.end in (saying.end, UNSAID)

    def _answer(self, error: Exception | None) -> None:
        with self._guard:
            saying, self._saying = self._saying, None
        if saying is not None:
            saying.ended(error)


class Saying:
    """A message on its way, or answered (`client.OnItsWay`)."""

    def __init__(self, conversation: Conversation, end: int, done: Callable[[Saying], object]) -> None:
        self.end = end
        self._conversation = conversation
        self._done = done
        self._error: Exception | None = None

    def ended(self, error: Exception | None) -> None:
        self._error = error
        self._done(self)

    def was_busy(self) -> bool:
        return isinstance(self._error, NodeBusyError)

    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """With it the whole conversation: its answer could be taken for the next one's."""
        self._conversation.cancel()
