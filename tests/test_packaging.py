"""What is shipped beside the code: units, man pages, completion, the wheel."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecfs.cli import COMMANDS
from tests.programs import Place, place, wait_for_end

ROOT = Path(__file__).parents[1]
UNITS = sorted((ROOT / "packaging").glob("*@.*"))
WORST = {"ecfs-mount@.service": 50}
"""Tenths of `systemd-analyze security`: a mount can't have a mount namespace of its own, so it scores worse."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


# ---- systemd ---------------------------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path: Path) -> dict[str, Path]:
    """Every unit as an instance, calling a program that is there."""
    made = {}
    for unit in UNITS:
        path = tmp_path / unit.name.replace("@.", "@pool.")
        path.write_text(unit.read_text().replace("/usr/local/bin/ecfs", "/bin/true"))
        made[unit.name] = path
    return made


def test_there_is_a_unit_for_each_service_and_schedule() -> None:
    services = {f"ecfs-{name}@.service" for name in ("mount", "node", "scrub", "drill")}
    assert {unit.name for unit in UNITS} == services | {"ecfs-scrub@.timer", "ecfs-drill@.timer"}


def test_systemd_understands_the_units(units: dict[str, Path]) -> None:
    said = run("systemd-analyze", "verify", "--man=no", *units.values())
    assert not said.strip()


def test_verify_would_notice_a_mistake(units: dict[str, Path]) -> None:
    units["ecfs-node@.service"].write_text(units["ecfs-node@.service"].read_text().replace("Restart=", "Restrat="))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", units["ecfs-node@.service"]], capture_output=True, text=True
    )
    assert "Restrat" in done.stderr


@pytest.mark.parametrize("name", [unit.name for unit in UNITS if unit.suffix == ".service"])
def test_services_are_confined(name: str, units: dict[str, Path]) -> None:
    worst = WORST.get(name, 20)
    run("systemd-analyze", "security", "--offline=true", f"--threshold={worst}", units[name])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_call_commands_and_options_that_there_are(unit: Path) -> None:
    for line in re.findall(r"^Exec\w+=/usr/local/bin/ecfs (.*)$", unit.read_text(), re.MULTILINE):
        command, *rest = line.split()
        options = [word for word in rest if word.startswith("-")]
        text = run(sys.executable, "-m", "ecfs", command, "--help")
        assert all(re.search(rf"(^|[ ,]){re.escape(option)}\b", text) for option in options), (line, text)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made


@pytest.fixture
def manager(here: Place) -> Iterator[socket.socket]:
    """What systemd is to a service: a socket that hears how it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = here.private / "notify"
        listener.bind(str(path))
        listener.settimeout(50)
        here.extra |= {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
        yield listener


def hear(manager: socket.socket) -> set[str]:
    """Lines up to the third sign of life."""
    heard: list[str] = []
    while heard.count("WATCHDOG=1") < 3 or "READY=1" not in heard:
        heard += manager.recv(4096).decode().splitlines()
    return set(heard)


@pytest.mark.mount
def test_a_mount_says_when_it_is_ready_and_that_it_lives(here: Place, manager: socket.socket) -> None:
    (here.path / "drives").mkdir()
    process = here.start("mount", "--foreground", "drives", "mnt")
    try:
        assert f"STATUS=mounted on {here.path}/mnt" in hear(manager)
        assert os.path.ismount(here.path / "mnt")
    finally:
        process.terminate()
        process.communicate(timeout=50)
    assert process.returncode == 0


def test_a_node_says_when_it_is_ready_and_that_it_lives(here: Place, manager: socket.socket) -> None:
    process = here.start("node", "d0", "--listen", "127.0.0.1:0")
    try:
        assert any(line.startswith("STATUS=serving d0 on 127.0.0.1:") for line in hear(manager))
    finally:
        process.terminate()
        process.communicate(timeout=50)


def test_a_service_manager_that_is_gone_ends_nothing(here: Place) -> None:
    here.extra |= {"NOTIFY_SOCKET": str(here.private / "nobody")}
    process = here.start("node", "d0", "--listen", "127.0.0.1:0")
    assert process.stdout is not None
    assert "serving d0" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=50)
    assert wait_for_end(process.pid)


# ---- man pages and completion --------------------------------------------------------------------------------------


def test_every_command_has_a_man_page_and_completion_is_there(tmp_path: Path) -> None:
    run(sys.executable, ROOT / "tools" / "make-man", tmp_path, cwd=ROOT)
    pages = {path.name for path in (tmp_path / "man" / "man1").iterdir()}
    assert pages == {"ecfs.1", *(f"ecfs-{name}.1" for name in COMMANDS)}
    assert "--resume" in (tmp_path / "man" / "man1" / "ecfs-scrub.1").read_text().replace("\\-", "-")
    script = tmp_path / "bash-completion" / "completions" / "ecfs"
    run("bash", "-n", script)
    assert "_ECFS_COMPLETE" in script.read_text()
    assert len([path for path in tmp_path.rglob("*ecfs*") if path.is_file()]) == len(pages) + 3


# ---- the wheel ------------------------------------------------------------------------------------------------------


@pytest.mark.mount
@pytest.mark.timeout(600)
def test_a_wheel_works_in_an_environment_of_its_own(tmp_path: Path) -> None:
    """As pipx does it, but without a network: the libraries are borrowed from here, ecfs itself is not."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "ecfs", source / "ecfs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        tmp_path,
        source,
    )
    (wheel,) = tmp_path.glob("ecfs-*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel)
    (own,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ecfs = tmp_path / "venv" / "bin" / "ecfs"
    assert str(own) in run(python, "-c", "import ecfs; print(ecfs.__file__)", cwd=tmp_path)
    assert re.fullmatch(r"ecfs \d+\.\d+\.\d+\S*\n", run(ecfs, "--version"))
    assert "any two of them may vanish" in run(ecfs, "demo", cwd=tmp_path)
