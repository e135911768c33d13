"""A disk that is unmounted under a mounted pool and mounted again, at its place or at another one, is followed."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.real import Pool, call
from tests.mount.test_operating import status, until
from tests.programs import place

pytestmark = [
    pytest.mark.mount,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a loop file system"),
]
SLOT = 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The image of a disk of its own, which is mounted where drive 2 will be."""
    image, point = tmp_path / "disk.img", tmp_path / "drives" / f"d{SLOT}"
    point.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(512 << 20)
    call("mkfs.ext4", "-q", image)
    call("mount", "-o", "loop", image, point)
    yield image
    for left in (point, tmp_path / "elsewhere"):
        with contextlib.suppress(OSError):
            subprocess.run(["umount", "-l", left], capture_output=True, check=False)


@pytest.fixture
def pool(disk: Path, tmp_path: Path) -> Iterator[Pool]:
    with place(tmp_path) as here:
        made = Pool(here)
        made.mount()
        (made.mnt / "before").write_bytes(bytes(range(256)) * 40_000)
        made.ecfs("sync", "mnt")
        yield made


def unmounted(pool: Pool) -> None:
    """The disk goes under the open drive, and files are written without it."""
    call("umount", "-l", pool.drive(SLOT))
    found = until(pool, lambda found: "is its disk mounted?" in found["drives"][SLOT]["reason"])
    assert found["drives"][SLOT]["state"] == "absent"
    assert "mount the disk of drive 2; the rest follows by itself" in pool.ecfs("status", "mnt", status=1)
    (pool.mnt / "meanwhile").write_bytes(os.urandom(10 << 20))
    pool.ecfs("sync", "mnt")
    assert list(pool.drive(SLOT).iterdir()) == []  # nothing lands on the disk beneath


def assert_whole(pool: Pool) -> None:
    """Nobody had to type anything, and nothing was left to a scrub to find."""
    until(pool, lambda found: found["state"] == "healthy")
    said = pool.ecfs("scrub", "mnt", "--no-progress")
    assert "nothing was wrong" in said
    assert (pool.mnt / "before").read_bytes() == bytes(range(256)) * 40_000


def test_mounted_again_at_its_place_it_is_taken_in_and_catches_up(pool: Pool, disk: Path) -> None:
    unmounted(pool)
    call("mount", "-o", "loop", disk, pool.drive(SLOT))
    assert_whole(pool)


def test_mounted_at_another_place_it_is_followed_once_the_pool_file_names_it(pool: Pool, disk: Path) -> None:
    unmounted(pool)
    elsewhere = pool.place.path / "elsewhere"
    elsewhere.mkdir()
    call("mount", "-o", "loop", disk, elsewhere)
    file = pool.place.path / "drives" / "pool.toml"
    text = file.read_text()
    assert text.count(f'"d{SLOT}"') == 1
    file.write_text(text.replace(f'"d{SLOT}"', f'"{elsewhere}"'))
    assert_whole(pool)
    assert status(pool)["drives"][SLOT]["url"] == str(elsewhere)
