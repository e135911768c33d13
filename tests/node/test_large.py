"""A gigabyte over six nodes of which two are killed in the middle: what they missed travels, and nothing else."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mount.real import call
from tests.node.test_mounted import pool_of_nodes, until
from tests.relay import Relay

pytestmark = [pytest.mark.mount, pytest.mark.soak, pytest.mark.timeout(1200)]

MIB = 1 << 20
SIZE = 1024 * MIB
KILLED = (1, 4)


def moved(relays: Sequence[Relay]) -> int:
    return sum(relay.sent + relay.received for relay in relays)


def journal_bytes(folder: Path) -> int:
    """What a scrub reads whole, from each node: records, without the zeros ahead of them."""
    return sum(len(segment.read_bytes().rstrip(b"\0")) for segment in folder.glob("n*/j/*"))


def test_two_nodes_killed_during_a_gigabyte_get_what_they_missed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    call("dd", "if=/dev/urandom", f"of={source}", "bs=1M", f"count={SIZE // MIB}")
    with pool_of_nodes(tmp_path, 6, relayed=True) as (pool, relays):
        killed, others = [relays[slot] for slot in KILLED], [relays[slot] for slot in range(6) if slot not in KILLED]
        copying = subprocess.Popen(["cp", source, pool.mnt / "copy"])
        until(lambda: others[0].sent > SIZE // 12, 300)
        at_kill = others[0].sent
        pool.kill_node(*KILLED)
        assert copying.wait(600) == 0
        (pool.mnt / "later").write_bytes(b"written without them")
        pool.ecfs("sync", "mnt")
        missed = others[0].sent - at_kill
        before = moved(killed)
        pool.start_node(*KILLED)
        until(lambda: pool.status()["state"] == "healthy", 600)
        caught_up = (moved(killed) - before) // len(KILLED)
        print(f"each node missed {missed / MIB:.0f} MiB and was sent {caught_up / MIB:.0f} MiB")
        assert caught_up < missed * 1.1 + 16 * MIB
        journals, before = journal_bytes(tmp_path), moved(relays)
        began = time.monotonic()
        assert "nothing was wrong" in pool.ecfs("scrub", "--no-progress", "mnt")
        wire = moved(relays) - before
        print(
            f"scrub of {SIZE * 6 // 4 / MIB:.0f} MiB of shards: {wire / MIB:.1f} MiB, "
            f"{journals / MIB:.1f} of them journals, {time.monotonic() - began:.0f} s"
        )
        assert wire < journals + SIZE // 64  # 4 KiB for each shard of 1 MiB are 6 MiB; a checkpoint may fall into it
        pool.remount()
        call("cmp", source, pool.mnt / "copy")
        assert (pool.mnt / "later").read_bytes() == b"written without them"
