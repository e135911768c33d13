"""kill -9 under a writing workload: what fsync acknowledged is there, and nothing that never was."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mount.oracle import judge, settle
from tests.mount.real import Pool
from tests.programs import ROOT

pytestmark = pytest.mark.mount


@pytest.mark.core
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.soak)])
def test_what_was_acknowledged_survives(kills: int, pool: Pool, tmp_path: Path) -> None:
    chance = random.Random(kills)
    log = tmp_path / "acknowledged"
    log.touch()
    for number in range(kills):
        writer = start_writer(pool.mnt, log, number)
        try:
            wait_for_more(log, 30)
            subprocess.run(["sleep", f"{chance.random():.3f}"], check=True)
            pool.kill()
        finally:
            writer.kill()
            writer.wait()
        pool.mount()
        assert judge(pool.mnt, log) == []
        settle(pool.mnt, log)
        pool.ecfs("sync", "mnt")
    pool.remount()
    assert judge(pool.mnt, log) == []
    assert "healthy" in pool.ecfs("scrub", "mnt")


def wait_for_more(log: Path, seconds: float) -> None:
    """Until something was acknowledged: a kill that hits nothing would show nothing."""
    before, deadline = log.read_text().count("done"), time.monotonic() + seconds
    while log.read_text().count("done") == before:
        assert time.monotonic() < deadline, "nothing was acknowledged"
        time.sleep(0.01)


def start_writer(folder: Path, log: Path, seed: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.mount.oracle", str(folder), str(log), str(seed)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)


def test_the_oracle_notices(tmp_path: Path) -> None:
    """Its verdicts are worth something only if it can say no."""
    log = tmp_path / "log"
    lines = ('{"begin": "f1", "version": 3, "how": "new"}', '{"done": "f1", "version": 3}')
    log.write_text("\n".join([*lines, '{"begin": "f2", "version": 4, "how": "rename"}']))
    assert judge(tmp_path, log) == ["f1 is gone, version 3 was acknowledged"]
    (tmp_path / "f1").write_bytes(b"")
    assert "has 0 bytes" in judge(tmp_path, log)[0]
    (tmp_path / "f2").write_bytes(b"rubbish")
    assert len(judge(tmp_path, log)) == 2
