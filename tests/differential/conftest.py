"""A pool and a plain directory that all tests here share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.run import Sides
from tests.differential.world import two_sides


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    with two_sides() as both:
        yield both
