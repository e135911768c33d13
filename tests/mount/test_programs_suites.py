"""Debian's test suites of file systems: each without an error, also while drives are deleted and rebuilt in pairs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.real import Pool

pytestmark = [
    pytest.mark.mount,
    pytest.mark.directories,
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.getuid() != 0, reason="the suites change owners and make devices"),
]

SUITE_S = 900
PAUSE_S = 2
SCRUBS = 10
PAIRS = [(0, 3), (1, 4), (2, 5), (0, 1), (4, 5), (2, 3)]


@contextlib.contextmanager
def untroubled(pool: Pool) -> Iterator[None]:
    yield


@contextlib.contextmanager
def losing_drives(pool: Pool) -> Iterator[None]:
    """Two drives are deleted, then rebuilt by a scrub, then two others, until the suite has ended."""
    ended, failures = threading.Event(), list[BaseException]()

    def lose_and_scrub() -> None:
        try:
            for pair in itertools.cycle(PAIRS):
                pool.lose(*pair)
                ended.wait(PAUSE_S)
                scrub(pool)
                if ended.wait(PAUSE_S):
                    return
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=lose_and_scrub)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not failures, failures


def scrub(pool: Pool) -> None:
    """Until everything is whole: the next pair must not go before. Beside a suite one may end with a rest to repair."""
    said: tuple[str, str] | None = None
    for _ in range(SCRUBS):
        process = pool.place.start("scrub", "mnt", "--no-progress")
        said = process.communicate(timeout=SUITE_S)
        if process.returncode == 0:
            return
        assert process.returncode == 1, said
    raise AssertionError(f"{SCRUBS} scrubs did not repair everything: {said}")


@pytest.fixture(params=[untroubled, losing_drives])
def troubles(request: pytest.FixtureRequest, pool: Pool) -> Iterator[None]:
    """Around the whole test; afterwards everything is whole."""
    with request.param(pool):
        yield
    assert json.loads(pool.ecfs("status", "mnt", "--json"))["state"] == "healthy"


def suite(program: str, package: str, *arguments: str | Path, commands: str = "", cwd: Path | None = None) -> str:
    """What it printed; skips where it is not installed, fails unless it ends with 0."""
    if not shutil.which(program):
        pytest.skip(f"{program} is missing (Debian package {package})")
    done = subprocess.run(
        [program, *map(str, arguments)], input=commands, cwd=cwd, capture_output=True, text=True, timeout=SUITE_S,
        check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{program} ended with {done.returncode}: {said[-4000:]}"
    return said


@pytest.mark.parametrize(
    "engine", ["psync --fsync=32", "psync --direct=1", "libaio --direct=1 --iodepth=8", "mmap", "pvsync2 --sync=dsync"]
)
@pytest.mark.usefixtures("troubles")
def test_fio_reads_back_what_it_wrote(engine: str, pool: Pool) -> None:
    size = "4M" if "dsync" in engine else "48M"
    suite(
        "fio", "fio", "--name=verify", f"--directory={pool.mnt}", "--numjobs=2", f"--size={size}", "--loops=2",
        "--rw=randrw", "--bsrange=4k-128k", *f"--ioengine={engine}".split(), "--verify=crc32c", "--verify_fatal=1",
        "--do_verify=1", "--verify_backlog=256", "--end_fsync=1", "--verify_state_save=0",
    )  # fmt: skip


STRESSORS = """
access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate fanotify fcntl file-ioctl
filename flock fpunch fstat getdent handle hdd inode-flags inotify io iomix lease link locka lockf lockofd mknod open
rename seek symlink sync-file touch utime xattr mmap msync aio readahead sendfile splice
"""
"""All of stress-ng's class "filesystem" that ask something of the folder, and the users of files of other classes.

Not: binderfs, bind-mount, eventfd, ioprio, procfs, which touch no file of the folder; fiemap and verity, which have
no ioctl(2) to work with and skip themselves.
"""


@pytest.mark.usefixtures("troubles")
def test_stress_ng_verifies_what_it_did(pool: Pool) -> None:
    for stressor in STRESSORS.split():
        stress(pool, f"--{stressor}", "2", "-t", "4")
    # By number, not by time: its stand-in for fallocate(2) stops in the middle when the time is up, and says it failed.
    stress(pool, "--fsize", "2", "--fsize-ops", "40", "-t", "120")


def stress(pool: Pool, *arguments: str) -> None:
    said = suite("stress-ng", "stress-ng", "--temp-path", pool.mnt, "--verify", *arguments)
    failed = [line for line in said.splitlines() if " fail: " in line and not line.endswith("failed: 0")]
    assert not failed, "\n".join(failed)


@pytest.mark.usefixtures("troubles")
def test_dbench_of_four_clients(pool: Pool) -> None:
    said = suite("dbench", "dbench", "-D", pool.mnt, "-t", "30", "4")
    assert "Throughput" in said
    # Without SysV semaphores it says so once, and goes on.
    assert [line for line in said.splitlines() if "fail" in line.lower() and "semaphore" not in line] == []


@pytest.mark.usefixtures("troubles")
def test_bonnie(pool: Pool) -> None:
    """Without the test that writes byte by byte: each is a request here, twenty million of them."""
    suite("bonnie++", "bonnie++", "-f", "-q", "-d", pool.mnt, "-s", "128", "-r", "64", "-n", "4:4096:0:4", "-u", "root")


@pytest.mark.parametrize("method", range(7))
@pytest.mark.usefixtures("troubles")
def test_fs_mark_in_each_order_of_syncing(method: int, pool: Pool) -> None:
    options = ("-n", "200", "-s", "20000", "-t", "2", "-S", str(method), "-D", "4")
    suite("fs_mark", "fsmark", "-d", "mnt", *options, cwd=pool.place.path)  # it takes no path of 40 bytes


@pytest.mark.usefixtures("troubles")
def test_postmark(pool: Pool) -> None:
    commands = f"set location {pool.mnt}\nset number 1500\nset transactions 6000\nset subdirectories 10\nrun\nquit\n"
    said = suite("postmark", "postmark", commands=commands)
    assert "Error" not in said, said
    assert "seconds of transactions" in said, said
    assert os.listdir(pool.mnt) == []
