"""Where a local drive lies, who has its lock, and which file systems are refused (R10, R19)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from ecfs.drive import location
from ecfs.drive.base import Writer
from ecfs.drive.local import LocalDrive
from ecfs.drive.location import is_network, locate
from ecfs.errors import DriveFullError, DriveLockedError, DriveUnreachableError, DriveWrongError, UsageError
from ecfs.journal.create import location_json

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


@contextmanager
def mounted(point: Path, *arguments: str | Path) -> Iterator[Path]:
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", *arguments, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)


# ---- locks ----------------------------------------------------------------------------------------------------------

HOLD = """
import sys, trio
from ecfs.drive.local import LocalDrive
async def hold():
    drive = LocalDrive(sys.argv[1])
    await drive.attach(exclusive=True)
    print("held", flush=True)
    sys.stdin.readline()
trio.run(hold)
"""


async def test_the_message_names_the_process_that_has_the_lock_and_its_death_frees_it(tmp_path: Path) -> None:
    drive = LocalDrive(tmp_path / "d0", slot=0)
    await drive.create({"identity": b"who"})
    await drive.close()
    command = [sys.executable, "-c", HOLD, drive.url]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as holder:  # noqa: ASYNC220
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DriveLockedError, match=f"d0 is locked by process {holder.pid} "):
            await drive.attach(exclusive=True)
        holder.kill()
    await drive.attach(exclusive=True)
    await drive.close()


@pytest.mark.parametrize("note", [b"", b"\xff\xfe\n\n\n", b"1\n", b"x\ny\nz\n", None])
async def test_an_unreadable_note_does_not_weaken_the_lock(tmp_path: Path, note: bytes | None) -> None:
    drive, other = LocalDrive(tmp_path / "d0"), LocalDrive(tmp_path / "d0")
    await drive.create({"identity": b"who"})
    (tmp_path / "d0/lock").unlink()
    if note is not None:
        (tmp_path / "d0/lock").write_bytes(note)
    with pytest.raises(DriveLockedError, match="locked by another process"):
        await other.attach(exclusive=True)
    await drive.close()


async def test_attaching_an_empty_directory_writes_nothing_into_it(tmp_path: Path) -> None:
    """It may be where a disk should be mounted."""
    drive = LocalDrive(tmp_path)
    await drive.attach(exclusive=True)
    await drive.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_directory_exchanged_while_it_is_attached_is_not_locked_under_the_wrong_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = LocalDrive(tmp_path / "d0")
    await drive.create({"identity": b"who"})
    await drive.close()
    from ecfs.drive import local

    def take_lock(*args: object, **kwargs: object) -> None:
        (tmp_path / "d0").rename(tmp_path / "gone")

    monkeypatch.setattr(local, "take_lock", take_lock)
    with pytest.raises(DriveUnreachableError):
        await drive.attach(exclusive=True)


# ---- network file systems -------------------------------------------------------------------------------------------


@pytest.fixture
def on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file system claims to be NFS."""
    real = Path("/proc/self/mountinfo").read_text()
    fake = tmp_path / "mountinfo"
    lines = (line.partition(" - ")[0] + " - nfs4 server:/export rw" for line in real.splitlines())
    fake.write_text("\n".join(lines))
    monkeypatch.setattr(location, "MOUNTINFO", fake)


@pytest.mark.usefixtures("on_nfs")
async def test_network_file_systems_are_refused_with_what_to_do(tmp_path: Path) -> None:
    drive = LocalDrive(tmp_path / "d0")
    with pytest.raises(UsageError, match=r"network file system \(nfs4\).*--shared-directory"):
        await drive.create({"identity": b"who"})
    assert not (tmp_path / "d0").exists()
    (tmp_path / "d0").mkdir()
    with pytest.raises(UsageError):
        await drive.attach(exclusive=True)
    await drive.attach(exclusive=False)
    await drive.close()


@pytest.mark.usefixtures("on_nfs")
async def test_network_file_systems_are_allowed_when_asked_for_and_then_unfenced(tmp_path: Path) -> None:
    drive = LocalDrive(tmp_path / "d0", shared_directory=True)
    await drive.create({"identity": b"who"})
    assert not drive.capabilities.lockable
    await drive.close()


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"])
def test_kinds_of_network_file_systems(kind: str) -> None:
    assert location.NETWORK.fullmatch(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "nfsd", "exfat"])
def test_kinds_of_local_file_systems(kind: str) -> None:
    assert not location.NETWORK.fullmatch(kind)


# ---- where ----------------------------------------------------------------------------------------------------------


def test_location_of_a_directory_is_below_its_mount_point() -> None:
    assert locate("/proc/self") == locate(f"/proc/{os.getpid()}")
    assert locate("/proc").below == "."
    assert (locate("/proc").mount_point, locate("/proc/sys/kernel").below) == ("/proc", "sys/kernel")
    assert locate("/proc").filesystem.startswith("proc:")


def test_a_location_can_be_stored_whatever_its_name(tmp_path: Path) -> None:
    """The link to it may be plain, and the directory have a name in Latin-1."""
    place = os.fsencode(tmp_path) + b"/Stra\xdfe"
    os.mkdir(place)
    (tmp_path / "link").symlink_to(os.fsdecode(place))
    found = locate(str(tmp_path / "link"))
    assert found.below.endswith(r"/Stra\xdfe")
    assert msgspec.json.encode(location_json(found))


