"""What an installation without the optional libraries says when they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ecfs.errors import UsageError


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Within the block, libraries of the named extra are imported. Raises UsageError if one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("ecfs"):
            raise
        raise UsageError(f"{error.name} is not installed: pip install 'ecfs[{extra}]'") from error
