"""The house rules that ruff and mypy don't know, each with a proof that its check can fail."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENERATED = ("_pb2.py", "_pb2_grpc.py")

# What only clock.py may use, and what everybody else uses instead, so that a simulation owns time and chance.
CLOCK_ONLY = {
    "time": "Clock.wall_ns or Clock.monotonic; to wait, trio.sleep",
    "datetime": "Clock.wall_ns",
    "random": "Clock.token",
    "secrets": "Clock.token",
    "uuid": "Clock.token",
    "os.urandom": "Clock.token",
    "os.getrandom": "Clock.token",
}

# Stands alone, so that it still runs where ecfs can't be installed: it is a command, and has no clock to ask.
ALONE = "ecfs/rescue.py"

Check = Callable[[str, ast.Module], Iterator[str]]
"""Gets a path below the project's root and what is in the file; yields one line per breach."""


def clock_is_the_only_door(path: str, tree: ast.Module) -> Iterator[str]:
    if path in ("ecfs/clock.py", ALONE):
        return
    for node in ast.walk(tree):
        for name in names_used(node):
            if replacement := CLOCK_ONLY.get(name):
                yield f"{path}:{getattr(node, 'lineno', 0)}: uses {name}; use ecfs.clock instead: {replacement}"


def names_used(node: ast.AST) -> list[str]:
    """The modules an import names, or the dotted name an expression spells, as in `os.urandom`."""
    match node:
        case ast.Import(names=names):
            return [alias.name.split(".")[0] for alias in names]
        case ast.ImportFrom(module=str(module), names=names, level=0):
            return [module.split(".")[0], *(f"{module}.{alias.name}" for alias in names)]
        case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
            return [f"{owner}.{attribute}"]
    return []


def only_the_command_line_prints(path: str, tree: ast.Module) -> Iterator[str]:
    if path.startswith("ecfs/cli/") or path == ALONE:
        return
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print"), lineno=line):
                yield f"{path}:{line}: prints; return it, log it or raise it, and let ecfs/cli print"


def says_what_it_is(path: str, tree: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield f"{path}:1: has no docstring; say in one line what it is responsible for"


CHECKS: list[Check] = [clock_is_the_only_door, only_the_command_line_prints, says_what_it_is]


@pytest.mark.parametrize("check", CHECKS)
def test_house_rule_is_kept_everywhere(check: Check) -> None:
    sources = [path for path in sorted((ROOT / "ecfs").rglob("*.py")) if not path.name.endswith(GENERATED)]
    breaches = [
        breach for path in sources for breach in check(path.relative_to(ROOT).as_posix(), ast.parse(path.read_bytes()))
    ]
    assert sources
    assert not breaches, "\n" + "\n".join(breaches)


@pytest.mark.parametrize(
    ("check", "path", "source", "breaches"),
    [
        (clock_is_the_only_door, "ecfs/fs/x.py", "import time", 1),
        (clock_is_the_only_door, "ecfs/fs/x.py", "import os, random as chance", 1),
        (clock_is_the_only_door, "ecfs/fs/x.py", "from datetime import datetime", 1),
        (clock_is_the_only_door, "ecfs/cli/x.py", "def f():\n    import uuid, secrets", 2),
        (clock_is_the_only_door, "ecfs/fs/x.py", "from os import urandom", 1),
        (clock_is_the_only_door, "ecfs/fs/x.py", "import os\nos.getrandom(8)", 1),
        (clock_is_the_only_door, "ecfs/fs/x.py", "from ecfs.fs.time import x\nself.time()", 0),
        (clock_is_the_only_door, "ecfs/clock.py", "import time", 0),
        (only_the_command_line_prints, "ecfs/fs/x.py", "print('here')", 1),
        (only_the_command_line_prints, "ecfs/fs/x.py", "pool.print(1)", 0),
        (only_the_command_line_prints, "ecfs/cli/status.py", "print('here')", 0),
        (says_what_it_is, "ecfs/fs/x.py", "# a comment is no docstring\nx = 1", 1),
        (says_what_it_is, "ecfs/fs/x.py", '"""Names."""', 0),
    ],
)
def test_house_rule_is_noticed_when_broken(check: Check, path: str, source: str, breaches: int) -> None:
    assert len(list(check(path, ast.parse(source)))) == breaches


# ---- who imports whom ------------------------------------------------------------------------------------------


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", "pyproject.toml"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)  # exit status 1 = broken


# Per contract: a module that breaks it, and what it says.
BROKEN = {
    "Rooms import downwards only": ("ecfs/errors.py", "import ecfs.codec"),
    "pyeclib is imported by codec only": ("ecfs/stripes.py", "import pyeclib.ec_iface"),
    "isal is imported by shard only": ("ecfs/journal.py", "from isal import isal_zlib"),
    "pyfuse3 is imported by fuse only": ("ecfs/fs.py", "from pyfuse3 import FUSEError"),
    "apsw and sqlite3 are imported by meta only": ("ecfs/journal.py", "import apsw"),
    "tomlkit is imported by pool only": ("ecfs/mount.py", "import tomlkit"),
    "gRPC and protobuf are imported by rpc, node and drive.node only": ("ecfs/drive/local.py", "import grpc"),
    "cryptography is imported by node.certs only": ("ecfs/drive/local.py", "import cryptography"),
    "obstore is imported by drive.s3 only": ("ecfs/drive/local.py", "import obstore"),
    "The web libraries are imported by web only": ("ecfs/control.py", "import starlette"),
    "click and rich are imported by cli only": ("ecfs/mount.py", "def f():\n    import click"),
}


def toy_project(where: Path, files: dict[str, str]) -> Path:
    """A project with our contracts, the rooms that BROKEN needs, and `files`."""
    shutil.copy(ROOT / "pyproject.toml", where)
    for name in ("__init__.py", "errors.py", "codec/__init__.py", "drive/__init__.py"):
        (where / "ecfs" / name).parent.mkdir(parents=True, exist_ok=True)
        (where / "ecfs" / name).touch()
    for name, source in files.items():
        (where / name).write_text(source)
    return where


def test_imports_go_where_the_contracts_allow() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("contract", BROKEN)
def test_contract_is_noticed_when_broken(contract: str, tmp_path: Path) -> None:
    path, source = BROKEN[contract]
    result = lint_imports(toy_project(tmp_path, {path: source}))
    assert result.returncode == 1
    assert f"{contract} BROKEN" in result.stdout
    assert "1 broken" in result.stdout


def test_contracts_allow_what_rooms_need(tmp_path: Path) -> None:
    files = {
        "ecfs/codec/__init__.py": "import pyeclib.ec_iface\nimport ecfs.errors",
        "ecfs/drive/node.py": "import grpc",
    }
    result = lint_imports(toy_project(tmp_path, files))
    assert result.returncode == 0, result.stdout


def test_a_room_without_a_level_is_noticed(tmp_path: Path) -> None:
    result = lint_imports(toy_project(tmp_path, {"ecfs/cellar.py": ""}))
    assert result.returncode == 1
    assert "cellar" in result.stdout


def test_every_contract_has_been_shown_to_fail() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {contract["name"] for contract in config["tool"]["importlinter"]["contracts"]} == set(BROKEN)
