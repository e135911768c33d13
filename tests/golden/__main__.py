"""Writes the golden files anew: `make golden`. Read the difference before you commit it."""

from __future__ import annotations

from tests.golden import pages
from tests.golden.render import FOLDER, json_of, text_of
from tests.golden.states import STATES

for name, status in STATES.items():
    (FOLDER / f"{name}.json").write_text(json_of(status))
    (FOLDER / f"{name}.txt").write_text(text_of(status))

pages.FOLDER.mkdir(exist_ok=True)
for name, text in pages.pages(pages.PAGES).items():
    (pages.FOLDER / f"{name}.txt").write_text(text)
