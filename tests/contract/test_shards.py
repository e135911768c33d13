"""Shards: put, read, verify, list, delete, replace."""

from __future__ import annotations

import hashlib
import zlib
from contextlib import aclosing

import pytest

from ecfs.drive.base import Drive, Entry
from ecfs.errors import (
    DriveUnreachableError,
    FormatTooNewError,
    ShardCorruptError,
    ShardExistsError,
    ShardMissingError,
    UsageError,
)
from ecfs.geometry import stripe_id
from ecfs.shard import HEADER_LENGTH, ShardHeader, block_crcs, build_header
from tests.contract.places import Place

KEY = "s/00000002/0000000a"
CHECKPOINT = "c/00000002.0000000b"


def a_shard(counter: int = 10, space: str = "s", data: bytes = b"fragment" * 20_000) -> bytes:
    fragment_header = bytes(80)
    header = ShardHeader(
        pool_id=bytes(16),
        space=space,
        index=1,
        k=4,
        m=2,
        geometry_id=1,
        stripe_id=stripe_id(2, counter),
        payload_length=4 * len(data),
        fragment_length=len(data),
        content_hash=bytes(32),
        fragment_header_crc=zlib.crc32(fragment_header),
        block_crcs=block_crcs(data),
    )
    return build_header(header) + fragment_header + data


def of_a_newer_format(shard: bytes) -> bytes:
    body = shard[:8] + b"\x02\x00" + shard[10 : HEADER_LENGTH - 32]
    return body + hashlib.blake2b(body, digest_size=32).digest() + shard[HEADER_LENGTH:]


async def test_put_joins_its_buffers_of_any_kind(place: Place, drive: Drive) -> None:
    await drive.put(KEY, [b"head", bytearray(b"-"), memoryview(b"x-tail")[1:], b""])
    assert place.bytes_of(KEY) == b"head--tail"


async def test_put_of_more_buffers_than_one_system_call_takes(drive: Drive) -> None:
    await drive.put(KEY, [b"%06d" % number for number in range(3000)])
    assert await drive.get(KEY, 6 * 2999) == b"002999"


async def test_put_creates_exclusively(drive: Drive) -> None:
    await drive.put(KEY, [b"first"])
    with pytest.raises(ShardExistsError) as caught:
        await drive.put(KEY, [b"second"])
    assert (caught.value.slot, caught.value.key) == (3, KEY)
    assert await drive.get(KEY) == b"first"


async def test_put_of_an_epoch_that_was_not_prepared_means_the_drive_was_deleted(drive: Drive) -> None:
    with pytest.raises(DriveUnreachableError):
        await drive.put("s/00000077/00000000", [b"data"])


async def test_prepare_keeps_what_is_there_and_may_be_repeated(drive: Drive) -> None:
    await drive.put(KEY, [b"data"])
    await drive.prepare([3])
    await drive.prepare([3])
    await drive.put("s/00000002/0000000b", [b"data"])
    await drive.put("s/00000003/00000000", [b"data"])
    assert await drive.get(KEY) == b"data"


async def test_read_gives_every_range_in_order(drive: Drive) -> None:
    await drive.put(KEY, [b"0123456789"])
    assert await drive.read(KEY, [(8, 2), (0, 3), (4, -1), (10, -1), (10, 0)]) == [b"89", b"012", b"456789", b"", b""]
    assert await drive.get(KEY) == b"0123456789"


@pytest.mark.parametrize("wanted", [(0, 11), (9, 2), (11, 1), (11, -1)])
async def test_short_read_is_an_error_never_a_short_answer(drive: Drive, wanted: tuple[int, int]) -> None:
    await drive.put(KEY, [b"0123456789"])
    with pytest.raises(ShardCorruptError) as caught:
        await drive.read(KEY, [(0, 1), wanted])
    assert (caught.value.slot, caught.value.key) == (3, KEY)


async def test_a_key_that_is_not_there_is_missing(drive: Drive) -> None:
    for call in (drive.get, drive.verify):
        with pytest.raises(ShardMissingError):
            await call("s/00000077/00000001")
    await drive.delete("s/00000077/00000001")


BAD_KEYS = [
    *("", "identity", "fence", "/etc/passwd", "../identity", "s/../identity", "s/00000002/../../identity"),
    *("s/2/1", "s/00000002/0000000A", "s/00000002/0000000a/", "s/00000002/0000000a\n", "s/00000002"),
    *("c/", "c/..", "c/../identity", "c/.x", "j/.x", "j/x/y", "j/00000002\0"),
]


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_no_key_leads_outside_the_three_key_spaces(drive: Drive, key: str) -> None:
    with pytest.raises(UsageError):
        await drive.put(key, [b"data"])
    with pytest.raises(UsageError):
        await drive.put(key, [b"data"], replace=True)
    for call in (drive.get, drive.verify, drive.delete):
        with pytest.raises(UsageError):
            await call(key)
    with pytest.raises(UsageError):
        await drive.append(key, 0, b"data")


@pytest.mark.parametrize("prefix", ["", "s", "x/", "s/2/", "../", "s/../", "c/00000002"])
async def test_only_key_spaces_and_epochs_can_be_listed(drive: Drive, prefix: str) -> None:
    with pytest.raises(UsageError):
        await anext(drive.list(prefix))


