"""Which URLs name a drive, and when two name the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ecfs.clock import SystemClock
from ecfs.drive.registry import canonical_url, check_distinct, open_drive
from ecfs.errors import UsageError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/mnt/d0", "/mnt/d0"),
        ("//mnt/./x/../d0/", "/mnt/d0"),
        ("file:///mnt/d0", "/mnt/d0"),
        ("FILE://localhost/mnt/disk%201", "/mnt/disk 1"),
        ("d0", "/base/d0"),
        ("./host:7000", "/base/host:7000"),
        ("../d0", "/d0"),
        ("/mnt/host:7000", "/mnt/host:7000"),
    ],
)
def test_a_directory_has_one_spelling(url: str, path: str) -> None:
    assert canonical_url(url, "/base") == path
    assert canonical_url(path) == path


def test_relative_to_the_current_directory_by_default() -> None:
    assert canonical_url("d0") == f"{os.getcwd()}/d0"


@pytest.mark.parametrize("url", ["host:7000", "10.0.0.1:7000", "[::1]:7000", "grpc://host:7000", "s3://bucket/prefix"])
def test_what_is_not_built_in_yet_says_so(url: str) -> None:
    with pytest.raises(UsageError, match="not built into this version"):
        canonical_url(url)


@pytest.mark.parametrize(
    "url", ["", "ftp://host/x", "file://host/x", "file://", "file:///x?y", "a\nb", "a\0b", "https://host"]
)
def test_what_names_no_drive_is_bad_usage(url: str) -> None:
    with pytest.raises(UsageError):
        canonical_url(url)


def test_two_drives_in_one_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d0").mkdir()
    (tmp_path / "link").symlink_to("d0")
    check_distinct([f"{tmp_path}/d{number}" for number in range(10)])
    with pytest.raises(UsageError, match="same drive"):
        check_distinct([f"{tmp_path}/d0", f"{tmp_path}/d1", f"{tmp_path}/link"])
    with pytest.raises(UsageError, match="within each other"):
        check_distinct([f"{tmp_path}/d0/s", f"{tmp_path}/d0"])
    with pytest.raises(UsageError, match="within each other"):
        check_distinct(["/", "/mnt/d0"])


async def test_an_opened_drive_works_and_has_a_deadline_and_health(tmp_path: Path) -> None:
    drive = open_drive(f"file://{tmp_path}/d0", slot=2, clock=SystemClock())
    await drive.create({"identity": b"who"})
    assert (drive.url, drive.slot) == (f"{tmp_path}/d0", 2)
    assert len(drive.health.latency("create")) == 1
    await drive.close()
