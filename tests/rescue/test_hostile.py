"""Drives on which every hash is right and what it covers is not: made up by somebody, or by a mistake."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecfs.pool.sealed import seal_body
from ecfs.shard import DATA_OFFSET, HEADER_LENGTH, block_crcs, build_header, parse_header
from tests.rescue.pools import contents, rescue
from tests.rescue.test_damage import FULL, Sample, drives, sample, stripes_of

__all__ = ["drives", "sample"]  # fixtures

Change = Callable[[dict[str, Any]], Any]


def checkpoints(**changes: Any) -> Change:
    return lambda value: value | {"checkpoints": [each | changes for each in value["checkpoints"]]}


FALSE: dict[str, tuple[str, Change | bytes]] = {
    "no JSON": ("identity", b"{"),
    "no UTF-8": ("identity", b"\xff\xfe"),
    "deep": ("identity", b"[" * 200_000),
    "no k": ("identity", lambda value: {name: each for name, each in value.items() if name != "k"}),
    "no slot": ("identity", lambda value: value | {"slot": "x"}),
    "a list of pools": ("identity", lambda value: value | {"pool_id": ["x"]}),
    "a shape that can't be": ("identity", lambda value: value | {"k": 0, "m": 0}),
    "nothing": ("superblock", b"{}"),
    "half a commit": ("superblock", lambda value: value | {"written": [1]}),
    "no checkpoint": ("superblock", lambda value: value | {"checkpoints": [1]}),
    "no hash": ("superblock", checkpoints(record="zz")),
    "no number": ("superblock", checkpoints(seq=None)),
    "an endless stripe": ("superblock", checkpoints(length=1 << 50, stripes=[[1 << 33, 1 << 50, "0" * 64, []]])),
}


@pytest.mark.parametrize("what", FALSE)
def test_a_drive_that_says_nonsense_under_a_right_hash(
    sample: Sample, drives: list[Path], what: str, tmp_path: Path
) -> None:
    kind, change = FALSE[what]
    path = drives[1] / kind
    body = change if isinstance(change, bytes) else _changed(path.read_bytes(), change)
    path.write_bytes(seal_body(kind.encode(), 1, body))
    result = rescue(drives, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files


def _changed(sealed: bytes, change: Change) -> bytes:
    return json.dumps(change(json.loads(sealed.partition(b"\n")[2]))).encode()


def test_a_segment_without_end_takes_no_memory_without_end(sample: Sample, drives: list[Path], tmp_path: Path) -> None:
    endless = drives[0] / "j" / "00000001.00ffff"
    endless.touch()
    os.truncate(endless, 1 << 40)
    result = rescue(drives, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files


def forge(path: Path) -> None:
    """Other data in a shard, with every checksum of its own right."""
    raw = bytearray(path.read_bytes())
    raw[DATA_OFFSET + 100] ^= 0x40
    header = parse_header(bytes(raw[:HEADER_LENGTH]))
    raw[:HEADER_LENGTH] = build_header(replace(header, block_crcs=tuple(block_crcs(raw[DATA_OFFSET:]))))
    path.write_bytes(raw)


@pytest.mark.parametrize("others", [(), (4,), (5,)])
def test_shards_that_are_right_in_themselves_only(
    sample: Sample, drives: list[Path], others: tuple[int, ...], tmp_path: Path
) -> None:
    """Up to m of them: five or four true ones are left of every stripe."""
    for slot in (1, *others):
        for path in stripes_of(drives[slot], FULL):
            forge(path)
    result = rescue(drives, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert contents(tmp_path / "out") == sample.files
    assert "d1: " in result.stdout
