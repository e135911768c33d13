"""A writer whose acknowledged fsyncs are logged outside the mount before its next step.

Each step makes a file anew, or replaces it by writing another and renaming that, and syncs it. The log says what must
be there afterwards: what was acknowledged, and of the one step that was on its way nothing, all, or a part that is
possible. ``python -m tests.mount.oracle FOLDER LOG SEED``
"""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

NAMES = 12


def content(name: str, version: int) -> bytes:
    """Bytes that say whose they are; 1 B to 1.4 MB, so that some lie inline and some in stripes."""
    size = 1 + (version * 7919 + len(name)) ** 2 % 1_400_000 if version % 3 == 0 else 100 + version % 4000
    unit = f"{name}:{version};".encode()
    return (unit * (size // len(unit) + 1))[:size]


def write(folder: Path, log: Path, seed: int) -> None:
    """Until killed."""
    chance = random.Random(seed)
    version = sum(1 for _ in log.open())
    with log.open("a") as acknowledged:
        while True:
            version += 1
            name, how = f"f{chance.randrange(NAMES)}", chance.choice(["rename", "new"])
            note(acknowledged, {"begin": name, "version": version, "how": how})
            step(folder, name, version, how)
            note(acknowledged, {"done": name, "version": version})


def note(log: TextIO, entry: dict[str, object]) -> None:
    log.write(json.dumps(entry) + "\n")
    log.flush()


def step(folder: Path, name: str, version: int, how: str) -> None:
    target = folder / name
    if how == "new":
        target.unlink(missing_ok=True)
    place = folder / f"{name}.new" if how == "rename" else target
    with place.open("wb") as file:
        file.write(content(name, version))
        file.flush()
        os.fsync(file.fileno())
    if how == "rename":
        place.rename(target)
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


@dataclass(frozen=True)
class Begun:
    """The step that was on its way."""

    version: int
    how: str


def judge(folder: Path, log: Path) -> list[str]:
    """What contradicts the log; afterwards the log says what is there, so that the next run begins from it."""
    done: dict[str, int] = {}
    begun: dict[str, Begun] = {}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        if "done" in entry:
            done[entry["done"]] = entry["version"]
            begun.clear()
        elif "begin" in entry:
            begun = {entry["begin"]: Begun(entry["version"], entry["how"])}
        else:
            done, begun = dict(entry["found"]), {}
    names = [f"f{number}" for number in range(NAMES)]
    return [flaw for name in names if (flaw := _flaw(folder / name, name, done.get(name), begun.get(name)))]


def _flaw(path: Path, name: str, done: int | None, begun: Begun | None) -> str:
    anew = begun is not None and begun.how == "new"
    if not path.exists():
        return "" if done is None or anew else f"{name} is gone, version {done} was acknowledged"
    data = path.read_bytes()
    if done is not None and data == content(name, done):
        return ""
    if begun is not None:
        whole = content(name, begun.version)
        # A file that is made anew grows; one that is replaced by renaming is never seen in part.
        if data == whole or (anew and whole.startswith(data)):
            return ""
    return f"{name} has {len(data)} bytes beginning {data[:40]!r}; acknowledged {done}, begun {begun}"


def settle(folder: Path, log: Path) -> None:
    """Take what is there now for acknowledged: whatever a crash left may not change any more without a step."""
    found = {}
    for number in range(NAMES):
        path = folder / f"f{number}"
        if path.exists():
            data = path.read_bytes()
            version = int(data.partition(b";")[0].partition(b":")[2] or 0) if b";" in data else 0
            if version and data == content(path.name, version):
                found[path.name] = version
            else:
                path.unlink()
    with log.open("a") as acknowledged:
        note(acknowledged, {"found": found})


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
