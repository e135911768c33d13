"""A node in a thread, and one as a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ecfs.drive.base import Writer
from ecfs.drive.node import NodeDrive
from tests.nodes import ProcessNode, ThreadNode

WRITER = Writer(2, "a" * 32)
NEWER = Writer(3, "b" * 32)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ThreadNode]:
    node = ThreadNode(tmp_path / "drive")
    yield node
    node.stop()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ProcessNode]:
    node = ProcessNode(tmp_path / "drive")
    yield node
    node.process.kill()
    node.process.__exit__(None, None, None)


async def made(drive: NodeDrive) -> NodeDrive:
    """Created, fenced for WRITER, with room for shards of epoch 2."""
    await drive.create({"identity": b"who"})
    await drive.fence(WRITER)
    await drive.prepare([2])
    return drive


@pytest.fixture
async def drive(node: ThreadNode) -> AsyncIterator[NodeDrive]:
    drive = await made(node.drive())
    yield drive
    await drive.close()
