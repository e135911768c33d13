"""The pool and the plain directory, made in a folder that everybody may enter."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.differential.run import Sides
from tests.mount.real import mounted_pool


@contextmanager
def two_sides(options: str = "rw") -> Iterator[Sides]:
    with tempfile.TemporaryDirectory(prefix="ecfs-differential-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "plain").mkdir(mode=0o755)
        with mounted_pool(folder, options) as pool:
            yield Sides(pool, folder / "plain")