def test_location_of_something_deleted_is_that_of_its_nearest_ancestor(tmp_path: Path) -> None:
    (tmp_path / "pool/d0").mkdir(parents=True)
    before = locate(str(tmp_path / "pool/d0"))
    (tmp_path / "pool/d0").rmdir()
    assert locate(str(tmp_path / "pool/d0")) == before
    (tmp_path / "pool").rmdir()
    assert locate(str(tmp_path / "pool/d0")) == before


@pytest.mark.mount
@needs_root
@pytest.mark.parametrize("name", ["disk", "a disk\twith\\odd\nname", "plätze"])
def test_an_unmounted_disk_is_another_location(tmp_path: Path, name: str) -> None:
    point = tmp_path / name
    with mounted(point, "-t", "tmpfs", "none"):
        inside = locate(str(point / "d0"))
        assert (inside.mount_point, inside.below) == (str(point), "d0")
        assert inside.filesystem.startswith("tmpfs:")
        assert is_network(str(point)) is None
    outside = locate(str(point / "d0"))
    assert outside.filesystem != inside.filesystem
    assert outside.mount_point != inside.mount_point


@pytest.mark.mount
@needs_root
@pytest.mark.parametrize("below", [".", "d0"])
async def test_nothing_is_made_on_the_disk_beneath_one_that_is_unmounted_after_the_look(
    tmp_path: Path, below: str
) -> None:
    """R10. At the mount point itself and below it, made in place and made beside and renamed."""
    point = tmp_path / "disk"
    drive = LocalDrive(point / below, slot=0)
    with mounted(point, "-t", "tmpfs", "none"):
        looked = await drive.location()
        assert looked is not None
        await drive.create({"identity": b"who"}, filesystem=looked.filesystem)
        await drive.close()
    with pytest.raises(DriveWrongError, match="mount its disk"):
        await drive.create({"identity": b"who"}, filesystem=looked.filesystem)
    assert os.listdir(tmp_path) == ["disk"]
    assert os.listdir(point) == []
    (point / ".keep").touch()
    with pytest.raises(DriveWrongError, match="mount its disk"):
        await drive.create({"identity": b"who"}, filesystem=looked.filesystem)
    assert os.listdir(point) == [".keep"]


@pytest.mark.mount
@needs_root
def test_a_mount_over_a_mount_is_the_upper_one(tmp_path: Path) -> None:
    point = tmp_path / "disk"
    with mounted(point, "-t", "tmpfs", "none"):
        lower = locate(str(point))
        with mounted(point, "-t", "ramfs", "none"):
            assert locate(str(point)).filesystem.startswith("ramfs:")
        assert locate(str(point)) == lower


@pytest.mark.mount
@needs_root
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_disk_is_known_again_at_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """XFS has its device number in f_fsid, so that only the UUID under /dev/disk can tell."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(300 << 20)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    by_uuid = tmp_path / "by-uuid"
    by_uuid.mkdir()
    monkeypatch.setattr(location, "DISKS_BY_UUID", str(by_uuid))
    seen = []
    devices = [attach_loop(image), attach_loop(image)]
    try:
        for device in devices:
            (by_uuid / "1234-5678").unlink(missing_ok=True)
            (by_uuid / "1234-5678").symlink_to(device)
            with mounted(tmp_path / "disk", device):
                seen.append(locate(str(tmp_path / "disk/d0")).filesystem)
    finally:
        for device in devices:
            subprocess.run(["losetup", "-d", device], check=True)
    assert seen[0] == seen[1]
    assert seen[0].startswith(kind)
    assert kind != "xfs" or seen[0] == "xfs:1234-5678"


def attach_loop(image: Path) -> str:
    done = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True)
    return done.stdout.strip()


# ---- a full and an unmounted disk -----------------------------------------------------------------------------------


@pytest.mark.mount
@needs_root
async def test_a_full_disk_keeps_what_it_has_and_takes_more_once_there_is_room(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "none") as point:
        drive = LocalDrive(point / "d0", slot=0)
        await drive.create({"identity": b"who"})
        await drive.fence(Writer(1, "a" * 32))
        await drive.prepare([1])
        await drive.put("s/00000001/00000000", [bytes(500_000)])
        with pytest.raises(DriveFullError):
            await drive.put("s/00000001/00000001", [bytes(700_000)])
        assert [entry.key async for entry in drive.list("s/")] == ["s/00000001/00000000"]
        await drive.sync()
        assert (await drive.space()).free >= 400_000
        await drive.delete("s/00000001/00000000")
        await drive.put("s/00000001/00000001", [bytes(700_000)])
        await drive.close()


@pytest.mark.mount
@needs_root
async def test_a_disk_unmounted_under_an_open_drive_is_gone(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "none") as point:
        drive = LocalDrive(point, slot=0)
        await drive.create({"identity": b"who"})
        await drive.fence(Writer(1, "a" * 32))
        await drive.prepare([1])
        await drive.put("s/00000001/00000000", [b"data"])
    for call in (drive.alive, drive.sync):
        with pytest.raises(DriveUnreachableError):
            await call()
    await drive.close()
    assert list((tmp_path / "disk").iterdir()) == []
