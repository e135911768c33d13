"""Fixtures of the tests on real mounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.made_of import BUCKETS, DIRECTORIES, KINDS
from tests.mount.real import LIBRARY, Pool, call, mounted_pool, mounted_pool_of
from tests.s3_server import s3_endpoint as s3_endpoint


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of a pool runs on each kind of drives, on buckets only the core, and in ``make test`` on directories
    only. Marks say otherwise: `directories` is about directories, `core` belongs to the core, `everywhere` does too
    and runs on all kinds in ``make test``."""
    if "made_of" not in metafunc.fixturenames:
        return
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    kinds = [kind for kind in KINDS if kind == DIRECTORIES or "directories" not in marks]
    late = (pytest.mark.timeout(600), *(() if "everywhere" in marks else (pytest.mark.soak,)))
    metafunc.parametrize(
        "made_of",
        [
            pytest.param(kind, marks=() if kind == DIRECTORIES else late)
            for kind in kinds
            if kind != BUCKETS or marks & {"core", "everywhere"}
        ],
        ids=str,
    )


@pytest.fixture
def pool(made_of: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pool]:
    """A fresh pool, mounted; unmounted whatever happens."""
    made = (
        mounted_pool(tmp_path)
        if made_of == DIRECTORIES
        else mounted_pool_of(made_of, tmp_path, lambda: str(request.getfixturevalue("s3_endpoint")))
    )
    with made as pool:
        yield pool


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
