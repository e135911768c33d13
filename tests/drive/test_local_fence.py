"""The fence file: its bytes, and what is left of a promise when some of them are wrong."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ecfs.drive.base import Writer
from ecfs.drive.fence import NOBODY, RECORD_LENGTH, decode, encode, promised
from ecfs.drive.local import LocalDrive
from ecfs.errors import DriveFencedError, DriveUnreachableError

FIRST, SECOND, THIRD = (Writer(epoch, f"{epoch:032x}") for epoch in (1, 2, 3))


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[LocalDrive]:
    drive = LocalDrive(tmp_path / "d0", slot=0)
    await drive.create({"identity": b"who"})
    yield drive
    await drive.close()


def test_record_is_what_format_md_says() -> None:
    record = encode(Writer(0x0102, "00112233445566778899aabbccddeeff"))
    assert record[:8] == b"ECFENCE1"
    assert record[8:16] == bytes([2, 1, 0, 0, 0, 0, 0, 0])
    assert record[16:32] == bytes.fromhex("00112233445566778899aabbccddeeff")
    assert record[32:36] == zlib.crc32(record[:32]).to_bytes(4, "little")
    assert record[36:] == bytes(28)


def test_any_changed_bit_makes_a_record_rotten() -> None:
    for bit in range(8 * RECORD_LENGTH):
        record = bytearray(encode(FIRST))
        record[bit // 8] ^= 1 << bit % 8
        assert decode(bytes(record)) is None


def test_the_newest_promise_holds_and_of_one_epoch_the_first() -> None:
    assert promised(b"") == NOBODY
    assert promised(encode(FIRST) + encode(SECOND)) == SECOND
    assert promised(encode(SECOND) + encode(FIRST)) == SECOND
    assert promised(encode(SECOND) + encode(Writer(2, "f" * 32))) == SECOND


def test_torn_and_rotten_records_are_skipped() -> None:
    rotten = bytes(RECORD_LENGTH)
    assert promised(encode(FIRST) + encode(SECOND)[:63]) == FIRST
    assert promised(encode(FIRST) + rotten + encode(SECOND)) == SECOND
    assert promised(rotten) == NOBODY


@pytest.mark.parametrize("torn", [1, 36, 63])
async def test_a_promise_after_a_torn_one_is_found(drive: LocalDrive, torn: int) -> None:
    await drive.fence(FIRST)
    fence = Path(drive.url) / "fence"
    fence.write_bytes(fence.read_bytes() + encode(SECOND)[:torn])
    await drive.fence(THIRD)
    assert fence.read_bytes() == encode(FIRST) + encode(THIRD)


async def test_the_file_is_written_anew_before_it_exceeds_4_kib(drive: LocalDrive) -> None:
    for epoch in range(1, 66):
        await drive.fence(Writer(epoch, f"{epoch:032x}"))
    data = (Path(drive.url) / "fence").read_bytes()
    assert data == encode(Writer(64, f"{64:032x}")) + encode(Writer(65, f"{65:032x}"))


@pytest.mark.parametrize("rewritten", [False, True])
async def test_a_fence_changed_by_another_process_is_noticed_at_the_next_write(
    drive: LocalDrive, rewritten: bool
) -> None:
    await drive.fence(FIRST)
    await drive.prepare([1])
    await drive.put("s/00000001/00000000", [b"data"])
    fence = Path(drive.url) / "fence"
    if rewritten:
        (fence.parent / "new").write_bytes(encode(SECOND))
        (fence.parent / "new").rename(fence)
    else:
        fence.write_bytes(fence.read_bytes() + encode(SECOND))
    with pytest.raises(DriveFencedError, match="epoch 2 owns"):
        await drive.put("s/00000001/00000001", [b"data"])


async def test_a_promise_that_was_deleted_protects_nobody_so_nothing_is_written(drive: LocalDrive) -> None:
    await drive.fence(FIRST)
    (Path(drive.url) / "fence").unlink()
    with pytest.raises(DriveUnreachableError, match="fence it again"):
        await drive.prepare([1])
    await drive.fence(FIRST)
    await drive.prepare([1])
