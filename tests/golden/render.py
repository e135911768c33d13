"""A status as `ecfs status` prints it to a pipe, and as JSON."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from ecfs.cli.render import Page
from ecfs.cli.status_page import show_status
from tests.golden.states import NOW

FOLDER = Path(__file__).parent


def json_of(status: dict[str, Any]) -> str:
    return json.dumps(status, indent=2) + "\n"


def text_of(status: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        show_status(Page(), status, NOW)
    return out.getvalue()
