"""The node's side of a call that stays open, below gRPC's public interface (its client's: `exchange`).

The public interface wakes the call's thread three times for a message: it has come, its answer is sent, the next one
may come. Here an answer and the wait for the next message are one operation, and what is short is done by the thread
that hears of it (`Hearing`). Each cost a twelfth of what a synced append to six nodes takes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import grpc
from grpc import _server as inside
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from ecfs.clock import deadline_from_now, stopwatch

PATIENCE_S = 0.005
"""So long gRPC's thread may be at work before another one hears for it."""
SHORT_S = 0.002
"""What took longer is not done by it the next `AVOIDED` times: the disk is slow, and others should not wait for it."""
AVOIDED = 16
IDLE_S = 1.0
"""After so long without such work nobody watches any more."""

LARGE = 64 * 1024
"""An answer of so many bytes is an operation of its own: together with the wait for the next message it would stay in
memory, twice, for as long as that waits."""

_DUE = "message of an exchange"
_SENT = "answer of an exchange"
_log = logging.getLogger(__name__)


class Hearing:
    """The one thread that hears of everything that gRPC says to a server, when it does short work itself.

    Work can take for ever all the same, as when a disk hangs: a second thread watches it, and hears in its place
    meanwhile. Without that, such a node would be deaf.
    """

    def __init__(self, server: grpc.Server) -> None:
        inner: Any = server
        self._state = inner._state
        self._began: float | None = None
        self._ended = 0.0
        self._avoided = 0
        self._deputy_hears = False
        self._watched = threading.Event()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="deputy", daemon=True).start()

    def do(self, work: Callable[[], None]) -> bool:
        """In the thread that hears: work(), here and now, or nothing and False where that would not be wise."""
        if self._deputy_hears or self._avoided:
            self._avoided = max(self._avoided - 1, 0)
            return False
        began = self._began = stopwatch()
        if not self._watched.is_set():  # asked after `_began` is set: see `_watch`
            self._watched.set()
        try:
            work()
        finally:
            self._ended = stopwatch()
            self._began = None
            if self._ended - began > SHORT_S:
                self._avoided = AVOIDED
        return True

    def stop(self) -> None:
        """The server has ended."""
        self._stopped.set()
        self._watched.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._watched.wait()
            self._stopped.wait(PATIENCE_S)
            began = self._began
            if began is not None and stopwatch() - began >= PATIENCE_S:
                self._hear()
            elif began is None and stopwatch() - self._ended > IDLE_S:
                self._watched.clear()
                if self._began is not None:  # it began before it could see that nobody watches
                    self._watched.set()

    def _hear(self) -> None:
        """Until that work is done. What comes meanwhile is left to the threads of its calls."""
        self._deputy_hears = True
        while self._began is not None and not self._stopped.is_set():
            event = self._state.completion_queue.poll(deadline_from_now(PATIENCE_S))
            is_late = event.completion_type == cygrpc.CompletionType.queue_timeout
            try:
                if not is_late and not inside._process_event_and_continue(self._state, event):
                    self._stopped.set()
            except Exception:
                _log.exception("a call failed")  # as when no thread is to be had for it. Others must be heard
                self._take_calls()
            del event  # before the next poll: what leads to a call that has ended makes that spin (as in gRPC's own)
        self._deputy_hears = False

    def _take_calls(self) -> None:
        """An error may have come before gRPC was told that there may be further ones."""
        with self._state.lock:
            if self._state.stage is inside._ServerStage.STARTED and inside._REQUEST_CALL_TAG not in self._state.due:
                inside._request_call(self._state)


class ServedExchange:
    """The messages of a call of `stream_stream` whose handler takes none from gRPC's iterator, and gives it no answer.

    work: from a message to its answer. hearing: given if work is short.
    """

    def __init__(
        self, context: grpc.ServicerContext, work: Callable[[bytes], bytes], hearing: Hearing | None = None
    ) -> None:
        inner: Any = context
        self._state, self._call = inner._state, inner._rpc_event.call
        self._work = work
        self._hearing = hearing
        self._came: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._ending = False
        self._at_work = threading.Lock()
        """Held by the thread that hears while it works on a message."""
        self._opening: tuple[Any, ...] = (cygrpc.SendInitialMetadataOperation((), 0),)

    def serve(self) -> None:
        """In the call's thread: answer each message before the next one is taken, until the call ends, or `end` says
        so. Raises what work raises."""
        self._do(self._done, _DUE, cygrpc.ReceiveMessageOperation(0))
        while not self._ending and (came := self._came.get()) is not None:
            try:
                if isinstance(came, BaseException):
                    raise came
                self._answer(came)
            finally:
                del came  # a message has some MiB; an error leads back here, and to the call
        with self._at_work:  # else the call would end before its answer: of what was done one would hear that it failed
            return

    def end(self) -> None:
        """From any thread: `serve` ends, after the message that is worked on. What was answered is still sent."""
        self._ending = True
        self._came.put(None)

    def _answer(self, message: bytes) -> None:
        if not inside._is_rpc_state_active(self._state):
            self._came.put(None)
            return  # its client has given it up, and need not find it done
        answer = self._work(message)
        opening, self._opening = self._opening, ()
        send, receive = cygrpc.SendMessageOperation(answer, 0), cygrpc.ReceiveMessageOperation(0)
        if len(answer) < LARGE:
            self._do(self._done, _DUE, *opening, send, receive)
        else:
            self._do(self._sent, _SENT, *opening, send)
            self._do(self._done, _DUE, receive)

    def _do(self, done: Callable[[Any], Any], due: str, *operations: Any) -> None:
        with self._state.condition:
            if not inside._is_rpc_state_active(self._state) or self._call.start_server_batch(operations, done):
                self._came.put(None)  # the call is over, or gRPC refuses
                return
            self._state.due.add(due)
            self._state.initial_metadata_allowed = bool(self._opening)  # else gRPC sends it again at the end

    def _sent(self, event: Any) -> Any:
        with self._state.condition:
            return inside._possibly_finish_call(self._state, _SENT)

    def _done(self, event: Any) -> Any:
        """In the thread that hears: what it returns says whether the call has ended with this. It must not raise, which
        would end that thread, and with it the node."""
        received = [each for each in event.batch_operations if each.type() == cygrpc.OperationType.receive_message]
        message = received[0].message()
        with self._state.condition:
            finished = inside._possibly_finish_call(self._state, _DUE)
        # Only now: whoever has the message may begin the next operation at once, and that is due under the same name.
        with self._at_work:
            try:
                if not self._is_done_here(message):
                    self._came.put(message)
            except BaseException as error:
                self._came.put(error.with_traceback(None))  # which leads to the call: gRPC counts what is referred to
        return finished

    def _is_done_here(self, message: bytes | None) -> bool:
        if message is None or self._ending or self._hearing is None:
            return False
        return self._hearing.do(lambda: self._answer(message))
