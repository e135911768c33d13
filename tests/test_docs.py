"""What the documents say can be typed is typed, and what they say of files and keys is so.

Lines of ``console`` blocks that begin with "$ " are run, one document in one session, in a folder of its own in which
/mnt and /srv are folders, too. ``ecfs`` lines of ``sh`` blocks, which need machines or root, are parsed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ecfs.cli import COMMANDS, group
from ecfs.mount.options import _KERNEL, _KNOWN
from ecfs.mount.volume import LIMITS
from ecfs.pool.poolfile import _ALERT_KEYS, _DRIVE_KEYS, _LIMITS, _POOL_KEYS, _TLS_KEYS
from tests.programs import Place, place

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAY_SAY_MORE = ("ecfs status", "ecfs scrub", "ecfs replace", "ecfs drill")
"""These end with 1 where redundancy is missing, which is what is shown there."""


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL)


def typed(path: Path) -> list[str]:
    """The commands of the console blocks, in order."""
    return [line[2:] for block in blocks(path, "console") for line in block.splitlines() if line.startswith("$ ")]


SESSIONS = {path.name: lines for path in DOCUMENTS if (lines := typed(path))}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Place]:
    """A folder with /mnt and /srv of its own, and with what `make run` leaves."""
    for name in (*(f"mnt/disk{number}" for number in range(1, 9)), "mnt/files", "srv", "docs", "ecfs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "docs" / "a.md").write_text("a\n" * 100_000)
    (tmp_path / "ecfs" / "b.py").write_text("b = 1\n")
    program = tmp_path / "bin" / "ecfs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ecfs "$@"\n')
    program.chmod(0o755)
    with place(tmp_path) as here:
        here.extra |= {"PATH": f"{program.parent}:{os.environ['PATH']}"}
        yield here


def run(line: str, here: Path, environment: dict[str, str]) -> None:
    local = re.sub(r"(?<![\w./])/(mnt|srv)\b", rf"{here}/\1", line)
    done = subprocess.run(["bash", "-c", local], cwd=here, env=environment, capture_output=True, text=True, timeout=600)
    allowed = (0, 1) if line.startswith(MAY_SAY_MORE) else (0,)
    assert done.returncode in allowed, f"{line}\nended with {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.mount
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SESSIONS)
def test_what_is_to_be_typed_works(name: str, session: Place) -> None:
    if name == "README.md":
        shutil.rmtree(session.path / "mnt")
        (session.path / "drives").mkdir()
        session.run("mount", "drives", "mnt")
    for line in SESSIONS[name]:
        run(line, session.path, session.environment)


def test_the_guide_and_the_tour_are_run() -> None:
    assert {"README.md", "GUIDE.md"} <= set(SESSIONS)
    assert len(SESSIONS["GUIDE.md"]) > 20


SHOWN = [
    (path.name, line.strip())
    for path in DOCUMENTS
    for block in blocks(path, "sh") + blocks(path, "")
    for line in re.sub(r"\\\n\s*", " ", block).splitlines()
    if re.match(r"\s*(\.venv/bin/)?ecfs ", line)
]


@pytest.mark.parametrize(("name", "line"), SHOWN)
def test_what_is_only_shown_is_a_command(name: str, line: str) -> None:
    """With options that there are, and arguments that a command takes."""
    words = shlex.split(line, comments=True)[1:]
    words = [word for word in words if word not in ("&",)]
    command = group.get_command(click.Context(group), words[0])
    assert command is not None, line
    command.make_context(words[0], words[1:])


def test_links_lead_somewhere() -> None:
    broken = [
        f"{path.name}: {link}"
        for path in DOCUMENTS
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
        if not (path.parent / link).exists()
    ]
    assert not broken


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [path.name for path in DOCUMENTS if path.parent.name == "docs" and f"]({path.name})" not in index]
    assert missing in ([], ["README.md"])


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"`ecfs {name}" not in text and f"`{name}`" not in text] == []


def test_messages_that_the_guide_explains_are_said() -> None:
    rows = re.findall(
        r"^\| `([^`]+)`", (ROOT / "docs" / "GUIDE.md").read_text().split("## Troubleshooting")[1], re.MULTILINE
    )
    source = " ".join(" ".join(path.read_text().split()) for path in (ROOT / "ecfs").rglob("*.py"))
    said = [
        re.sub(r"^… is (absent|wrong): ", "", row) for row in rows
    ]  # that part is put together from the drive's state
    unsaid = [row for row in said if not all(part.strip() in source for part in row.split("…"))]
    assert rows
    assert unsaid == []


# ---- docs/CONFIGURATION.md ------------------------------------------------------------------------------------------

CONFIGURATION = (ROOT / "docs" / "CONFIGURATION.md").read_text()


def documented(section: str) -> set[str]:
    """The keys in the table of a section."""
    part = CONFIGURATION.split(f"## `{section}`")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([a-z_]+)` \|", part, re.MULTILINE))


def test_every_key_of_the_pool_file_is_documented() -> None:
    known = {"[pool]": _POOL_KEYS, "[[drive]]": _DRIVE_KEYS, "[tls]": _TLS_KEYS, "[limits]": _LIMITS}
    known["[alerts]"] = _ALERT_KEYS
    assert {section: documented(section) for section in known} == {s: set(keys) for s, keys in known.items()}
    assert set(LIMITS) == set(_LIMITS)


def test_every_mount_option_is_documented() -> None:
    part = CONFIGURATION.split("## Mount options")[1].split("\n## ")[0]
    assert {name for name in (*_KNOWN, *_KERNEL) if f"`{name}`" not in part} == set()


def test_every_variable_is_documented() -> None:
    used = set()
    for path in (ROOT / "ecfs").rglob("*.py"):
        used |= set(re.findall(r'"(ECFS_[A-Z_]+)"', path.read_text()))
    assert {name for name in used if f"`{name}" not in CONFIGURATION} == set()
