"""What the six drives of a mounted pool are made of. The tests of this folder are the same for all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.nodes import ProcessNode
from tests.s3_server import CREDENTIALS, empty, make_bucket

DIRECTORIES, NODES, MIXED, BUCKETS = "directories", "nodes", "nodes-and-directories", "directories-and-buckets"
KINDS = (DIRECTORIES, NODES, MIXED, BUCKETS)
NODE_SLOTS = {NODES: range(6), MIXED: range(3)}
BUCKET_SLOTS = range(4, 6)


@contextlib.contextmanager
def nodes_serving(folder: Path, slots: range) -> Iterator[dict[int, ProcessNode]]:
    """Slot → a node that serves FOLDER/dSLOT."""
    with ThreadPoolExecutor(len(slots)) as threads:
        nodes = dict(zip(slots, threads.map(lambda slot: ProcessNode(folder / f"d{slot}"), slots), strict=True))
    try:
        yield nodes
    finally:
        for node in nodes.values():
            node.process.kill()
            node.process.__exit__(None, None, None)


def write_pool_file(folder: Path, urls: dict[int, str]) -> None:
    """FOLDER/pool.toml; a slot that `urls` does not name is the directory dSLOT."""
    drives = [f'[[drive]]\nurl = "{urls.get(slot, f"d{slot}")}"' for slot in range(6)]
    (folder / "pool.toml").write_text("\n".join(["[pool]", "data = 4", "parity = 2", *drives]) + "\n")


@contextlib.contextmanager
def drives_of(kind: str, folder: Path, endpoint: Callable[[], str]) -> Iterator[dict[int, Callable[[], None]]]:
    """Write FOLDER/pool.toml for this kind, with its nodes running. Yields how to delete what is no directory here.

    endpoint: gives the URL of an S3 server. A node's directory is FOLDER/dSLOT, as if it were one of ours.
    """
    if kind == BUCKETS:
        bucket = make_bucket(endpoint())
        write_pool_file(folder, {slot: f"s3://{bucket}/d{slot}?endpoint={endpoint()}" for slot in BUCKET_SLOTS})
        yield {slot: lambda slot=slot: empty(endpoint(), bucket, f"d{slot}/") for slot in BUCKET_SLOTS}  # type: ignore[misc]
        return
    with nodes_serving(folder, NODE_SLOTS[kind]) as nodes:
        write_pool_file(folder, {slot: node.address for slot, node in nodes.items()})
        yield {}


ENVIRONMENT = {BUCKETS: CREDENTIALS}
"""What the commands need besides, by kind."""
