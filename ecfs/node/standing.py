"""Calls that stay open between their messages. They end with the node, but none in the middle of a message."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ecfs.rpc.served_exchange import ServedExchange


class Standing:
    """Those of one service, told from outside when to end."""

    def __init__(self) -> None:
        self._ending = False
        self._guard = threading.Lock()
        self._open: set[ServedExchange] = set()

    @contextmanager
    def call(self, exchange: ServedExchange) -> Iterator[None]:
        with self._guard:
            self._open.add(exchange)
            if self._ending:
                exchange.end()
        try:
            yield
        finally:
            with self._guard:
                self._open.discard(exchange)

    def end(self) -> None:
        with self._guard:
            self._ending = True
            for exchange in self._open:
                exchange.end()