async def test_delete_removes_and_may_be_repeated(drive: Drive) -> None:
    await drive.put(KEY, [b"data"])
    await drive.delete(KEY)
    await drive.delete(KEY)
    with pytest.raises(ShardMissingError):
        await drive.get(KEY)
    await drive.sync()


async def test_list_by_prefix_names_sizes_and_nothing_else(drive: Drive) -> None:
    await drive.prepare([3])
    await drive.put(KEY, [b"12345"])
    await drive.put("s/00000003/00000000", [b""])
    await drive.put(CHECKPOINT, [b"123"])
    await drive.append("j/00000002.000000", 0, b"1234567")
    expected = {
        "s/": {Entry(KEY, 5), Entry("s/00000003/00000000", 0)},
        "s/00000002/": {Entry(KEY, 5)},
        "s/00000099/": set(),
        "c/": {Entry(CHECKPOINT, 3)},
        "j/": {Entry("j/00000002.000000", 7)},
    }
    assert {prefix: {entry async for entry in drive.list(prefix)} for prefix in expected} == expected


async def test_a_listing_may_be_given_up_early_or_lose_files_on_its_way(drive: Drive) -> None:
    keys = {f"s/00000002/{number:08x}" for number in range(1200)}
    for key in keys:
        await drive.put(key, [b"x"])
    async with aclosing(drive.list("s/")) as entries:
        assert (await anext(entries)).key in keys
        for key in keys:
            await drive.delete(key)
    assert [entry async for entry in drive.list("s/")] == []


async def test_verify_returns_the_header_of_a_sound_shard(drive: Drive) -> None:
    await drive.put(KEY, [a_shard()])
    await drive.put(CHECKPOINT, [a_shard(11, "c")])
    assert (await drive.verify(KEY)).stripe_id == stripe_id(2, 10)
    assert (await drive.verify(CHECKPOINT)).space == "c"


@pytest.mark.parametrize("position", [0, 50, 3000, 4020, 5000, 100_000, -1])
async def test_verify_notices_one_wrong_byte(place: Place, drive: Drive, position: int) -> None:
    await drive.put(KEY, [a_shard()])
    data = bytearray(a_shard())
    data[position] ^= 1
    place.damage(KEY, bytes(data))
    with pytest.raises(ShardCorruptError) as caught:
        await drive.verify(KEY)
    assert (caught.value.slot, caught.value.key) == (3, KEY)


@pytest.mark.parametrize("data", [a_shard()[:-1], a_shard() + b"x", b"", a_shard()[:100]])
async def test_verify_notices_a_wrong_length(drive: Drive, data: bytes) -> None:
    await drive.put(KEY, [data])
    with pytest.raises(ShardCorruptError):
        await drive.verify(KEY)


async def test_verify_notices_a_sound_shard_under_the_wrong_key(drive: Drive) -> None:
    await drive.put(KEY, [a_shard(9)])
    await drive.put(CHECKPOINT, [a_shard(11, "s")])
    for key in (KEY, CHECKPOINT):
        with pytest.raises(ShardCorruptError, match="shard of stripe"):
            await drive.verify(key)


async def test_verify_does_not_call_a_newer_format_damaged(drive: Drive) -> None:
    await drive.put(KEY, [of_a_newer_format(a_shard())])
    with pytest.raises(FormatTooNewError):
        await drive.verify(KEY)


async def test_replace_exchanges_a_shard_and_makes_a_missing_one(place: Place, drive: Drive) -> None:
    await drive.put(KEY, [b"damaged, and longer"])
    await drive.put(KEY, [b"so", b"und"], replace=True)
    await drive.put(CHECKPOINT, [b"new"], replace=True)
    await drive.sync()
    assert await drive.get(KEY) == b"sound"
    assert place.is_durable(KEY)
    assert place.is_durable(CHECKPOINT)


async def test_replace_of_an_epoch_that_was_not_prepared_means_the_drive_was_deleted(drive: Drive) -> None:
    with pytest.raises(DriveUnreachableError):
        await drive.put("s/00000077/00000000", [b"data"], replace=True)
    assert await drive.strays() == []


async def test_several_shards_are_read_at_once_and_what_is_wrong_with_one_says_so_in_its_place(
    place: Place, drive: Drive
) -> None:
    await drive.put(KEY, [b"0123456789"])
    await drive.put("s/00000002/0000000b", [b"abcdefghij"])
    missing, short = "s/00000002/0000000c", [(5, 100)]
    found = await drive.read_shards(
        [(KEY, [(0, 2), (8, 2)]), (missing, [(0, 1)]), ("s/00000002/0000000b", [(1, 3)]), (KEY, short), (KEY, [])]
    )
    assert [each for each in found if isinstance(each, list)] == [[b"01", b"89"], [b"bcd"], []]
    assert isinstance(found[1], ShardMissingError)
    assert (found[1].slot, found[1].key) == (drive.slot, missing)
    assert isinstance(found[3], ShardCorruptError)
    assert await drive.read_shards([]) == []
