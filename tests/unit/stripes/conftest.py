"""The simulated clock for every test here: how many reads there are depends on who is late, and that on the machine."""

from __future__ import annotations

import pytest
from trio.testing import MockClock


@pytest.fixture(autouse=True)
def nobody_is_late(autojump_clock: MockClock) -> MockClock:
    return autojump_clock
