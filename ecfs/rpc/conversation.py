"""Small calls, one after the other, as messages on one call that stays open: for what every commit waits for.

Begun and not awaited, as `Channel.begin` does it. A call of its own for each would cost either side half as much again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc

from ecfs.clock import monotonic_for_threads
from ecfs.errors import DriveUnreachableError
from ecfs.rpc import frames
from ecfs.rpc.client import CLOSED, Channel
from ecfs.rpc.limits import MAX_CALL_S
from ecfs.rpc.methods import Method
from ecfs.rpc.status import NodeBusyError, error_named, error_of, was_said_by_node

RENEW_S = 20.0
"""Age at which a call is replaced before the next message. It ends after `MAX_CALL_S` like any other, and what is said
last in it must have time for its answer."""


class Conversations:
    """Messages of `method` on one channel, `most` at a time, each in a call of its own that is made when it is first
    needed, and anew when it broke.

    Made in the event loop, whose clock it uses from then on.
    """

    def __init__(self, channel: Channel, method: Method, most: int = 1) -> None:
        self._channel = channel
        self._method = method
        self._most = most
        self._now = monotonic_for_threads()
        self._guard = threading.Lock()
        self._open: list[Conversation] = []
        self._unknown = False

    def say(self, frame: bytes, number: int, done: Callable[[Saying], object]) -> Saying | None:
        """From any thread: send it; done() is called in another one when it was answered, or can't be any more.

        number: what the answer must name. None, and nothing sent, while as many messages as there may be have no answer
        yet, or if the node is of a version without such calls.
        """
        with self._guard:
            for each in self._open:
                if (saying := each.say(frame, number, done)) is not None:
                    return saying
            self._open = [each for each in self._open if not each.over]
            if self._unknown or len(self._open) >= self._most:
                return None
            self._open.append(Conversation(self._channel, self._method, self._now, self._set_unknown))
            return self._open[-1].say(frame, number, done)

    def _set_unknown(self) -> None:
        self._unknown = True


class Conversation:
    """One call, with a thread that hears the answers."""

    def __init__(
        self, channel: Channel, method: Method, now: Callable[[], float], unknown: Callable[[], object]
    ) -> None:
        self._channel = channel
        self._reply = method.reply
        self._now = now
        self._unknown = unknown
        self._began = self._now()
        self._guard = threading.Lock()
        self._saying: Saying | None = None
        self._said = -1
        """The number of the newest message. They grow, so that no answer to an earlier one, which had come twice or too
        late, would do for a later one: the first records of two segments may well be of the same length."""
        self.over = False
        """Of no more use."""
        self._exchange = channel.converse(method, MAX_CALL_S)
        try:
            threading.Thread(target=self._listen, name="answers", daemon=True).start()
        except RuntimeError:
            self._exchange.cancel()  # nobody would hear the answers
            raise

    def say(self, frame: bytes, number: int, done: Callable[[Saying], object]) -> Saying | None:
        """None, and nothing sent, if a message has no answer yet, or if the call is of no more use: ended, or it ends
        now, as it is old, or as an earlier answer could be taken for that to this message."""
        saying = Saying(self, number, done)
        with self._guard:
            if self._saying is not None or self.over:
                return None
            if is_old := number <= self._said or (self._said >= 0 and self._now() - self._began > RENEW_S):
                self.over = True
            else:
                self._saying, self._said = saying, number
        if is_old:
            self._exchange.finish()
            return None
        if self._exchange.send(frame):
            return saying
        with self._guard:
            self.over = True
            if self._saying is not saying:
                return saying  # it has heard already that the call is over
            self._saying = None
        return None

    def cancel(self, saying: Saying | None = None) -> None:
        """At once for whoever speaks next, however long the call takes to end. saying: only if that has no answer yet;
        else the call may carry another's message by now."""
        with self._guard:
            if saying is not None and self._saying is not saying:
                return
            self.over = True
        self._exchange.cancel()

    def _listen(self) -> None:
        error: Exception | None = None
        for answer in self._exchange.answers():
            if error is None:
                error = self._hear(answer)
            del answer  # it has some MiB, and the next one may be long in coming
        with self._guard:
            self.over = True
        self._answer(error or self._why_it_ended())

    def _hear(self, answer: bytes) -> Exception | None:
        """None, or the error with which the call ends: nothing that it still says can be believed then, as a record
        could count that no disk has."""
        with self._guard:
            saying = self._saying
        with suppress(frames.FrameError):
            reply: Any
            reply, data = frames.split(self._reply, answer)
            if saying is not None and reply.number == saying.number:
                saying.reply, saying.data = reply, data
                self._answer(error_named(reply.error, reply.text) if reply.error else None)
                return None
        self.cancel()
        return DriveUnreachableError("the node's answer is not the one to what was asked")

    def _why_it_ended(self) -> Exception:
        if self._channel.closed:
            return DriveUnreachableError(CLOSED)
        ended = self._exchange.ended
        if ended.code is grpc.StatusCode.OK:
            return DriveUnreachableError("the node ended the call")
        if ended.code is grpc.StatusCode.UNIMPLEMENTED and not was_said_by_node(ended.metadata):
            self._unknown()
            return NodeBusyError("the node is of a version without such calls")  # it has done nothing for this one
        return error_of(ended.code, ended.text, ended.metadata)

    def _answer(self, error: Exception | None) -> None:
        with self._guard:
            saying, self._saying = self._saying, None
        if saying is not None:
            saying.ended(error)


class Saying:
    """A message on its way, or answered (`client.OnItsWay`).

    reply, data: the answer, once there is one; also if that is an error. None for ever if the conversation ended.
    """

    def __init__(self, conversation: Conversation, number: int, done: Callable[[Saying], object]) -> None:
        self.number = number
        self.reply: Any = None
        self.data = memoryview(b"")
        self._conversation = conversation
        self._done = done
        self._error: Exception | None = None

    def ended(self, error: Exception | None) -> None:
        self._error = error
        self._done(self)

    def was_busy(self) -> bool:
        return isinstance(self._error, NodeBusyError)

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        if self.reply is None:
            raise DriveUnreachableError("the node has not answered")
        return self.reply

    def cancel(self) -> None:
        """With it the whole conversation: its answer could be taken for the next one's."""
        self._conversation.cancel(self)
