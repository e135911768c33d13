"""A copy of the tree, with one fault in it. The tree itself is never touched."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.mutants.table import Fault

ROOT = Path(__file__).parent.parent.parent
PARTS = ("ecfs", "tests", "pyproject.toml", "Makefile", "docs", "README.md")


def copy_tree(where: Path) -> None:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, where / part)  # compiled files too: half of a short run would be compiling
        else:
            shutil.copy(source, where / part)


def faulty_text(fault: Fault, root: Path = ROOT) -> str:
    """The file with the fault. Raises ValueError if it does not apply any more, or not in one place only."""
    text = (root / fault.file).read_text()
    found = text.count(fault.old)
    if found != 1:
        raise ValueError(f"{fault.name}: the text to replace is {found} times in {fault.file}")
    return text.replace(fault.old, fault.new)


def apply(fault: Fault, root: Path) -> None:
    (root / fault.file).write_text(faulty_text(fault, root))
