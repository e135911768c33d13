"""What went wrong, out of the groups in which nurseries wrap it."""

from __future__ import annotations

from collections.abc import Iterator

from ecfs.errors import EcfsError


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors themselves, in the order of the groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def expected(error: BaseException) -> EcfsError | None:
    """The error of ours that explains the failure; None if there is something among it that we did not foresee."""
    found = list(leaves(error))
    ours = [each for each in found if isinstance(each, EcfsError)]
    return ours[0] if ours and len(ours) == len(found) else None
