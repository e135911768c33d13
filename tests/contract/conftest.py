"""A place of every kind, and a drive on it that is ready to be written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from ecfs.drive.base import Drive, Writer
from tests.contract.places import BucketPlace, LocalPlace, MemoryPlace, NodePlace, Place
from tests.s3_server import s3_endpoint as s3_endpoint
from tests.s3_server import served_bucket
from tests.sim.place import SimPlace

WRITER = Writer(2, "a" * 32)


@pytest.fixture(
    params=[
        "local",
        "local-wrapped",
        "memory",
        "memory-wrapped",
        "memory-unlocked",
        "simulated",
        "node",
        "node-wrapped",
        "bucket",
        "bucket-served",
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    kind: str = request.param
    place: Place
    if kind.startswith("local"):
        place = LocalPlace(tmp_path / "d3", monkeypatch)
    elif kind.startswith("node"):
        place = NodePlace(tmp_path / "d3", monkeypatch)
    elif kind == "bucket":
        place = BucketPlace(MemoryStore())
    elif kind == "bucket-served":
        place = BucketPlace(served_bucket(request.getfixturevalue("s3_endpoint")))
    elif kind == "simulated":
        place = SimPlace()
    else:
        place = MemoryPlace(lockable=not kind.endswith("unlocked"))
    place.wrapped = kind.endswith("wrapped")
    yield place
    place.end()


@pytest.fixture
async def drive(place: Place) -> AsyncIterator[Drive]:
    """Created, fenced for WRITER, with room for shards of epoch 2."""
    drive = place.open()
    await drive.create({"identity": b"who", "rescue.py": b"help"})
    await drive.fence(WRITER)
    await drive.prepare([2])
    yield drive
    await drive.close()
