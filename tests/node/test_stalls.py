"""How long programs wait when a node falls silent: printed, and held to what docs/NODES.md says. `make soak`, as root.

pytest -m soak -s tests/node/test_stalls.py
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.mount.real import Pool
from tests.node.network import Machines, Network
from tests.node.network import six as six
from tests.node.workers import Files, Worker

pytestmark = [pytest.mark.mount, pytest.mark.soak, pytest.mark.timeout(600)]

SIZE = 200 << 20
PIECE = 64 << 10
ROUNDS = 3
PATIENCE_S = 8.0
"""From the moment that a node falls silent until it comes back."""
BOUND_S = 10.0
"""2 s for one node, and what a busy machine adds."""


class Reader(Worker):
    """Reads pieces of a large file in no order, past the kernel's cache."""

    def prepare(self) -> None:
        super().prepare()
        self._path = self.folder / "large"
        self._path.write_bytes(bytes(range(256)) * (SIZE // 256))

    def step(self, number: int) -> None:
        handle = os.open(self._path, os.O_RDONLY | os.O_DIRECT)
        try:
            assert os.pread(handle, PIECE, random.randrange(SIZE // PIECE) * PIECE) == bytes(range(256)) * (
                PIECE // 256
            )
        finally:
            os.close(handle)

    def check(self) -> None:
        assert len(self._path.read_bytes()) == SIZE


@dataclass(frozen=True)
class Silence:
    """A way to fall silent, and back."""

    begin: Callable[[Network, Machines, int], None]
    end: Callable[[Network, Machines, int], None]


WAYS = {
    "killed": Silence(lambda net, nodes, slot: nodes[slot].kill(), lambda net, nodes, slot: nodes[slot].start()),
    "stopped": Silence(lambda net, nodes, slot: nodes[slot].pause(), lambda net, nodes, slot: nodes[slot].resume()),
    "cable out": Silence(lambda net, nodes, slot: net.pull(slot), lambda net, nodes, slot: net.plug(slot)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_node_falls_silent_under_a_writer_and_a_reader(six: tuple[Pool, Network], way: str) -> None:
    pool, net = six
    workers: list[Worker] = [Files(pool.mnt / "files"), Reader(pool.mnt / "reading")]
    for worker in workers:
        worker.prepare()
    pool.ecfs("sync", "mnt")
    for worker in workers:
        worker.start()
    time.sleep(2)
    quiet = [worker.take_longest() for worker in workers]
    for number in range(ROUNDS):
        slot = number * 2
        WAYS[way].begin(net, net.nodes, slot)
        time.sleep(PATIENCE_S)
        longest = [worker.take_longest() for worker in workers]
        WAYS[way].end(net, net.nodes, slot)
        pool.until_healthy()
        back = [worker.take_longest() for worker in workers]
        print(f"{way}, node {slot}: " + "; ".join(
            f"{type(worker).__name__} {stall:.2f} s (before {usual:.2f}, when it came back {late:.2f})"
            for worker, stall, usual, late in zip(workers, longest, quiet, back, strict=True)
        ))  # fmt: skip
        assert max(longest) < BOUND_S
    for worker in workers:
        worker.ending.set()
    for worker in workers:
        worker.join(60)
        assert worker.errors == []
        worker.check()
