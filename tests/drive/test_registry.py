"""Which URLs name a drive, and when two name the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ecfs.clock import SystemClock
from ecfs.drive.registry import Access, canonical_url, check_distinct, open_drive
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


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("host:7000", "host:7000"),
        ("NAS-1.lan:07000", "nas-1.lan:7000"),
        ("grpc://Host:7000", "host:7000"),
        ("grpc://host:7000/", "host:7000"),
        ("[::1]:7000", "[::1]:7000"),
        ("10.0.0.1:7000", "10.0.0.1:7000"),
    ],
)
def test_a_node_has_one_spelling(url: str, address: str) -> None:
    assert canonical_url(url, "/base") == address
    assert canonical_url(address) == address


@pytest.mark.parametrize(
    "url", ["grpc://host", "host:0", "host:99999", "grpc://host:7000/x", "grpc://a b:1", "grpc://"]
)
def test_what_names_no_node_is_bad_usage(url: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        canonical_url(url)


def test_two_spellings_of_one_node_are_refused() -> None:
    check_distinct(["host:7000", "host:7001", "other:7000", "/host:7000"])
    pairs = [("host:7000", "host:7000"), ("localhost:7000", "127.0.0.1:7000"), ("[::1]:7000", "localhost:7000")]
    for one, other in pairs:
        with pytest.raises(UsageError, match="same drive"):
            check_distinct([one, "/mnt/d0", other])


async def test_a_node_is_opened_without_asking_it() -> None:
    drive = open_drive("nowhere.invalid:7000", slot=1, clock=SystemClock(), access=Access(pool_id="a" * 32))
    assert (drive.url, drive.slot) == ("nowhere.invalid:7000", 1)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("S3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/p?region=x&endpoint=http://h:9000/", "s3://bucket/p?endpoint=http://h:9000&region=x"),
    ],
)
def test_a_bucket_has_one_spelling(url: str, canonical: str) -> None:
    assert canonical_url(url, "/base") == canonical
    assert canonical_url(canonical) == canonical


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://", "BUCKET/PREFIX"),
        ("s3://Bucket/p", "BUCKET/PREFIX"),
        ("s3://bucket/a//b", "BUCKET/PREFIX"),
        ("s3://bucket/../x y", "BUCKET/PREFIX"),
        ("s3://bucket/p?endpiont=http://h", "did you mean endpoint"),
        ("s3://bucket/p?endpoint=h:9000", "endpoint must be"),
        ("s3://bucket/p?secret=x", "unknown option"),
    ],
)
def test_what_names_no_bucket_is_bad_usage(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        canonical_url(url)


def test_two_drives_in_one_prefix_are_refused() -> None:
    check_distinct(["s3://bucket/a", "s3://bucket/ab", "s3://other/a", "s3://bucket/a?endpoint=http://h:1"])
    for one, other in (("s3://bucket/a", "s3://bucket/a/b"), ("s3://bucket/", "s3://bucket/a"), ("s3://b-b/a",) * 2):
        with pytest.raises(UsageError, match="one place"):
            check_distinct([one, other])


async def test_a_bucket_is_opened_without_asking_it() -> None:
    drive = open_drive("s3://bucket/prefix", slot=4, clock=SystemClock())
    assert (drive.url, drive.slot) == ("s3://bucket/prefix", 4)


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
