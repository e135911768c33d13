"""Who has a node's drive: nobody loses it to somebody who only looks."""

from __future__ import annotations

import pytest
import trio

from ecfs.drive.local import LocalDrive
from ecfs.drive.node import NodeDrive
from ecfs.errors import DriveLockedError
from ecfs.rpc import drive_pb2 as pb
from ecfs.rpc.methods import DRIVE
from tests.node.conftest import made
from tests.nodes import ThreadNode


async def test_a_look_beside_an_exclusive_attach_does_not_end_it(
    node: ThreadNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ecfs status`, or the watch of a host that lost the pool, looks while somebody mounts."""
    await (await made(node.drive())).close()
    attach = LocalDrive.attach

    async def slowly(self: LocalDrive, *, exclusive: bool) -> None:
        await trio.sleep(0.5)
        await attach(self, exclusive=exclusive)

    monkeypatch.setattr(LocalDrive, "attach", slowly)
    owner, looker = node.drive(), node.drive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: owner.attach(exclusive=True))
        await trio.sleep(0.2)
        await looker.attach(exclusive=False)
    await owner.space()
    await looker.space()
    await owner.close()
    await looker.close()


async def test_who_only_looks_can_not_let_others_in(node: ThreadNode, drive: NodeDrive) -> None:
    looker, other = node.drive(), node.drive()
    await looker.attach(exclusive=False)
    for client in (b"", looker._client):
        request = pb.DetachRequest(caller=looker._by(looker._attachment), client=client)
        await looker._link.change(DRIVE["Detach"], request)
    with pytest.raises(DriveLockedError):
        await other.attach(exclusive=True)
    await drive.space()
    await looker.close()
    await other.close()


async def test_a_drive_that_was_let_go_is_free_at_once(node: ThreadNode, drive: NodeDrive) -> None:
    await drive._link.change(
        DRIVE["Detach"], pb.DetachRequest(caller=drive._by(drive._attachment), client=drive._client)
    )
    other = node.drive()
    await other.attach(exclusive=True)
    await other.close()
