"""Health and reflection come from a library that sets no limits; here they get theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

OTHERS = 4
"""Calls of the standard services that are worked on at a time. They must never keep a drive's calls waiting."""


class OthersLimited(grpc.ServerInterceptor):
    """Refuses what is not ours beyond `OTHERS` at a time. Their streams end when their client says nothing more."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(OTHERS)

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None or str(handler_call_details.method).startswith("/ecfs."):
            return handler
        if handler.request_streaming and handler.response_streaming:
            return handler._replace(stream_stream=self._limited(handler.stream_stream))
        return handler

    def _limited(self, behavior: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def answer(requests: Iterator[Any], context: Any) -> Iterator[Any]:
            if not self._free.acquire(blocking=False):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"more than {OTHERS} such calls at a time")
            try:
                yield from behavior(requests, context)
            finally:
                self._free.release()

        return answer
