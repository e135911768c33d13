"""Large trees, large files, many files: the long forms of what the other tests do in small."""

from __future__ import annotations

import os
import random
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.mount.real import LIBRARY, Pool, assert_same, call
from tests.mount.test_programs_servers import free_port

pytestmark = [pytest.mark.mount, pytest.mark.soak, pytest.mark.timeout(3600)]
MIB = 1 << 20


def resident_mib(pool: Pool) -> float:
    """The daemon's peak so far."""
    status = Path(f"/proc/{pool.place.pid()}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def stored_mib(pool: Pool) -> float:
    """On all drives. Shards of dead stripes go meanwhile, which du takes for an error."""
    drives = [str(pool.drive(slot)) for slot in range(6)]
    done = subprocess.run(["du", "-sck", *drives], capture_output=True, text=True, check=False)
    return int(done.stdout.splitlines()[-1].split()[0]) / 1024


def test_the_standard_library_and_a_gigabyte(pool: Pool, tmp_path: Path) -> None:
    source = tmp_path / "source"
    call("cp", "-a", LIBRARY, source)
    chance = random.Random(1)
    with (source / "gigabyte").open("wb") as file:
        for _ in range(1024):
            file.write(chance.randbytes(MIB))
    subprocess.run(["cp", "-a", source, pool.mnt / "copy"], check=True)
    assert_same(source, pool.mnt / "copy")
    pool.umount()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    pool.mount()
    assert_same(source, pool.mnt / "copy")
    pool.lose(0, 3)
    assert_same(source, pool.mnt / "copy")
    pool.ecfs("scrub", "mnt", "--no-progress")
    pool.lose(1, 5)
    assert_same(source, pool.mnt / "copy")


def test_memory_stays_bounded_in_a_copy_of_4_gib_and_100000_files(pool: Pool) -> None:
    block = random.Random(2).randbytes(MIB)
    with (pool.mnt / "large").open("wb", buffering=0) as file:
        for _ in range(4096):
            file.write(block)
        os.fsync(file.fileno())
    after_copy = resident_mib(pool)
    (pool.mnt / "large").unlink()
    for number in range(100_000):
        folder = pool.mnt / f"{number // 1000}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}").write_bytes(b"%d" % number)
    assert sum(len(files) for _, _, files in os.walk(pool.mnt)) == 100_000
    print(f"RSS after 4 GiB {after_copy:.0f} MiB, after 100,000 files {resident_mib(pool):.0f} MiB")
    assert after_copy < 300
    assert resident_mib(pool) < 300


@pytest.mark.parametrize("piece", [4096, 65536])
def test_random_overwrites_stay_under_three_times_the_live_payload(pool: Pool, piece: int) -> None:
    size, total = 1024 * MIB, (10 if piece > 4096 else 2) * 1024 * MIB
    chance, block = random.Random(3), random.Random(4).randbytes(2 * MIB)
    worst, done, began, rate = 0.0, 0, 0.0, 0.0
    page = f"127.0.0.1:{free_port()}"
    pool.options = f"rw,web={page}"
    pool.remount()
    with (pool.mnt / "file").open("w+b", buffering=0) as file:
        for at in range(size // MIB):
            os.pwrite(file.fileno(), block[:MIB], at * MIB)
        began = time.monotonic()
        while done < total:
            start = chance.randrange(MIB)
            os.pwrite(file.fileno(), block[start : start + piece], chance.randrange(size // piece) * piece)
            done += piece
            if done % (256 * MIB) == 0:
                rate, worst = 256 / (time.monotonic() - began), max(worst, stored_mib(pool))
                began = time.monotonic()
        os.fsync(file.fileno())
    moved = compacted(page)
    pool.remount()
    print(
        f"{piece // 1024} KiB pieces: stored at most {worst:.0f} MiB for {size // MIB} MiB of live payload; the last"
        f" 256 MiB were written at {rate:.0f} MiB/s, then read in order at {read_rate(pool.mnt / 'file'):.0f} MiB/s;"
        f" {100 * moved / (moved + size + total):.0f} % of what was written to stripes was compaction"
    )
    assert worst < 3 * size / MIB


def compacted(page: str) -> float:
    """Bytes that were written anew."""
    with urllib.request.urlopen(f"http://{page}/metrics") as answer:
        found = [line for line in answer.read().decode().splitlines() if line.startswith("ecfs_compacted_bytes_total ")]
    return float(found[0].split()[1])


def read_rate(path: Path) -> float:
    """MiB/s, with nothing of it in the kernel's memory."""
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    began = time.monotonic()
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass
    return path.stat().st_size / MIB / (time.monotonic() - began)
