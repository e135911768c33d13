"""The command, and what its end and its restart mean to clients."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from ecfs.drive.deadline import DeadlineDrive
from ecfs.drive.local import LocalDrive
from ecfs.drive.node import NodeDrive
from ecfs.errors import DriveError, DriveLockedError, DriveTimeoutError, DriveUnreachableError
from tests.node.conftest import NEWER, WRITER, made
from tests.nodes import ProcessNode

KEY = "s/00000002/00000000"
SEGMENT = "j/00000002.000000"


async def attached(drive: NodeDrive) -> NodeDrive:
    """Attached as soon as the node has noticed that the client before is gone."""
    with trio.fail_after(15):
        while True:
            try:
                await drive.attach(exclusive=True)
                return drive
            except DriveError:
                await trio.sleep(0.1)


async def test_a_node_killed_between_put_and_sync_makes_that_sync_fail(process: ProcessNode) -> None:
    drive = await made(process.drive())
    await drive.put(KEY, [b"perhaps lost"])
    process.kill()
    process.start()
    with pytest.raises(DriveUnreachableError):
        await drive.sync()
    await attached(drive)
    await drive.put("s/00000002/00000001", [b"data"])
    await drive.sync()
    assert await drive.get("s/00000002/00000001") == b"data"
    await drive.close()


async def test_a_restarted_node_knows_no_attachment_of_before(process: ProcessNode) -> None:
    drive = await made(process.drive())
    await drive.put(KEY, [b"data"])
    await drive.sync()
    process.end()
    process.start()
    with trio.fail_after(10):
        while True:
            with pytest.raises(DriveUnreachableError) as caught:
                await drive.get(KEY)
            if "lost" in str(caught.value):
                break
            await trio.sleep(0.05)
    await attached(drive)
    assert await drive.get(KEY) == b"data"
    assert await drive.read_fence() == WRITER
    await drive.close()


async def test_a_node_restarted_with_an_older_copy_has_lost_its_promise(process: ProcessNode, tmp_path: Path) -> None:
    drive = process.drive()
    await drive.create({"identity": b"who"})
    await drive.close()
    process.end()
    shutil.copytree(process.directory, tmp_path / "old")
    process.start()
    await drive.attach(exclusive=True)
    await drive.fence(WRITER)
    process.end()
    shutil.rmtree(process.directory)
    (tmp_path / "old").rename(process.directory)
    process.start()
    await attached(drive)
    with pytest.raises(DriveUnreachableError, match="promise"):
        await drive.write_blob("superblock", b"data")
    await drive.close()


async def test_sigterm_lets_what_has_begun_finish_and_ends(process: ProcessNode) -> None:
    drive = await made(process.drive())
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(put_or_lose, drive, number)
        await trio.sleep(0.05)
        process.process.terminate()
    with trio.fail_after(10):
        said = await trio.to_thread.run_sync(process.process.communicate)
    assert process.process.returncode == 0
    assert "Traceback" not in said[1]
    await drive.close()
    local = LocalDrive(process.directory)
    await local.attach(exclusive=True)
    await local.close()


async def put_or_lose(drive: NodeDrive, number: int) -> None:
    try:
        await drive.put(f"s/00000002/{number:08x}", [bytes(1 << 20)])
    except DriveUnreachableError:
        return


async def test_a_directory_is_served_once(process: ProcessNode, tmp_path: Path) -> None:
    drive = process.drive()
    await drive.create({"identity": b"who"})
    with pytest.raises(DriveLockedError, match="ecfs"):
        await LocalDrive(process.directory).attach(exclusive=True)
    second = [sys.executable, "-m", "ecfs", "node", str(process.directory), "--listen", "127.0.0.1:0"]
    done = await trio.run_process(second, check=False, capture_stdout=True, capture_stderr=True)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"is locked by process" in done.stderr
    await drive.close()


async def test_a_port_is_taken_once(process: ProcessNode, tmp_path: Path) -> None:
    second = [sys.executable, "-m", "ecfs", "node", str(tmp_path / "other"), "--listen", process.address]
    done = await trio.run_process(second, check=False, capture_stdout=True, capture_stderr=True)
    assert done.returncode == 2
    assert b"can't listen on" in done.stderr


async def test_two_clients_the_second_waits_until_the_first_is_gone(process: ProcessNode) -> None:
    first, second = await made(process.drive()), process.drive()
    with pytest.raises(DriveLockedError, match=f"locked by process {os.getpid()} on"):
        await second.attach(exclusive=True)
    await second.attach(exclusive=False)
    await second.read_blob("identity")
    await first.close()
    await second.attach(exclusive=True)
    await second.close()


PUT_FOR_EVER = """
import sys, trio
from ecfs.clock import SystemClock
from ecfs.drive.base import Writer
from ecfs.drive.node import NodeDrive
from ecfs.errors import DriveError, DriveFencedError

