"""Pages to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.web.served import TOKEN, Page, page_of


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with page_of(tmp_path) as made:
        yield made


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[Page]:
    """One that asks for a token."""
    async with page_of(tmp_path, TOKEN) as made:
        yield made
