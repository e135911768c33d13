"""Small calls, one after the other, as messages on one call that stays open: for what every commit waits for.

Begun and not awaited, as `Channel.begin` does it. A call of its own for each would cost either side half as much again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import grpc
from google.protobuf.message import DecodeError

from ecfs.clock import monotonic_for_threads
from ecfs.errors import DriveUnreachableError
from ecfs.rpc.client import CLOSED, Channel
from ecfs.rpc.limits import MAX_CALL_S
from ecfs.rpc.methods import Method, deserializer
from ecfs.rpc.status import NodeBusyError, error_named, error_of

RENEW_S = 20.0
"""Age at which a call is replaced before the next message. It ends after `MAX_CALL_S` like any other, and what is said
last in it must have time for its answer."""


class Conversations:
    """Messages of `method` on one channel. Their call is made when it is first needed, and anew when it broke.

    Made in the event loop, whose clock it uses from then on.
    """

    def __init__(self, channel: Channel, method: Method) -> None:
        self._channel = channel
        self._method = method
        self._now = monotonic_for_threads()
        self._guard = threading.Lock()
        self._newest: Conversation | None = None

    def say(self, frame: bytes, end: int, done: Callable[[Saying], object]) -> Saying | None:
        """From any thread: send it; done() is called in another one when it was answered, or can't be any more.

        end: what the answer must name. None, and nothing sent, while the message before has no answer yet.
        """
        with self._guard:
            if self._newest is None or self._newest.is_of_no_more_use(end):
                self._newest = Conversation(self._channel, self._method, self._now)
            return self._newest.say(frame, end, done)


class Conversation:
    """One call, with a thread that hears the answers."""

    def __init__(self, channel: Channel, method: Method, now: Callable[[], float]) -> None:
        self._channel = channel
        self._understood = deserializer(method.reply)
        self._now = now
        self._began = self._now()
        self._guard = threading.Lock()
        self._saying: Saying | None = None
        self._said = -1
        """The `end` of the newest message. They grow, so that no answer to an earlier one, which had come twice or too
        late, would do for a later one: the first records of two segments may well be of the same length."""
        self._over = False
        self._exchange = channel.converse(method, MAX_CALL_S)
        try:
            threading.Thread(target=self._listen, name="answers", daemon=True).start()
        except RuntimeError:
            self._exchange.cancel()  # nobody would hear the answers
            raise

    def say(self, frame: bytes, end: int, done: Callable[[Saying], object]) -> Saying | None:
        saying = Saying(self, end, done)
        with self._guard:
            if self._saying is not None or self._over:
                return None
            self._saying, self._said = saying, end
        if self._exchange.send(frame):
            return saying
        with self._guard:
            self._over = True
            if self._saying is not saying:
                return saying  # it has heard already that the call is over
            self._saying = None
        return None

    def is_of_no_more_use(self, end: int) -> bool:
        """Ended, or it ends now: as it is old, or an earlier answer could be taken for that to the next message. Asked
        again it must not be finished again, which gRPC refuses: whoever has asked may have got no thread for the next
        one."""
        with self._guard:
            over = self._over
            old = self._saying is None and (end <= self._said or self._now() - self._began > RENEW_S)
            self._over = over or old
        if old and not over:
            self._exchange.finish()
        return old or over

    def cancel(self) -> None:
        """At once for whoever speaks next, however long the call takes to end."""
        with self._guard:
            self._over = True
        self._exchange.cancel()

    def _listen(self) -> None:
        error: Exception | None = None
        for answer in self._exchange.answers():
            if error is None:
                error = self._hear(answer)
        with self._guard:
            self._over = True
        self._answer(error or self._why_it_ended())

    def _hear(self, answer: bytes) -> Exception | None:
        """None, or the error with which the call ends: nothing that it still says can be believed then, as a record
        could count that no disk has."""
        with self._guard:
            saying = self._saying
        with suppress(DecodeError):
            understood = self._understood(answer)
            if saying is not None and understood.end == saying.end:
                self._answer(error_named(understood.error, understood.text) if understood.error else None)
                return None
        self.cancel()
        return DriveUnreachableError("the node's answer is not the one to what was asked")

    def _why_it_ended(self) -> Exception:
        if self._channel.closed:
            return DriveUnreachableError(CLOSED)
        ended = self._exchange.ended
        if ended.code is grpc.StatusCode.OK:
            return DriveUnreachableError("the node ended the call")
        return error_of(ended.code, ended.text, ended.metadata)

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
        self._error: Exception | None = DriveUnreachableError("the node has not answered")

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
