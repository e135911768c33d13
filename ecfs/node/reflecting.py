"""Health and reflection come from a library that sets no limits; here they get theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from ecfs.node.service import ended_after

OTHERS = 4
"""Calls of the standard services that are worked on at a time. They must never keep a drive's calls waiting."""
OTHERS_S = 15.0
"""How long one may take, whatever its deadline: those that wait for their client would keep all others out."""


class OthersLimited(grpc.ServerInterceptor):
    """Refuses what is not ours beyond `OTHERS` at a time, and breaks off what takes longer than `OTHERS_S`.

    A single message is read here and not by gRPC, as in `Service`. A stream of replies to one message is not offered:
    the only one, `Health/Watch`, sends with the library's lock held, so that a client that takes nothing would hold up
    `Check`, and the node when it ends.
    """

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(OTHERS)

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None or str(handler_call_details.method).startswith("/ecfs."):
            return handler
        coding = handler.request_deserializer, handler.response_serializer
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._conversing(handler.stream_stream), *coding)
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(self._simple(handler.unary_unary), *coding)
        return None

    def _conversing(self, behavior: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def answer(requests: Iterator[Any], context: Any) -> Iterator[Any]:
            with self._limited(context):
                yield from behavior(requests, context)

        return answer

    def _simple(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        def answer(requests: Iterator[Any], context: Any) -> Any:
            with self._limited(context):
                for request in requests:
                    return behavior(request, context)
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a call without a message")

        return answer

    @contextmanager
    def _limited(self, context: Any) -> Iterator[None]:
        if not self._free.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {OTHERS} such calls at a time")
        try:
            with ended_after(OTHERS_S, context):
                yield
        finally:
            self._free.release()
