"""A folder with a pool in ./drives, and the command line called in this process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ecfs.cli import main


@dataclass
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool as `ecfs create` makes it; copied for each test, which keeps identities and is quicker."""
    folder = tmp_path_factory.mktemp("template")
    assert main(["create", str(folder / "drives")]) == 0
    return folder


@pytest.fixture
def here(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory: ./drives is a pool, ./mnt an empty folder. Sockets and logs are private."""
    folder = tmp_path / "here"
    shutil.copytree(template, folder)
    (folder / "mnt").mkdir()
    monkeypatch.chdir(folder)
    with tempfile.TemporaryDirectory(prefix="ecfs-", dir="/tmp") as private:
        monkeypatch.setenv("ECFS_RUNTIME_DIR", f"{private}/run")
        monkeypatch.setenv("ECFS_LOG_DIR", f"{private}/log")
        monkeypatch.setenv("TMPDIR", private)
        yield folder


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ran(status, out, err)

    return call
