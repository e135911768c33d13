"""Making a local drive: all or nothing, wherever it crashes, and never over something that is not vacant (R22)."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from ecfs.drive.local import LocalDrive
from ecfs.errors import DriveError, DriveLockedError, DriveUnreachableError, DriveWrongError

BLOBS = {"identity": b"who", "superblock": b"where", "rescue.py": b"help"}
WHOLE = {"c", "identity", "j", "lock", "rescue.py", "s", "superblock"}


async def create(path: Path) -> None:
    drive = LocalDrive(path, slot=0)
    await drive.create(BLOBS)
    await drive.alive()
    await drive.close()


def names(path: Path) -> set[str]:
    return set(os.listdir(path))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A freshly made ext4 file system, mounted, with its lost+found."""
    image, point = tmp_path / "image", tmp_path / "disk"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    yield point
    subprocess.run(["umount", point], check=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk image")


# ---- where ----------------------------------------------------------------------------------------------------------


async def test_in_a_missing_directory(tmp_path: Path) -> None:
    await create(tmp_path / "d0")
    assert names(tmp_path / "d0") == WHOLE
    assert names(tmp_path) == {"d0"}


async def test_in_an_empty_directory_that_is_exchanged_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "d0").mkdir(mode=0o755)
    inode = (tmp_path / "d0").stat().st_ino
    await create(tmp_path / "d0")
    assert (tmp_path / "d0").stat().st_ino != inode
    assert names(tmp_path) == {"d0"}


async def test_in_place_where_dotfiles_lie(tmp_path: Path) -> None:
    (tmp_path / "d0").mkdir(mode=0o755)
    (tmp_path / "d0/.directory").write_text("a file manager's")
    await create(tmp_path / "d0")
    assert names(tmp_path / "d0") == WHOLE | {".directory"}
    assert (tmp_path / "d0").stat().st_mode & 0o777 == 0o700


@pytest.mark.mount
@needs_root
async def test_in_place_on_a_fresh_disk(disk: Path) -> None:
    assert await LocalDrive(disk).is_vacant()
    await create(disk)
    assert names(disk) == WHOLE | {"lost+found"}


@pytest.mark.mount
@needs_root
async def test_in_place_where_an_empty_directory_is_a_bind_mount(tmp_path: Path) -> None:
    """Same device as its parent, so only the failing rename tells."""
    for name in ("d0", "elsewhere"):
        (tmp_path / name).mkdir()
    await trio.run_process(["mount", "--bind", str(tmp_path / "elsewhere"), str(tmp_path / "d0")])
    try:
        await create(tmp_path / "d0")
        assert names(tmp_path / "elsewhere") == WHOLE
    finally:
        await trio.run_process(["umount", str(tmp_path / "d0")])
    assert names(tmp_path) == {"d0", "elsewhere"}


async def test_through_a_symbolic_link_to_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "d0").symlink_to(tmp_path / "real")
    await create(tmp_path / "d0")
    assert (tmp_path / "d0").is_symlink()
    assert names(tmp_path / "real") == WHOLE


async def test_not_where_the_parent_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DriveUnreachableError, match="does not exist: make it, or mount"):
        await LocalDrive(tmp_path / "unmounted/d0").create(BLOBS)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("thing", ["notes.txt", "identity", "s", "fence"])
async def test_not_over_anything_a_person_or_a_drive_has_put_there(tmp_path: Path, thing: str) -> None:
    (tmp_path / "d0").mkdir()
    (tmp_path / "d0" / thing).write_text("precious")
    with pytest.raises(DriveWrongError, match="not empty"):
        await LocalDrive(tmp_path / "d0").create(BLOBS)
    assert names(tmp_path / "d0") == {thing}


async def test_not_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "d0").write_text("precious")
    assert not await LocalDrive(tmp_path / "d0").is_vacant()
    with pytest.raises(DriveWrongError):
        await LocalDrive(tmp_path / "d0").create(BLOBS)
    assert (tmp_path / "d0").read_text() == "precious"


