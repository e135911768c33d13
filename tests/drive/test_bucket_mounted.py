"""A pool of four directories and two buckets, mounted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.conftest import tree as tree
from tests.mount.real import Pool, assert_same, call
from tests.programs import place
from tests.s3_server import CREDENTIALS, make_bucket
from tests.s3_server import s3_endpoint as s3_endpoint

pytestmark = pytest.mark.mount


@pytest.fixture
def mixed(tmp_path: Path, s3_endpoint: str) -> Iterator[Pool]:
    (tmp_path / "drives").mkdir()
    bucket = make_bucket(s3_endpoint)
    urls = [f"d{slot}" for slot in range(4)] + [f"s3://{bucket}/d{slot}?endpoint={s3_endpoint}" for slot in (4, 5)]
    lines = ["[pool]", "data = 4", "parity = 2", *(f'[[drive]]\nurl = "{url}"' for url in urls)]
    (tmp_path / "drives" / "pool.toml").write_text("\n".join(lines) + "\n")
    with place(tmp_path) as here:
        here.extra.update(CREDENTIALS)
        pool = Pool(here)
        pool.ecfs("create", "drives/pool.toml")
        pool.mount()
        yield pool


def test_buckets_are_drives_like_others(mixed: Pool, tree: Path) -> None:
    call("cp", "-a", tree / "json", tree / "large", mixed.mnt)
    mixed.ecfs("sync", "mnt")
    mixed.lose(0, 1)
    mixed.remount()
    call("cmp", tree / "large", mixed.mnt / "large")
    assert_same(tree / "json", mixed.mnt / "json")
    assert "healthy" in mixed.ecfs("scrub", "--no-progress", "mnt")
    mixed.kill()
    call("fusermount3", "-u", "-z", mixed.mnt)
    mixed.mount()
    assert_same(tree / "json", mixed.mnt / "json")
    assert "healthy" in mixed.ecfs("status", "mnt")