async def main():
    drive = NodeDrive(sys.argv[1], SystemClock())
    await drive.create({"identity": b"who"})
    await drive.fence(Writer(2, "a" * 32))
    await drive.prepare([2])
    print("begun", flush=True)
    number = 0
    while True:
        try:
            await drive.append(f"j/00000002.{number:06x}", 0, b"record")
            await drive.put(f"s/00000002/{number:08x}", [b"shard"])
            await drive.delete("s/00000002/00000000")
            await drive.write_blob("superblock", b"of the first")
        except DriveFencedError:
            print("fenced", flush=True)
            return
        except DriveError:
            await trio.sleep(0.1)
            try:
                await drive.attach(exclusive=True)
            except DriveError:
                pass
        number += 1

trio.run(main)
"""


async def test_a_paused_client_that_wakes_up_can_not_change_a_byte(process: ProcessNode) -> None:
    """R2. SIGSTOP, another client takes over, SIGCONT."""
    command = [sys.executable, "-c", PUT_FOR_EVER, process.address]
    with client_process(command) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        await trio.sleep(0.3)
        first.send_signal(signal.SIGSTOP)
        second = process.drive()
        with pytest.raises(DriveError):
            await second.attach(exclusive=True)
        await attached(second)
        await second.fence(NEWER)
        await second.write_blob("superblock", b"of the second")
        before = snapshot(process.directory)
        await second.close()
        first.send_signal(signal.SIGCONT)
        with trio.fail_after(20):
            assert await trio.to_thread.run_sync(first.stdout.readline) == "fenced\n"
    assert snapshot(process.directory) == before


@contextmanager
def client_process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def snapshot(directory: Path) -> dict[str, bytes]:
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


async def test_a_node_that_hangs_is_late_not_silent(process: ProcessNode) -> None:
    drive = await made(process.drive(deadline_s=0.5))
    process.pause()
    try:
        began = trio.current_time()
        with pytest.raises(DriveTimeoutError):
            await drive.alive()
        with pytest.raises(DriveTimeoutError):
            await DeadlineDrive(drive).read(KEY, [(0, 10)])
        assert trio.current_time() - began < 3
    finally:
        process.resume()
    with trio.fail_after(10):
        while True:
            try:
                await attached(drive)
                await drive.alive()
                break
            except DriveError:
                await trio.sleep(0.1)
    await drive.close()


HANGING = """
import os, sys, threading
fdatasync = os.fdatasync
def hang(descriptor):
    if "/j/" in os.readlink(f"/proc/self/fd/{descriptor}"):
        threading.Event().wait()
    fdatasync(descriptor)
os.fdatasync = hang
from ecfs.cli import main
sys.exit(main(sys.argv[1:]))
"""


async def test_a_node_whose_disk_hangs_ends_all_the_same(tmp_path: Path) -> None:
    """It would keep the directory's lock, and the port, for as long as the disk hangs."""
    process = ProcessNode(tmp_path / "drive", program=["-c", HANGING])
    drive = await made(process.drive())
    with trio.move_on_after(0.5):
        await drive.append(SEGMENT, 0, b"record")
    await drive.close()
    process.process.terminate()
    try:
        status = await trio.to_thread.run_sync(lambda: process.process.wait(30))
        assert status == 0
    finally:
        process.kill()