async def test_twice_at_once_makes_one_drive(tmp_path: Path) -> None:
    made: list[LocalDrive] = []

    async def try_it() -> None:
        drive = LocalDrive(tmp_path / "d0")
        try:
            await drive.create(BLOBS)
            made.append(drive)
        except (DriveWrongError, DriveUnreachableError, DriveLockedError):
            await drive.close()

    for attempt in range(20):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(try_it)
        assert len(made) == 1, attempt
        await made[0].alive()
        await made.pop().close()
        assert names(tmp_path) == {"d0"}
        shutil.rmtree(tmp_path / "d0")


# ---- crashes --------------------------------------------------------------------------------------------------------


class PowerCutError(Exception):
    """Not an OSError: nobody catches it, so nothing is tidied up but by `finally`."""


CHANGES = ["mkdir", "fsync", "rename", "fchmod", "pwritev", "rmdir"]


@pytest.mark.parametrize("in_place", [False, True])
async def test_a_crash_at_any_step_leaves_a_vacant_place_or_a_whole_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    outcomes = []
    for step in range(1000):
        path = tmp_path / f"d{step}"
        if in_place:
            path.mkdir()
            (path / ".keep").touch()
        if await survives(path, step, monkeypatch):
            break
        outcomes.append(await LocalDrive(path).is_vacant())
        if not outcomes[-1]:
            await check_whole(path)
            shutil.rmtree(path)
        await create(path)
        assert names(path) - {".keep"} == WHOLE
        assert not [name for name in names(tmp_path) if name.startswith(f"d{step}.")]
    assert step > 15
    assert True in outcomes
    assert outcomes == sorted(outcomes, reverse=True)  # vacant up to one moment, whole from then on


async def survives(path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Create a drive; everything that would change the disk from the step-th change on does not happen."""
    drive = LocalDrive(path)
    with monkeypatch.context() as patch:
        cut = cut_power_at(step, patch)
        try:
            await drive.create(BLOBS)
        except PowerCutError:
            return False
        finally:
            await drive.close()
    return not cut()


def cut_power_at(step: int, patch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """After `step` changes to the disk, all others raise. Returns whether that has happened."""
    left = [step]

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def change(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise PowerCutError
            return real(*args, **kwargs)

        patch.setattr(os, name, change)

    for name in CHANGES:
        wrap(name)
    patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
    patch.setattr(os, "unlink", lambda *args, **kwargs: None)
    return lambda: left[0] < 0


async def check_whole(path: Path) -> None:
    drive = LocalDrive(path)
    await drive.attach(exclusive=True)
    for name, data in BLOBS.items():
        assert await drive.read_blob(name) == data
    assert await drive.strays() == []
    await drive.close()
    assert not [name for name in names(path) if name.startswith((".joining", ".tmp"))]


async def test_a_mark_of_a_crashed_build_does_not_make_a_used_place_vacant(tmp_path: Path) -> None:
    await create(tmp_path / "d0")
    (tmp_path / "d0/identity").unlink()
    (tmp_path / "d0/.joining-0123456789abcdef").mkdir()
    assert await LocalDrive(tmp_path / "d0").is_vacant()
    (tmp_path / "d0/j/00000001.000000").write_bytes(b"history")
    assert not await LocalDrive(tmp_path / "d0").is_vacant()


async def test_what_another_process_is_building_is_not_taken_for_stale(tmp_path: Path) -> None:
    building = LocalDrive(tmp_path / "d0.joining-0123456789abcdef")
    await building.create(BLOBS)
    await create(tmp_path / "d0")
    await building.alive()
    await building.close()
    (tmp_path / "d0").rename(tmp_path / "away")
    await create(tmp_path / "d0")
    assert names(tmp_path) == {"away", "d0"}


async def test_what_a_crash_left_is_removed_under_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another create may have made it a moment ago: it must not fill it meanwhile and rename it to the drive."""
    stale, removed = tmp_path / "d0.joining-0123456789abcdef", []
    stale.mkdir()
    rmtree = shutil.rmtree

    def watched(path: str, *args: Any, **options: Any) -> None:
        descriptor = os.open(tmp_path / path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        removed.append(path)
        rmtree(path, *args, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    await create(tmp_path / "d0")
    assert removed == [stale.name]
    assert names(tmp_path) == {"d0"}


async def test_a_full_disk_leaves_the_place_vacant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        with pytest.raises(DriveError):
            await LocalDrive(tmp_path / "d0").create(BLOBS)
    assert names(tmp_path) == set()
