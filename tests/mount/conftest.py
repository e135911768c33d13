"""Fixtures of the tests on real mounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.real import LIBRARY, Pool, call, mounted_pool


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    """A fresh pool, mounted; unmounted whatever happens."""
    with mounted_pool(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some hundred files of a real tree, a link, an empty one, an empty directory, and one of many stripes."""
    folder = tmp_path_factory.mktemp("real") / "tree"
    folder.mkdir()
    for name in ("asyncio", "email", "json", "unittest", "encodings"):
        call("cp", "-a", LIBRARY / name, folder)
    (folder / "empty").touch()
    (folder / "hollow").mkdir()
    (folder / "link").symlink_to("json/__init__.py")
    (folder / "large").write_bytes(bytes(range(251)) * 80_000)
    return folder
