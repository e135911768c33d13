"""What the status page says of every state of a pool, word for word, in a real Chromium.

To write it anew: `make golden`."""

from __future__ import annotations

import shutil

import pytest

from tests.golden.pages import FOLDER, PAGES, pages

pytestmark = pytest.mark.mount


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    if not (shutil.which("chromedriver") and shutil.which("chromium")):
        pytest.skip("needs the Debian packages chromium and chromium-driver")
    return pages(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_as_it_was_agreed(name: str, shown: dict[str, str]) -> None:
    assert shown[name] == (FOLDER / f"{name}.txt").read_text()


def test_no_golden_page_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*")} == set(PAGES)
