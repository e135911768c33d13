"""Beyond two drives: an error, never wrong bytes, never a hang; and all is back without a remount."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.mount.real import Pool, call

pytestmark = pytest.mark.mount


def test_three_drives_away_and_one_back(pool: Pool, tree: Path) -> None:
    call("cp", "-a", tree, pool.mnt)
    pool.remount()  # nothing of it is in memory
    for slot in (0, 2, 5):
        pool.drive(slot).rename(pool.place.path / f"away{slot}")
    call("sleep", "2")  # until that is noticed, what lies in a moved directory may still be read
    with pytest.raises(OSError, match="Input/output error"):
        (pool.mnt / "tree" / "large").read_bytes()

    status = json.loads(pool.ecfs("status", "--json", status=3))
    assert status["state"] == "failed"
    assert status["stripes"]["lost"] > 0
    said = pool.ecfs("scrub", "--no-progress", "mnt", status=3)
    assert "/tree/large" in said
    assert not any(pool.drive(slot).exists() for slot in (0, 2, 5))
    with pytest.raises(OSError, match="Read-only file system"):
        (pool.mnt / "new").write_bytes(b"x")

    (pool.place.path / "away2").rename(pool.drive(2))
    wait_until_readable(tree / "large", pool.mnt / "tree" / "large")
    (pool.mnt / "new").write_bytes(b"x")
    for slot in (0, 5):
        (pool.place.path / f"away{slot}").rename(pool.drive(slot))
    assert "healthy" in pool.ecfs("scrub", "--no-progress", "mnt")
    call("diff", "-r", "--no-dereference", tree, pool.mnt / "tree")


def wait_until_readable(original: Path, copy: Path) -> None:
    """The daemon looks for drives every second or so."""
    for _ in range(40):
        if subprocess.run(["cmp", original, copy], capture_output=True, check=False).returncode == 0:
            return
        subprocess.run(["sleep", "0.25"], check=True)
    raise AssertionError(f"{copy} did not become readable again")
