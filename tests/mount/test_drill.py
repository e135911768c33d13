"""`ecfs drill` on a real mount, and on the same pool unmounted."""

from __future__ import annotations

import json
import os

import pytest

from tests.mount.real import Pool

pytestmark = pytest.mark.mount


def test_a_drill_and_what_status_says_of_it(pool: Pool) -> None:
    (pool.mnt / "large").write_bytes(os.urandom(20 << 20))
    pool.ecfs("sync", "mnt")
    assert "drilled   never: ecfs drill" in pool.ecfs("status", "mnt")
    said = pool.ecfs("drill", "mnt")
    assert "any two drives: proven for 100 % of bytes." in said
    assert "without each of 15 sets of drives" in said
    assert "drilled   any two drives: proven for 100 % of bytes, " in pool.ecfs("status", "mnt")
    (pool.mnt / "more").write_bytes(os.urandom(20 << 20))
    pool.ecfs("sync", "mnt")
    told = json.loads(pool.ecfs("status", "mnt", "--json"))
    assert told["state"] == "healthy"
    assert 0.4 < told["drill"]["proven"] < 0.6
    pool.umount()
    report = json.loads(pool.ecfs("drill", "drives", "--full", "--json"))
    assert (report["schema"], report["exit_status"], report["findings"]) == (1, 0, [])
    assert report["decoded"] == report["proven"] == report["stripes"] > 1
    assert "proven for 100 % of bytes" in pool.ecfs("status", "drives")


def test_a_drill_says_what_it_can_not_prove(pool: Pool) -> None:
    (pool.mnt / "large").write_bytes(os.urandom(8 << 20))
    pool.umount()
    pool.lose(1)
    said = pool.ecfs("drill", "drives", status=1)
    assert "any two drives: proven for 0 % of bytes" in said
    assert "drive 1" in said
