"""What a daemon sets about memory before it opens a pool."""

from __future__ import annotations

import gc

from ecfs.memory import spare_collector


def test_what_was_loaded_before_is_no_longer_walked_through() -> None:
    spare_collector()
    try:
        assert gc.get_freeze_count() > 1000
        assert len(gc.get_objects()) < 1000
    finally:
        gc.unfreeze()
