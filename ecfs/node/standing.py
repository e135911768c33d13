"""Calls that stay open between their messages. They end with the node, but none in the middle of a message."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc


class Standing:
    """Those of one service, told from outside when to end."""

    def __init__(self) -> None:
        self.ending = False
        self._guard = threading.Lock()
        self._idle: set[grpc.ServicerContext] = set()

    @contextmanager
    def call(self, context: grpc.ServicerContext) -> Iterator[None]:
        self._set_idle(context)
        try:
            yield
        finally:
            self._set_busy(context)

    @contextmanager
    def message(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Around the work for one of them."""
        self._set_busy(context)
        try:
            yield
        finally:
            self._set_idle(context)

    def _set_busy(self, context: grpc.ServicerContext) -> None:
        with self._guard:
            self._idle.discard(context)

    def _set_idle(self, context: grpc.ServicerContext) -> None:
        with self._guard:
            if not self.ending:
                self._idle.add(context)

    def end(self) -> None:
        """Whoever is in the middle of a message ends after its answer."""
        with self._guard:
            self.ending = True
            idle = list(self._idle)
        for context in idle:
            context.cancel()
