"""Which checkpoint is kept with the one that was loaded."""

from __future__ import annotations

from ecfs.journal.superblock import Checkpoint, Superblock, retained_with


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(number, number, "", 0, [])


def superblock(written: int, *numbers: int) -> Superblock:
    return Superblock("", "", 0, 4, 2, "", (written, written), [], [checkpoint(number) for number in numbers])


def test_a_drive_that_was_away_does_not_bring_back_what_the_others_gave_up() -> None:
    # Drives came and went in turn; all kept 2, which is whole, and gave up 4 and 5.
    found = [superblock(6, 6, 2), superblock(6, 6, 2), superblock(5, 5, 2), superblock(4, 4, 2)]
    assert retained_with(checkpoint(6), found) == [checkpoint(6), checkpoint(2)]


def test_the_older_one_of_a_pair_is_kept_alone() -> None:
    assert retained_with(checkpoint(2), [superblock(6, 6, 2), superblock(2, 2, 1)]) == [checkpoint(2)]


def test_a_checkpoint_that_only_an_old_superblock_names() -> None:
    assert retained_with(checkpoint(3), [superblock(6, 6, 2), superblock(3, 3, 1)]) == [checkpoint(3), checkpoint(1)]
